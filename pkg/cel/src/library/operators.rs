//! Operators of the standard library.

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Value};

/// Kinds that numbers are compared across, with the names that overloads have for them.
macro_rules! comparison {
    ($functions:expr, $operator:literal, $name:literal, $test:expr) => {
        $functions.declare_common(
            &[
                (concat!($name, "_bool"), concat!($operator, "(bool, bool) -> bool")),
                (concat!($name, "_int64"), concat!($operator, "(int, int) -> bool")),
                (concat!($name, "_int64_double"), concat!($operator, "(int, double) -> bool")),
                (concat!($name, "_int64_uint64"), concat!($operator, "(int, uint) -> bool")),
                (concat!($name, "_uint64"), concat!($operator, "(uint, uint) -> bool")),
                (concat!($name, "_uint64_double"), concat!($operator, "(uint, double) -> bool")),
                (concat!($name, "_uint64_int64"), concat!($operator, "(uint, int) -> bool")),
                (concat!($name, "_double"), concat!($operator, "(double, double) -> bool")),
                (concat!($name, "_double_int64"), concat!($operator, "(double, int) -> bool")),
                (concat!($name, "_double_uint64"), concat!($operator, "(double, uint) -> bool")),
                (concat!($name, "_string"), concat!($operator, "(string, string) -> bool")),
                (concat!($name, "_bytes"), concat!($operator, "(bytes, bytes) -> bool")),
                (concat!($name, "_timestamp"), concat!($operator, "(timestamp, timestamp) -> bool")),
                (concat!($name, "_duration"), concat!($operator, "(duration, duration) -> bool")),
            ],
            |context, args| {
                let test: fn(Ordering) -> bool = $test;
                compare(context, args, $operator).map(|order| Value::Bool(test(order)))
            },
        )
    };
}

fn compare(
    context: &mut crate::context::Context<'_>,
    args: &[Value<'_>],
    operator: &str,
) -> Result<Ordering, EvalError> {
    let [a, b] = args else { return Err(EvalError::no_such_overload()) };
    if !a.is_comparable() {
        return Err(lacks(a, operator));
    }
    if let (Value::String(a), Value::String(_)) = (a, b) {
        context.step(a.len() / 64)?;
    }
    a.compare(b)
}

/// What is said of a value that a function has no operation for.
pub(super) fn lacks(value: &Value<'_>, function: &str) -> EvalError {
    match value {
        Value::String(_) | Value::Duration(_) | Value::Timestamp(_) => EvalError::no_such_overload(),
        _ => EvalError::new(format!("no such overload: {function}")),
    }
}

pub(super) fn declare(functions: &mut Functions) {
    functions.declare_builtin("conditional", "_?_:_(bool, A, A) -> A");
    functions.declare_builtin("logical_and", "_&&_(bool, bool) -> bool");
    functions.declare_builtin("logical_or", "_||_(bool, bool) -> bool");
    functions.declare_builtin("not_strictly_false", "@not_strictly_false(bool) -> bool");
    functions.declare_builtin("equals", "_==_(A, A) -> bool");
    functions.declare_builtin("not_equals", "_!=_(A, A) -> bool");
    functions.declare_builtin("index_list", "_[_](list<A>, int) -> A");
    functions.declare_builtin("index_map", "_[_](map<A, B>, A) -> B");
    functions.declare_common(&[("logical_not", "!_(bool) -> bool")], |_, args| match args {
        [Value::Bool(it)] => Ok(Value::Bool(!*it)),
        _ => Err(EvalError::no_such_overload()),
    });
    arithmetic(functions);
    comparison!(functions, "_<_", "less", |order| order == Ordering::Less);
    comparison!(functions, "_<=_", "less_equals", |order| order != Ordering::Greater);
    comparison!(functions, "_>_", "greater", |order| order == Ordering::Greater);
    comparison!(functions, "_>=_", "greater_equals", |order| order != Ordering::Less);
    let contains: &[_] = &[("in_list", "@in(A, list<A>) -> bool"), ("in_map", "@in(A, map<A, B>) -> bool")];
    functions.declare_common(contains, CONTAINS);
}

const CONTAINS: Implementation = |context, args| match args {
    [value, Value::List(list)] => {
        context.step(list.len())?;
        list.contains(value).map(Value::Bool)
    }
    [value, Value::Map(map)] => match map.find(value) {
        Some(found) => found.map(|_| Value::Bool(true)),
        None => Ok(Value::Bool(false)),
    },
    _ => Err(EvalError::no_such_overload()),
};

fn arithmetic(functions: &mut Functions) {
    let add: &[_] = &[
        ("add_bytes", "_+_(bytes, bytes) -> bytes"),
        ("add_double", "_+_(double, double) -> double"),
        ("add_duration_duration", "_+_(duration, duration) -> duration"),
        ("add_duration_timestamp", "_+_(duration, timestamp) -> timestamp"),
        ("add_timestamp_duration", "_+_(timestamp, duration) -> timestamp"),
        ("add_int64", "_+_(int, int) -> int"),
        ("add_list", "_+_(list<A>, list<A>) -> list<A>"),
        ("add_string", "_+_(string, string) -> string"),
        ("add_uint64", "_+_(uint, uint) -> uint"),
    ];
    functions.declare_common(add, plus);
    let divide: &[_] = &[
        ("divide_double", "_/_(double, double) -> double"),
        ("divide_int64", "_/_(int, int) -> int"),
        ("divide_uint64", "_/_(uint, uint) -> uint"),
    ];
    functions.declare_common(divide, |_, args| numbers(args, "_/_"));
    let modulo: &[_] = &[("modulo_int64", "_%_(int, int) -> int"), ("modulo_uint64", "_%_(uint, uint) -> uint")];
    functions.declare_common(modulo, |_, args| numbers(args, "_%_"));
    let multiply: &[_] = &[
        ("multiply_double", "_*_(double, double) -> double"),
        ("multiply_int64", "_*_(int, int) -> int"),
        ("multiply_uint64", "_*_(uint, uint) -> uint"),
    ];
    functions.declare_common(multiply, |_, args| numbers(args, "_*_"));
    let negate: &[_] = &[("negate_double", "-_(double) -> double"), ("negate_int64", "-_(int) -> int")];
    functions.declare_common(negate, |_, args| match args {
        [Value::Int(it)] => it.checked_neg().map(Value::Int).ok_or_else(|| overflow("integer")),
        [Value::Double(it)] => Ok(Value::Double(-*it)),
        [Value::Duration(it)] => it.checked_neg().map(Value::Duration).ok_or_else(|| overflow("integer")),
        [Value::Bool(_)] => Err(EvalError::no_such_overload()),
        [other] => Err(lacks(other, "-_")),
        _ => Err(EvalError::no_such_overload()),
    });
    let subtract: &[_] = &[
        ("subtract_double", "_-_(double, double) -> double"),
        ("subtract_duration_duration", "_-_(duration, duration) -> duration"),
        ("subtract_int64", "_-_(int, int) -> int"),
        ("subtract_timestamp_duration", "_-_(timestamp, duration) -> timestamp"),
        ("subtract_timestamp_timestamp", "_-_(timestamp, timestamp) -> duration"),
        ("subtract_uint64", "_-_(uint, uint) -> uint"),
    ];
    functions.declare_common(subtract, |_, args| minus(args));
}

fn overflow(kind: &str) -> EvalError {
    EvalError::new(format!("{kind} overflow"))
}

/// Adds two values: numbers, texts, lists, times.
pub(super) fn plus<'a>(context: &mut crate::context::Context<'_>, args: &mut [Value<'a>]) -> Evaluated<'a> {
    let [left, right] = args else { return Err(EvalError::no_such_overload()) };
    Ok(match (&*left, &*right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(|| overflow("integer"))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(|| overflow("unsigned integer"))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(*a + *b),
        (Value::String(a), Value::String(b)) => {
            context.text(a.len() + b.len())?;
            Value::string([&**a, &**b].concat())
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            context.text(a.len() + b.len())?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            Value::Timestamp(at.add(*by).ok_or_else(|| overflow("timestamp"))?)
        }
        (Value::List(_), Value::List(more)) => {
            let more = more.clone();
            let Value::List(list) = std::mem::replace(left, Value::Null) else {
                return Err(EvalError::no_such_overload());
            };
            // What is shared must be copied; what is not grows where it is.
            let shared = !matches!(&list, crate::value::List::Owned(it) if std::sync::Arc::strong_count(it) == 1);
            // What is kept counts twice: it takes memory as well.
            context.step(2 * (more.len() + if shared { list.len() } else { 0 }))?;
            return list.concat(&more);
        }
        (
            Value::Bool(_)
            | Value::Null
            | Value::Map(_)
            | Value::Type(_)
            | Value::Optional(_)
            | Value::Struct(_)
            | Value::Opaque(_),
            _,
        ) => {
            return Err(lacks(left, "_+_"));
        }
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn minus<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_sub(*b).map(Value::Duration).ok_or_else(|| overflow("integer"))
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            a.since(b).map(Value::Duration).ok_or_else(|| overflow("integer"))
        }
        [Value::Timestamp(a), Value::Duration(b)] => {
            let by = b.checked_neg().ok_or_else(|| overflow("integer"))?;
            a.add(by).map(Value::Timestamp).ok_or_else(|| overflow("timestamp"))
        }
        [Value::Duration(_) | Value::Timestamp(_), _] => Err(EvalError::no_such_overload()),
        _ => numbers(args, "_-_"),
    }
}

/// What only numbers have.
fn numbers<'a>(args: &[Value<'a>], operator: &str) -> Evaluated<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(*a, *b, operator).map(Value::Int),
        [Value::Uint(a), Value::Uint(b)] => uint(*a, *b, operator).map(Value::Uint),
        [Value::Double(a), Value::Double(b)] => match operator {
            "_*_" => Ok(Value::Double(a * b)),
            "_/_" => Ok(Value::Double(a / b)),
            "_-_" => Ok(Value::Double(a - b)),
            _ => Err(lacks(&args[0], operator)),
        },
        [Value::Double(_), _] if operator == "_%_" => Err(lacks(&args[0], operator)),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(EvalError::no_such_overload()),
        [other, _] => Err(lacks(other, operator)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn int(a: i64, b: i64, operator: &str) -> Result<i64, EvalError> {
    let result = match operator {
        "_*_" => a.checked_mul(b),
        "_-_" => a.checked_sub(b),
        "_/_" if b == 0 => return Err(EvalError::new("division by zero")),
        "_/_" => a.checked_div(b),
        _ if b == 0 => return Err(EvalError::new("modulus by zero")),
        _ => a.checked_rem(b),
    };
    result.ok_or_else(|| overflow("integer"))
}

fn uint(a: u64, b: u64, operator: &str) -> Result<u64, EvalError> {
    let result = match operator {
        "_*_" => a.checked_mul(b),
        "_-_" => a.checked_sub(b),
        "_/_" => return a.checked_div(b).ok_or_else(|| EvalError::new("division by zero")),
        _ => return a.checked_rem(b).ok_or_else(|| EvalError::new("modulus by zero")),
    };
    result.ok_or_else(|| overflow("unsigned integer"))
}
