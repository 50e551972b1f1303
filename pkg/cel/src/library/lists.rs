//! Kubernetes' functions of lists.

use std::cmp::Ordering;

use crate::context::Context;
use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Value};

use super::operators::plus;

/// Declares a function for lists of each type that has an order.
macro_rules! of_comparable {
    ($functions:expr, $name:literal, $implementation:expr, [$($of:literal),*]) => {
        $($functions.declare(
            concat!("list_", $of, "_", $name, "_", $of),
            concat!("list<", $of, ">.", $name, "() -> ", $of),
            $implementation,
        );)*
    };
}

pub(super) fn declare(functions: &mut Functions) {
    const SORTED: &[(&str, &str)] = &[
        ("list_int_is_sorted_bool", "list<int>.isSorted() -> bool"),
        ("list_uint_is_sorted_bool", "list<uint>.isSorted() -> bool"),
        ("list_double_is_sorted_bool", "list<double>.isSorted() -> bool"),
        ("list_bool_is_sorted_bool", "list<bool>.isSorted() -> bool"),
        ("list_duration_is_sorted_bool", "list<duration>.isSorted() -> bool"),
        ("list_timestamp_is_sorted_bool", "list<timestamp>.isSorted() -> bool"),
        ("list_string_is_sorted_bool", "list<string>.isSorted() -> bool"),
        ("list_bytes_is_sorted_bool", "list<bytes>.isSorted() -> bool"),
    ];
    for (id, signature) in SORTED {
        functions.declare(id, signature, IS_SORTED);
    }
    functions.declare("list_int_sum_int", "list<int>.sum() -> int", |context, args| sum(context, args, Value::Int(0)));
    functions
        .declare("list_uint_sum_uint", "list<uint>.sum() -> uint", |context, args| sum(context, args, Value::Uint(0)));
    functions.declare("list_double_sum_double", "list<double>.sum() -> double", |context, args| {
        sum(context, args, Value::Double(0.0))
    });
    functions.declare("list_duration_sum_duration", "list<duration>.sum() -> duration", |context, args| {
        sum(context, args, Value::Duration(0))
    });
    of_comparable!(
        functions,
        "max",
        |context, args| extreme(context, args, "max", Ordering::Less),
        ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"]
    );
    of_comparable!(
        functions,
        "min",
        |context, args| extreme(context, args, "min", Ordering::Greater),
        ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"]
    );
    functions.declare("list_a_index_of_int", "list<A>.indexOf(A) -> int", |context, args| index(context, args, false));
    functions.declare("list_a_last_index_of_int", "list<A>.lastIndexOf(A) -> int", |context, args| {
        index(context, args, true)
    });
}

const IS_SORTED: Implementation = |context, args| {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    context.step(list.len())?;
    let mut before: Option<Value<'_>> = None;
    for element in list.iter() {
        let element = comparable(element?)?;
        // What has no order is not in the wrong one.
        if before.is_some_and(|before| before.compare(&element) == Ok(Ordering::Greater)) {
            return Ok(Value::Bool(false));
        }
        before = Some(element);
    }
    Ok(Value::Bool(true))
};

fn comparable(value: Value<'_>) -> Result<Value<'_>, EvalError> {
    if value.is_comparable() { Ok(value) } else { Err(EvalError::no_such_overload()) }
}

fn sum<'a>(context: &mut Context<'_>, args: &[Value<'a>], zero: Value<'a>) -> Evaluated<'a> {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    context.step(list.len())?;
    let mut total = zero;
    for element in list.iter() {
        total = plus(context, &mut [total, element?])?;
    }
    Ok(total)
}

/// The first of the largest or smallest: another one replaces it when it is on that side of it.
fn extreme<'a>(context: &mut Context<'_>, args: &[Value<'a>], name: &str, replaced_when: Ordering) -> Evaluated<'a> {
    let [Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    context.step(list.len())?;
    let mut best: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = comparable(element?)?;
        if best.as_ref().is_none_or(|best| best.compare(&element) == Ok(replaced_when)) {
            best = Some(element);
        }
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn index<'a>(context: &mut Context<'_>, args: &[Value<'a>], last: bool) -> Evaluated<'a> {
    let [Value::List(list), wanted] = args else { return Err(EvalError::no_such_overload()) };
    context.step(list.len())?;
    let is = |n: &usize| list.get(*n).is_some_and(|it| it.is_ok_and(|it| it.equals(wanted) == Ok(true)));
    let found = if last { (0..list.len()).rev().find(is) } else { (0..list.len()).find(is) };
    Ok(Value::Int(found.map_or(-1, |n| n as i64)))
}
