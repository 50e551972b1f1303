//! Lists of the extensions.

use std::cmp::Ordering;

use crate::context::Context;
use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, List, Value};

use super::elements;

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("list_slice", "list<T>.slice(int, int) -> list<T>", |context, args| match args {
        [Value::List(list), Value::Int(start), Value::Int(end)] => slice(context, list, *start, *end),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("list_flatten", "list<list<T>>.flatten() -> list<T>", FLATTEN);
    functions.declare("list_flatten_int", "list<dyn>.flatten(int) -> list<dyn>", FLATTEN);
    functions.unguarded("flatten");
    const SORT: &[(&str, &str)] = &[
        ("list_int_sort", "list<int>.sort() -> list<int>"),
        ("list_uint_sort", "list<uint>.sort() -> list<uint>"),
        ("list_double_sort", "list<double>.sort() -> list<double>"),
        ("list_bool_sort", "list<bool>.sort() -> list<bool>"),
        ("list_google.protobuf.Duration_sort", "list<duration>.sort() -> list<duration>"),
        ("list_google.protobuf.Timestamp_sort", "list<timestamp>.sort() -> list<timestamp>"),
        ("list_string_sort", "list<string>.sort() -> list<string>"),
        ("list_bytes_sort", "list<bytes>.sort() -> list<bytes>"),
    ];
    functions.declare_common(SORT, |context, args| match args {
        [Value::List(list)] => sort(context, list, list),
        [other] => Err(super::operators::lacks(other, "sort")),
        _ => Err(EvalError::no_such_overload()),
    });
    const SORT_BY: &[(&str, &str)] = &[
        ("list_int_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<int>) -> list<T>"),
        ("list_uint_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<uint>) -> list<T>"),
        ("list_double_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<double>) -> list<T>"),
        ("list_bool_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<bool>) -> list<T>"),
        (
            "list_google.protobuf.Duration_sortByAssociatedKeys",
            "list<T>.@sortByAssociatedKeys(list<duration>) -> list<T>",
        ),
        (
            "list_google.protobuf.Timestamp_sortByAssociatedKeys",
            "list<T>.@sortByAssociatedKeys(list<timestamp>) -> list<T>",
        ),
        ("list_string_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<string>) -> list<T>"),
        ("list_bytes_sortByAssociatedKeys", "list<T>.@sortByAssociatedKeys(list<bytes>) -> list<T>"),
    ];
    functions.declare_common(SORT_BY, |context, args| match args {
        [Value::List(list), Value::List(keys)] => sort(context, list, keys),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("lists_range", "lists.range(int) -> list<int>", |context, args| match args {
        [Value::Int(count)] => {
            let count = usize::try_from(*count).unwrap_or(0);
            context.step(count)?;
            Ok(Value::list((0..count).map(|n| Value::Int(n as i64)).collect()))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("list_reverse", "list<T>.reverse() -> list<T>", |context, args| match args {
        [Value::List(list)] => {
            context.step(list.len())?;
            let mut values = elements(list)?;
            values.reverse();
            Ok(Value::list(values))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("list_distinct", "list<T>.distinct() -> list<T>", DISTINCT);
}

fn slice<'a>(context: &mut Context<'_>, list: &List<'a>, start: i64, end: i64) -> Evaluated<'a> {
    let wrong = |why: String| Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return wrong("negative indexes not supported".to_owned());
    };
    if from > to {
        return wrong("start index must be less than or equal to end index".to_owned());
    }
    if to > list.len() {
        return wrong(format!("list is length {}", list.len()));
    }
    context.step(to - from)?;
    (from..to).filter_map(|n| list.get(n)).collect::<Result<Vec<_>, _>>().map(Value::list)
}

const FLATTEN: Implementation = |context, args| {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        [other] => return Err(EvalError::new(format!("no such overload: {}.flatten()", other.type_of()))),
        [list, depth] => {
            return Err(EvalError::new(format!("no such overload: {}.flatten({})", list.type_of(), depth.type_of())));
        }
        _ => return Err(EvalError::no_such_overload()),
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut values = Vec::new();
    // What is yet to be looked at, the next one last: no recursion, however deep lists are nested.
    let mut open: Vec<(Value<'_>, i64)> = elements(list)?.into_iter().rev().map(|it| (it, depth)).collect();
    while let Some((value, depth)) = open.pop() {
        context.step(1)?;
        match value {
            Value::List(inner) if depth > 0 => {
                open.extend(elements(&inner)?.into_iter().rev().map(|it| (it, depth - 1)))
            }
            value => values.push(value),
        }
    }
    Ok(Value::list(values))
};

fn sort<'a>(context: &mut Context<'_>, list: &List<'a>, keys: &List<'a>) -> Evaluated<'a> {
    if list.len() != keys.len() {
        let (list, keys) = (list.len(), keys.len());
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {list} and {keys} elements respectively"
        )));
    }
    context.step(list.len().saturating_mul(16))?;
    let keys = elements(keys)?;
    if keys.first().is_some_and(|first| !first.is_comparable()) {
        return Err(EvalError::new("list elements must be comparable"));
    }
    if keys.windows(2).any(|pair| pair[0].type_of() != pair[1].type_of()) {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let mut pairs: Vec<_> = keys.into_iter().zip(elements(list)?).collect();
    pairs.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

const DISTINCT: Implementation = |context, args| {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    let mut values: Vec<Value<'_>> = Vec::new();
    for element in list.iter() {
        let element = element?;
        context.step(values.len() + 1)?;
        if !values.iter().any(|it| element.equals(it) == Ok(true)) {
            values.push(element);
        }
    }
    Ok(Value::list(values))
};
