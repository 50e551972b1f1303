//! JSON as values, with a schema or without, and values as JSON.

use serde_json::{Map as Object, Number, Value as Json};

use super::convert::show_duration;
use super::{Evaluated, List, Map, Timestamp, Value, complaint, parse_date, parse_duration};
use crate::encoding::{base64_decode, base64_encode};
use crate::error::EvalError;
use crate::types::decl::{Decl, Shape};

pub(super) fn native(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        // What is no int64 is a float64 to upstream's decoder.
        Json::Number(it) => it.as_i64().map_or_else(|| Value::Double(it.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(it) => Value::borrowed(it),
        Json::Array(items) => Value::List(List::Json { items, decl: None }),
        Json::Object(map) => Value::Map(Map::Json { map, decl: None }),
    }
}

/// The name that Go has for a kind of JSON.
fn go_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(it) if it.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

pub(super) fn typed<'a>(json: &'a Json, decl: &'a Decl) -> Evaluated<'a> {
    let expected = |what: &str| EvalError::new(format!("invalid data, expected {what}, got {}", go_kind(json)));
    if json.is_null() {
        let error = || EvalError::new("invalid data, got null for schema with nullable=false");
        return if decl.nullable { Ok(Value::Null) } else { Err(error()) };
    }
    match (&decl.shape, json) {
        (Shape::IntOrString, Json::String(it)) => Ok(Value::borrowed(it)),
        (Shape::IntOrString, Json::Number(it)) if it.is_i64() => Ok(native(json)),
        (Shape::IntOrString, _) => {
            Err(EvalError::new("invalid data, expected XIntOrString value to be either a string or integer"))
        }
        (Shape::Object(_) | Shape::Map { .. }, Json::Object(map)) => {
            Ok(Value::Map(Map::Json { map, decl: Some(decl) }))
        }
        (Shape::Object(_) | Shape::Map { .. }, _) => {
            Err(EvalError::new("invalid data, expected a map for the provided schema with type=object"))
        }
        (Shape::List { .. }, Json::Array(items)) => Ok(Value::List(List::Json { items, decl: Some(decl) })),
        (Shape::List { .. }, _) => {
            Err(EvalError::new("invalid data, expected an array for the provided schema with type=array"))
        }
        (Shape::Bool, Json::Bool(it)) => Ok(Value::Bool(*it)),
        (Shape::Bool, _) => Err(expected("bool")),
        (Shape::Int, Json::Number(it)) if it.is_i64() => Ok(native(json)),
        (Shape::Int, _) => Err(expected("int")),
        (Shape::Double, Json::Number(it)) => Ok(Value::Double(it.as_f64().unwrap_or(f64::NAN))),
        (Shape::Double, _) => Err(expected("float")),
        (Shape::Other(_), _) => Ok(native(json)),
        (Shape::Hidden, _) => Ok(Value::Hidden(json)),
        (Shape::Invalid(why), _) => Err(EvalError::new(why.clone())),
        (_, Json::String(text)) => formatted(text, &decl.shape),
        _ => Err(expected("string")),
    }
}

/// A text in a format that has a type of its own.
fn formatted<'a>(text: &'a str, shape: &Shape) -> Evaluated<'a> {
    let invalid = |what: &str, why: &str| EvalError::new(format!("Invalid {what} {text}: {why}"));
    match shape {
        Shape::Duration => parse_duration(text)
            .or_else(|| loose_duration(text))
            .map(Value::Duration)
            .ok_or_else(|| invalid("duration", &format!("unable to parse {text} as duration"))),
        Shape::Date => parse_date(text)
            .map(Value::Timestamp)
            .ok_or_else(|| invalid("date formatted string", &complaint(text, "2006-01-02"))),
        Shape::Timestamp => {
            let read = Timestamp::parse_schema(text).map(Value::Timestamp);
            read.ok_or_else(|| invalid("date-time formatted string", &complaint(text, "2006-01-02T15:04:05")))
        }
        Shape::Bytes => {
            let read = base64_decode(text).map(|bytes| Value::Bytes(bytes.into()));
            read.map_err(|at| invalid("byte formatted string", &format!("illegal base64 data at input byte {at}")))
        }
        _ => Ok(Value::borrowed(text)),
    }
}

/// `1 day`, `2 weeks 3d`: the units that schemas know beside Go's.
fn loose_duration(text: &str) -> Option<i64> {
    const UNITS: [(&[&str], i64); 8] = [
        (&["ns", "nano"], 1),
        (&["us", "µs", "micro"], 1_000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec"], 1_000_000_000),
        (&["m", "min"], 60_000_000_000),
        (&["h", "hr", "hour"], 3_600_000_000_000),
        (&["d", "day"], 86_400_000_000_000),
        (&["w", "wk", "week"], 604_800_000_000_000),
    ];
    let (mut sum, mut found, mut rest) = (0_i64, false, text);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = &rest[start..];
        let (number, after) = digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
        let after = after.trim_start();
        let (unit, next) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(after.len()));
        rest = next;
        let unit = unit.to_lowercase();
        if unit.is_empty() {
            continue;
        }
        let number: i64 = number.parse().ok()?;
        for (names, size) in UNITS {
            let (long, short) = names.split_last()?;
            if unit.starts_with(long) || short.contains(&unit.as_str()) {
                found = true;
                sum = sum.wrapping_add(number.wrapping_mul(size));
            }
        }
    }
    found.then_some(sum)
}

pub(super) fn to_json(value: &Value<'_>) -> Result<Json, EvalError> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(it) => Json::Bool(*it),
        Value::Int(it) => Json::from(*it),
        Value::Uint(it) => Json::from(*it),
        Value::Double(it) => {
            let number = Number::from_f64(*it);
            Json::Number(number.ok_or_else(|| EvalError::new(format!("{} is no number of JSON", super::general(*it))))?)
        }
        Value::String(it) => Json::from(&**it),
        Value::Bytes(it) => Json::from(base64_encode(it)),
        Value::Duration(it) => Json::from(show_duration(*it)),
        Value::Timestamp(it) => Json::from(it.show()),
        Value::List(List::Json { items, .. }) => Json::Array(items.to_vec()),
        Value::List(it) => Json::Array(it.iter().map(|element| to_json(&element?)).collect::<Result<_, _>>()?),
        Value::Map(Map::Json { map, .. }) => Json::Object((*map).clone()),
        Value::Map(it) => Json::Object(entries(it)?),
        Value::Optional(Some(it)) => to_json(it)?,
        Value::Optional(None) => return Err(EvalError::new("optional.none() dereference")),
        Value::Struct(it) => {
            let fields = it.fields.iter().map(|(name, field)| Ok((name.to_string(), to_json(field)?)));
            Json::Object(fields.collect::<Result<_, EvalError>>()?)
        }
        Value::Hidden(it) => (*it).clone(),
        Value::Opaque(it) => match it.to_text() {
            Some(text) => Json::from(text),
            None => return Err(no_json(value)),
        },
        Value::Type(_) => return Err(no_json(value)),
    })
}

fn no_json(value: &Value<'_>) -> EvalError {
    EvalError::new(format!("a value of type {} has no JSON", value.type_name()))
}

fn entries(map: &Map<'_>) -> Result<Object<String, Json>, EvalError> {
    let mut out = Object::new();
    for (key, value) in map.entries() {
        let Value::String(key) = key else {
            return Err(EvalError::new(format!("map key {} is of type {}, not string", key.show(), key.type_name())));
        };
        out.insert(key.to_string(), to_json(&value?)?);
    }
    Ok(out)
}
