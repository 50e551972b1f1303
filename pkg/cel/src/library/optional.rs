//! Optional values.

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Value};

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("optional_of", "optional.of(V) -> optional<V>", |_, args| match args {
        [value] => Ok(Value::some(value.clone())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("optional_ofNonZeroValue", "optional.ofNonZeroValue(V) -> optional<V>", |_, args| match args {
        [value] if value.is_zero() => Ok(Value::Optional(None)),
        [value] => Ok(Value::some(value.clone())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("optional_none", "optional.none() -> optional<V>", |_, _| Ok(Value::Optional(None)));
    functions.declare("optional_value", "optional<V>.value() -> V", |_, args| match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("optional_hasValue", "optional<V>.hasValue() -> bool", |_, args| match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare_builtin("optional_or_optional", "optional<V>.or(optional<V>) -> optional<V>");
    functions.declare_builtin("optional_orValue_value", "optional<V>.orValue(V) -> V");
    functions.declare_builtin("select_optional_field", "_?._(dyn, string) -> optional<V>");
    functions.declare_builtin("list_optindex_optional_int", "_[?_](list<V>, int) -> optional<V>");
    functions.declare_builtin("optional_list_optindex_optional_int", "_[?_](optional<list<V>>, int) -> optional<V>");
    functions.declare_builtin("map_optindex_optional_value", "_[?_](map<K, V>, K) -> optional<V>");
    functions.declare_builtin("optional_map_optindex_optional_value", "_[?_](optional<map<K, V>>, K) -> optional<V>");
    functions.declare_builtin("optional_list_index_int", "_[_](optional<list<V>>, int) -> optional<V>");
    functions.declare_builtin("optional_map_index_value", "_[_](optional<map<K, V>>, K) -> optional<V>");
    functions
        .declare("list_last", "list<V>.last() -> optional<V>", |_, args| end_of(args, |length| length.checked_sub(1)));
    functions.declare("list_first", "list<V>.first() -> optional<V>", |_, args| end_of(args, |_| Some(0)));
    functions.declare("optional_unwrap", "optional.unwrap(list<optional<V>>) -> list<V>", UNWRAP);
    functions.declare("optional_unwrapOpt", "list<optional<V>>.unwrapOpt() -> list<V>", UNWRAP);
}

fn end_of<'a>(args: &[Value<'a>], place: fn(usize) -> Option<usize>) -> Evaluated<'a> {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    match place(list.len()).and_then(|n| list.get(n)) {
        Some(value) => Ok(Value::some(value?)),
        None => Ok(Value::Optional(None)),
    }
}

const UNWRAP: Implementation = |context, args| {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    context.step(list.len())?;
    let mut values = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(value) => values.extend(value.map(|it| (*it).clone())),
            other => return Err(EvalError::new(format!("value {} is not optional", crate::value::plain(&other)))),
        }
    }
    Ok(Value::list(values))
};
