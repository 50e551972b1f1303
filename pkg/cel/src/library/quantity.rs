//! Quantities.

use std::cmp::Ordering;

use kedge_meta::quantity::{ParseError, Quantity};

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
        [Value::String(text)] => {
            Ok(Value::Bool(!matches!(Quantity::parse(text), Err(ParseError::Format | ParseError::Suffix))))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("quantity_sign", "sign(kubernetes.Quantity) -> int", |_, args| {
        let (amount, _) = amount(args, 0)?;
        Ok(Value::Int(if amount.is_zero() {
            0
        } else if amount.is_negative() {
            -1
        } else {
            1
        }))
    });
    functions.declare(
        "quantity_is_greater_than",
        "kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) -> bool",
        |_, args| compare(args).map(|order| Value::Bool(order == Ordering::Greater)),
    );
    functions.declare(
        "quantity_is_less_than",
        "kubernetes.Quantity.isLessThan(kubernetes.Quantity) -> bool",
        |_, args| compare(args).map(|order| Value::Bool(order == Ordering::Less)),
    );
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
    let int = written_int(text);
    match Quantity::parse(text) {
        Ok(amount) => Ok(Value::opaque(Opaque::Quantity { amount, int })),
        // What is too large is as large as can be.
        Err(ParseError::Range) => {
            let most = if text.starts_with('-') { -i64::MAX } else { i64::MAX };
            Ok(Value::opaque(Opaque::Quantity { amount: Quantity::from_value(most), int: None }))
        }
        Err(error) => Err(EvalError::new(error.to_string())),
    }
}

/// The whole number that a text is, if upstream keeps it as one: not if it is written with a fraction that has no power of ten to make up for
/// it, and not if it is too long.
fn written_int(text: &str) -> Option<i64> {
    const MOST_DIGITS: i32 = 18;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('0');
    let digits = (whole.len() + fraction.len()) as i32;
    let value: i64 = if digits == 0 { 0 } else { [whole, fraction].concat().parse().ok()? };
    let (power, shift) = match suffix {
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        other => (other.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?, 0),
    };
    let kept = if shift > 0 { fraction.is_empty() && 14 - digits - shift * 3 / 10 >= 0 } else { digits <= MOST_DIGITS };
    let scale = u32::try_from(power - fraction.len() as i32).ok().filter(|_| kept)?;
    let value = value.checked_mul(10_i64.checked_pow(scale)?)?.checked_mul(1_i64.checked_shl(shift as u32)?)?;
    Some(if text.starts_with('-') { -value } else { value })
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
