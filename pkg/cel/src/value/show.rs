//! Values as text, as upstream prints them.

use std::fmt::Write as _;

use super::convert::show_duration;
use super::{Value, general};

/// A literal, where there is one.
pub(super) fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Uint(it) => format!("{it}u"),
        Value::Double(it) => show_double(*it),
        Value::String(it) => quote(it),
        Value::Bytes(it) => {
            it.iter().fold(String::from("b\""), |mut out, b| {
                let _ = write!(out, "\\{b:03o}");
                out
            }) + "\""
        }
        Value::Duration(it) => format!("duration(\"{}\")", show_duration(*it)),
        Value::Timestamp(it) => format!("timestamp(\"{}\")", it.show_utc()),
        Value::Type(it) => it.runtime_name().to_owned(),
        Value::List(it) => {
            let elements: Vec<_> = it.iter().map(|element| or_error(element, show)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Map(it) => {
            let mut entries: Vec<_> = it.entries().map(|(key, value)| (show(&key), or_error(value, show))).collect();
            entries.sort();
            join_entries(&entries)
        }
        Value::Optional(None) => "optional.none()".to_owned(),
        Value::Optional(Some(it)) => format!("optional.of({})", show(it)),
        Value::Struct(it) => {
            let fields: Vec<_> = it.fields.iter().map(|(name, value)| (name.to_string(), show(value))).collect();
            format!("{}{}", it.name, join_entries(&fields))
        }
        Value::Opaque(it) => it.to_text().unwrap_or_else(|| it.cel_type().to_string()),
        Value::Hidden(it) => it.to_string(),
    }
}

/// As error messages show a value: texts as they are.
pub(crate) fn plain(value: &Value<'_>) -> String {
    match value {
        Value::String(it) => it.to_string(),
        Value::Double(it) => general(*it),
        Value::Uint(it) => it.to_string(),
        Value::Optional(Some(it)) => format!("optional({})", plain(it)),
        Value::List(it) => {
            let elements: Vec<_> = it.iter().map(|element| or_error(element, plain)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Map(it) => {
            let entries: Vec<_> = it.entries().map(|(key, value)| (plain(&key), or_error(value, plain))).collect();
            join_entries(&entries)
        }
        other => show(other),
    }
}

fn or_error<'a>(value: super::Evaluated<'a>, show: fn(&Value<'a>) -> String) -> String {
    value.map_or_else(|error| error.to_string(), |value| show(&value))
}

fn join_entries(entries: &[(String, String)]) -> String {
    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

fn show_double(double: f64) -> String {
    match double {
        d if d.is_nan() => "double(\"NaN\")".to_owned(),
        f64::INFINITY => "double(\"Infinity\")".to_owned(),
        f64::NEG_INFINITY => "double(\"-Infinity\")".to_owned(),
        d => {
            let shown = d.to_string();
            if shown.contains('.') { shown } else { shown + ".0" }
        }
    }
}

/// A text in quotes, as Go's `%q`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
