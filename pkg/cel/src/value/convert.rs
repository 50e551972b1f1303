//! Conversions between types: `int('5')`, `string(1.5)`.

use std::sync::Arc;

use super::{Evaluated, Timestamp, Value, double_to_int, double_to_uint, general};
use crate::error::EvalError;
use crate::types::Type;

const SECOND: i64 = 1_000_000_000;

/// A value as another type.
pub(crate) fn convert<'a>(value: &Value<'a>, to: &Type) -> Evaluated<'a> {
    let overflow = |kind: &str| EvalError::new(format!("{kind} overflow"));
    let failed = || EvalError::conversion(value.type_of().runtime_name(), to.runtime_name());
    if value.type_of().runtime_name() == to.runtime_name() {
        return Ok(value.clone());
    }
    match (value, to) {
        (Value::Int(it), Type::Uint) => u64::try_from(*it).map(Value::Uint).map_err(|_| overflow("unsigned integer")),
        (Value::Int(it), Type::Double) => Ok(Value::Double(*it as f64)),
        (Value::Int(it), Type::String) => Ok(Value::string(it.to_string())),
        (Value::Int(it), Type::Timestamp) => {
            Timestamp::new(*it, 0).map(Value::Timestamp).ok_or_else(|| overflow("timestamp"))
        }
        (Value::Uint(it), Type::Int) => i64::try_from(*it).map(Value::Int).map_err(|_| overflow("integer")),
        (Value::Uint(it), Type::Double) => Ok(Value::Double(*it as f64)),
        (Value::Uint(it), Type::String) => Ok(Value::string(it.to_string())),
        (Value::Double(it), Type::Int) => double_to_int(*it).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Double(it), Type::Uint) => {
            double_to_uint(*it).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(it), Type::String) => Ok(Value::string(general(*it))),
        (Value::Bool(it), Type::String) => Ok(Value::string(it.to_string())),
        (Value::Null, Type::String) => Ok(Value::string("null")),
        (Value::String(it), _) => from_text(it, to).unwrap_or_else(|| Err(failed())),
        (Value::Bytes(it), Type::String) => match std::str::from_utf8(it) {
            Ok(text) => Ok(Value::string(text)),
            Err(_) => Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        (Value::Duration(it), Type::String) => Ok(Value::string(show_duration(*it))),
        (Value::Duration(it), Type::Int) => Ok(Value::Int(*it)),
        (Value::Timestamp(it), Type::String) => Ok(Value::string(it.show())),
        (Value::Timestamp(it), Type::Int) => Ok(Value::Int(it.seconds())),
        (Value::Type(it), Type::String) => Ok(Value::string(it.runtime_name())),
        (Value::Opaque(it), Type::String) => it.to_text().map(Value::string).ok_or_else(failed),
        _ => Err(failed()),
    }
}

fn from_text<'a>(text: &str, to: &Type) -> Option<Evaluated<'a>> {
    Some(Ok(match to {
        Type::Int => Value::Int(text.parse().ok()?),
        Type::Uint => Value::Uint(text.parse().ok().filter(|_| !text.starts_with('+'))?),
        Type::Double => Value::Double(parse_double(text)?),
        Type::Bool => Value::Bool(parse_bool(text)?),
        Type::Bytes => Value::Bytes(Arc::from(text.as_bytes())),
        Type::Duration => Value::Duration(parse_duration(text)?),
        Type::Timestamp => Value::Timestamp(Timestamp::parse(text)?),
        _ => return None,
    }))
}

fn parse_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    // Go refuses what is too large, and knows infinity only by its name.
    let named = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    (value.is_finite() || value.is_nan() || named).then_some(value)
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Seconds with their fraction, as upstream writes durations.
pub(super) fn show_duration(nanos: i64) -> String {
    let seconds = (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / SECOND as f64;
    format!("{seconds}s")
}

/// Reads what Go's `time.ParseDuration` reads: `1h30m`, `-1.5s`, `0`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (part, after) = duration_part(rest)?;
        total = total.checked_add(part).filter(|sum| *sum <= 1 << 63)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(value)) => Some(-value),
        (true, Err(_)) => Some(i64::MIN),
        (false, value) => value.ok(),
    }
}

/// The nanoseconds of a number with a unit, and what follows it.
fn duration_part(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // As many digits as matter to nanoseconds of an hour.
    let digits = &fraction[..fraction.len().min(18)];
    let part = digits.parse::<u64>().map_or(0.0, |n| n as f64 * (unit as f64 / 10_f64.powi(digits.len() as i32)));
    Some((whole.checked_mul(unit)?.checked_add(part as u64)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5ms", Some(500_000)),
            ("0", Some(0)),
            ("1", None),
            ("", None),
            ("1d", None),
            ("9223372036s", Some(9_223_372_036_000_000_000)),
            ("9223372037s", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(show_duration(5_400_500_000_000), "5400.5s");
    }
}
