//! Quantities.

use std::cmp::Ordering;

use kedge_meta::quantity::Quantity;

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Opaque, Value};

const NAME: &str = "kubernetes.Quantity";

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("string_to_quantity", "quantity(string) -> kubernetes.Quantity", |_, args| match args {
        [Value::String(text)] => read(text),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("is_quantity_string", "isQuantity(string) -> bool", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("quantity_sign", "sign(kubernetes.Quantity) -> int", |_, args| {
        let (amount, _) = amount(args, 0)?;
        Ok(Value::Int(if amount.is_zero() { 0 } else if amount.is_negative() { -1 } else { 1 }))
    });
    functions.declare("quantity_is_greater_than", "kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) -> bool", |_, args| {
        compare(args).map(|order| Value::Bool(order == Ordering::Greater))
    });
    functions.declare("quantity_is_less_than", "kubernetes.Quantity.isLessThan(kubernetes.Quantity) -> bool", |_, args| {
        compare(args).map(|order| Value::Bool(order == Ordering::Less))
    });
    functions.declare("quantity_compare_to", "kubernetes.Quantity.compareTo(kubernetes.Quantity) -> int", |_, args| {
        compare(args).map(|order| Value::Int(order as i64))
    });
    functions.declare("quantity_get_float", "kubernetes.Quantity.asApproximateFloat() -> double", |_, args| {
        amount(args, 0).map(|(amount, _)| Value::Double(amount.approximate()))
    });
    functions.declare("quantity_get_int", "kubernetes.Quantity.asInteger() -> int", |_, args| {
        let (_, int) = amount(args, 0)?;
        int.map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer"))
    });
    functions.declare("quantity_is_integer", "kubernetes.Quantity.isInteger() -> bool", |_, args| {
        amount(args, 0).map(|(_, int)| Value::Bool(int.is_some()))
    });
    functions.declare("quantity_add", "kubernetes.Quantity.add(kubernetes.Quantity) -> kubernetes.Quantity", ADD);
    functions.declare("quantity_add_int", "kubernetes.Quantity.add(int) -> kubernetes.Quantity", ADD);
    functions.declare("quantity_sub", "kubernetes.Quantity.sub(kubernetes.Quantity) -> kubernetes.Quantity", SUB);
    functions.declare("quantity_sub_int", "kubernetes.Quantity.sub(int) -> kubernetes.Quantity", SUB);
}

fn read<'a>(text: &str) -> crate::value::Evaluated<'a> {
    let amount = Quantity::parse(text).map_err(|error| EvalError::new(error.to_string()))?;
    // What is written with a fraction that is a whole number after all counts as a fraction, as upstream keeps it.
    let int = if is_written_whole(text) { whole(&amount) } else { None };
    Ok(Value::opaque(Opaque::Quantity { amount, int }))
}

fn is_written_whole(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let fraction = number.split_once('.').is_some_and(|(_, fraction)| fraction.bytes().any(|b| b != b'0' && b.is_ascii_digit()));
    !fraction && !text.ends_with(['n', 'u', 'm'])
}

fn whole(amount: &Quantity) -> Option<i64> {
    let value = amount.value();
    (Quantity::from_value(value) == *amount).then_some(value)
}

fn amount(args: &[Value<'_>], n: usize) -> Result<(Quantity, Option<i64>), EvalError> {
    match args.get(n) {
        Some(Value::Opaque(it)) => match &**it {
            Opaque::Quantity { amount, int } => Ok((*amount, *int)),
            _ => Err(EvalError::no_such_overload()),
        },
        Some(Value::Int(it)) if n > 0 => Ok((Quantity::from_value(*it), Some(*it))),
        Some(other) => Err(EvalError::new(format!("no such overload: {NAME} of {}", other.type_name()))),
        None => Err(EvalError::no_such_overload()),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(amount(args, 0)?.0.cmp(&amount(args, 1)?.0))
}

const ADD: Implementation = |_, args| {
    let ((a, x), (b, y)) = (amount(args, 0)?, amount(args, 1)?);
    let int = x.zip(y).and_then(|(x, y)| x.checked_add(y));
    Ok(Value::opaque(Opaque::Quantity { amount: a.add(&b), int }))
};

const SUB: Implementation = |_, args| {
    let ((a, x), (b, y)) = (amount(args, 0)?, amount(args, 1)?);
    let int = x.zip(y).and_then(|(x, y)| x.checked_sub(y));
    Ok(Value::opaque(Opaque::Quantity { amount: a.sub(&b), int }))
};
