//! Texts, sizes and times of the standard library.

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::{Evaluated, Value, local};

use super::operators::lacks;

const NANOS: i64 = 1_000_000_000;

const CONTAINS: Implementation = |context, args| match args {
    [Value::String(text), Value::String(part)] => {
        context.step((text.len() + part.len()) / 64)?;
        Ok(Value::Bool(text.contains(&**part)))
    }
    _ => Err(EvalError::no_such_overload()),
};

const MATCHES: Implementation = |context, args| match args {
    [Value::String(text), Value::String(pattern)] => {
        let pattern = context.pattern(pattern)?;
        Ok(Value::Bool(pattern.is_match(text)))
    }
    [Value::String(_), _] => Err(EvalError::no_such_overload()),
    [_, _] if context.is_prepared() => Err(EvalError::no_such_overload()),
    [other, _] => Err(lacks(other, "matches")),
    _ => Err(EvalError::no_such_overload()),
};

const SIZE: Implementation = |_, args| match args {
    [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
        Ok(Value::Int(value.size() as i64))
    }
    [other] => Err(lacks(other, "size")),
    _ => Err(EvalError::no_such_overload()),
};

pub(super) fn declare(functions: &mut Functions) {
    let size: &[_] = &[
        ("size_bytes", "size(bytes) -> int"),
        ("bytes_size", "bytes.size() -> int"),
        ("size_list", "size(list<A>) -> int"),
        ("list_size", "list<A>.size() -> int"),
        ("size_map", "size(map<A, B>) -> int"),
        ("map_size", "map<A, B>.size() -> int"),
        ("size_string", "size(string) -> int"),
        ("string_size", "string.size() -> int"),
    ];
    functions.declare_common(size, SIZE);
    functions.declare("contains_string", "string.contains(string) -> bool", CONTAINS);
    functions.declare("ends_with_string", "string.endsWith(string) -> bool", |_, args| match args {
        [Value::String(text), Value::String(end)] => Ok(Value::Bool(text.ends_with(&**end))),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("starts_with_string", "string.startsWith(string) -> bool", |_, args| match args {
        [Value::String(text), Value::String(start)] => Ok(Value::Bool(text.starts_with(&**start))),
        _ => Err(EvalError::no_such_overload()),
    });
    for name in ["contains", "endsWith", "startsWith"] {
        functions.unguarded(name);
    }
    let matches: &[_] =
        &[("matches", "matches(string, string) -> bool"), ("matches_string", "string.matches(string) -> bool")];
    functions.declare_common(matches, MATCHES);
    times(functions);
}

/// A part of a timestamp, in UTC or in the zone of the second argument.
fn part<'a>(args: &[Value<'a>], part: fn(&crate::value::Local) -> i64) -> Evaluated<'a> {
    let (time, zone) = match args {
        [Value::Timestamp(time)] => (time, "UTC"),
        [Value::Timestamp(time), Value::String(zone)] => (time, &**zone),
        _ => return Err(EvalError::no_such_overload()),
    };
    let at = local(time, zone).map_err(EvalError::new)?;
    Ok(Value::Int(part(&at)))
}

fn times(functions: &mut Functions) {
    const PARTS: &[(&str, &str, &str, &str, Implementation)] = &[
        (
            "timestamp_to_year",
            "timestamp.getFullYear() -> int",
            "timestamp_to_year_with_tz",
            "timestamp.getFullYear(string) -> int",
            |_, args| part(args, |at| at.year),
        ),
        (
            "timestamp_to_month",
            "timestamp.getMonth() -> int",
            "timestamp_to_month_with_tz",
            "timestamp.getMonth(string) -> int",
            |_, args| part(args, |at| at.month - 1),
        ),
        (
            "timestamp_to_day_of_year",
            "timestamp.getDayOfYear() -> int",
            "timestamp_to_day_of_year_with_tz",
            "timestamp.getDayOfYear(string) -> int",
            |_, args| part(args, |at| at.day_of_year),
        ),
        (
            "timestamp_to_day_of_month",
            "timestamp.getDayOfMonth() -> int",
            "timestamp_to_day_of_month_with_tz",
            "timestamp.getDayOfMonth(string) -> int",
            |_, args| part(args, |at| at.day - 1),
        ),
        (
            "timestamp_to_day_of_month_1_based",
            "timestamp.getDate() -> int",
            "timestamp_to_day_of_month_1_based_with_tz",
            "timestamp.getDate(string) -> int",
            |_, args| part(args, |at| at.day),
        ),
        (
            "timestamp_to_day_of_week",
            "timestamp.getDayOfWeek() -> int",
            "timestamp_to_day_of_week_with_tz",
            "timestamp.getDayOfWeek(string) -> int",
            |_, args| part(args, |at| at.day_of_week),
        ),
        (
            "timestamp_to_hours",
            "timestamp.getHours() -> int",
            "timestamp_to_hours_with_tz",
            "timestamp.getHours(string) -> int",
            |_, args| part(args, |at| at.hour),
        ),
        (
            "timestamp_to_minutes",
            "timestamp.getMinutes() -> int",
            "timestamp_to_minutes_with_tz",
            "timestamp.getMinutes(string) -> int",
            |_, args| part(args, |at| at.minute),
        ),
        (
            "timestamp_to_seconds",
            "timestamp.getSeconds() -> int",
            "timestamp_to_seconds_tz",
            "timestamp.getSeconds(string) -> int",
            |_, args| part(args, |at| at.second),
        ),
        (
            "timestamp_to_milliseconds",
            "timestamp.getMilliseconds() -> int",
            "timestamp_to_milliseconds_with_tz",
            "timestamp.getMilliseconds(string) -> int",
            |_, args| milliseconds(args),
        ),
    ];
    for (id, signature, zoned_id, zoned, implementation) in PARTS {
        functions.declare(id, signature, *implementation);
        functions.declare(zoned_id, zoned, *implementation);
    }
    functions.declare("duration_to_hours", "duration.getHours() -> int", |_, args| of_duration(args, 3600 * NANOS));
    functions.declare("duration_to_minutes", "duration.getMinutes() -> int", |_, args| of_duration(args, 60 * NANOS));
    functions.declare("duration_to_seconds", "duration.getSeconds() -> int", |_, args| of_duration(args, NANOS));
    functions.declare("duration_to_milliseconds", "duration.getMilliseconds() -> int", |_, args| {
        of_duration(args, NANOS / 1000)
    });
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    // The zone does not matter, but it must be one.
    part(args, |_| 0)?;
    match args.first() {
        Some(Value::Timestamp(time)) => Ok(Value::Int(i64::from(time.subsec_nanos()) / 1_000_000)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn of_duration<'a>(args: &[Value<'a>], unit: i64) -> Evaluated<'a> {
    match args {
        [Value::Duration(it)] => Ok(Value::Int(it / unit)),
        _ => Err(EvalError::no_such_overload()),
    }
}
