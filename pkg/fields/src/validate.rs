//! Whether an object fits its type, before anything is made of it: what is applied has not been decoded yet.

use serde_json::Value;

use crate::element::Element;
use crate::items;
use crate::mismatch::Mismatches;
use crate::types::{Form, Items, Scalar, Type};

/// Checks an object.
///
/// # Errors
/// What does not fit.
pub fn validate(ty: Type<'_>, value: &Value, duplicates: bool) -> Result<(), Mismatches> {
    let mut found = Mismatches::default();
    walk(ty, value, duplicates, &mut found);
    found.check()
}

fn walk(ty: Type<'_>, value: &Value, duplicates: bool, found: &mut Mismatches) {
    match (ty.forms().of(Some(value)).form(), value) {
        (_, Value::Null) => {}
        (Form::Map, Value::Object(map)) => {
            for (name, field) in map {
                let mut below = Mismatches::default();
                match ty.field(name) {
                    Some(ty) => walk(ty, field, duplicates, &mut below),
                    None => {
                        below.push("field not declared in schema".into());
                        // As upstream, which looks no further then.
                        return found.below(&Element::field(name), below);
                    }
                }
                found.below(&Element::field(name), below);
            }
        }
        (Form::Map, other) => found.push(format!("expected map, got {}", plain(other))),
        (Form::List, Value::Array(list)) => items_of(ty, list, duplicates, found),
        (Form::List, other) => found.push(format!("expected list, got {}", plain(other))),
        (Form::Scalar(scalar), value) => found.0.extend(check(scalar, value).err().unwrap_or_default().0),
    }
}

fn items_of(ty: Type<'_>, list: &[Value], duplicates: bool, found: &mut Mismatches) {
    let (item, keys, atomic) = (ty.item(), ty.keys(), ty.items() == Items::Atomic);
    let mut seen: Vec<Element> = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let element = if atomic {
            Element::Index(i64::try_from(at).unwrap_or(i64::MAX))
        } else {
            match items::element(ty, &keys, value) {
                Ok(element) => element,
                Err(why) => return found.push(format!("element {at}: {why}")),
            }
        };
        let mut below = Mismatches::default();
        walk(item, value, duplicates, &mut below);
        if !atomic && !duplicates {
            seen.push(element.clone());
        }
        found.below(&element, below);
    }
    seen.sort();
    for pair in seen.windows(2).filter(|pair| pair[0] == pair[1]) {
        found.push(format!("duplicate entries for key {}", pair[0]));
    }
}

fn check(scalar: Scalar, value: &Value) -> Result<(), Mismatches> {
    let message = match (scalar, value) {
        (Scalar::Number, Value::Number(_))
        | (Scalar::Text, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return Ok(()),
        (Scalar::Number, other) => format!("expected numeric (int or float), got {}", go_type(other)),
        (Scalar::Text, other) => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(other))
        }
        (Scalar::Boolean, other) => format!("expected boolean, got {}", plain(other)),
        (Scalar::Any, other) => format!("expected any scalar, got {}", plain(other)),
    };
    let mut found = Mismatches::default();
    found.push(message);
    Err(found)
}

/// As Go prints a structure around it.
fn plain(value: &Value) -> String {
    format!("&{{{}}}", bare(value))
}

fn bare(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(bare).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(name, value)| format!("{name}:{}", bare(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => {
            format!("[]interface {{}}{{{}}}", list.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(name, value)| format!("{name:?}:{}", go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
