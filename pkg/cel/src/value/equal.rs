//! Equality.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::number::{double_with_int, double_with_uint, int_with_uint};
use super::{List, Map, Value};
use crate::error::EvalError;
use crate::types::decl::{Decl, ListKind, Shape};

impl<'a> Value<'a> {
    /// Whether two values are the same: numbers by what they are worth, lists and maps by their content.
    ///
    /// # Errors
    /// Data in them is not what its schema says, or they belong to libraries and are of different types.
    pub fn equals(&self, other: &Value<'a>) -> Result<bool, EvalError> {
        Ok(match (self, other) {
            (Value::Null, other) => matches!(other, Value::Null),
            (_, Value::Null) => false,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Uint(a), Value::Uint(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => a == b,
            (Value::Int(a), Value::Uint(b)) | (Value::Uint(b), Value::Int(a)) => {
                int_with_uint(*a, *b) == Ordering::Equal
            }
            (Value::Double(a), Value::Int(b)) | (Value::Int(b), Value::Double(a)) => {
                double_with_int(*a, *b) == Some(Ordering::Equal)
            }
            (Value::Double(a), Value::Uint(b)) | (Value::Uint(b), Value::Double(a)) => {
                double_with_uint(*a, *b) == Some(Ordering::Equal)
            }
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
            (Value::List(a), Value::List(b)) => return lists(a, b),
            (Value::Map(a), Value::Map(b)) => return maps(a, b),
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => return a.equals(b),
            (Value::Struct(a), Value::Struct(b)) => {
                a.name == b.name && a.fields.len() == b.fields.len() && {
                    let mut pairs = a.fields.iter().zip(&b.fields);
                    pairs.try_fold(true, |same, ((k, v), (l, w))| Ok::<_, EvalError>(same && k == l && v.equals(w)?))?
                }
            }
            (Value::Opaque(a), Value::Opaque(b)) => return a.equals(b).ok_or_else(EvalError::no_such_overload),
            (Value::Opaque(_), _) => return Err(EvalError::no_such_overload()),
            (Value::Hidden(a), Value::Hidden(b)) => same_json(a, b),
            // Lists and maps of a schema are only compared with their like.
            (Value::List(List::Json { decl: Some(_), .. }) | Value::Map(Map::Json { decl: Some(_), .. }), _) => {
                return Err(EvalError::no_such_overload());
            }
            _ => false,
        })
    }
}

fn lists<'a>(a: &List<'a>, b: &List<'a>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let List::Json { decl: Some(Decl { shape: Shape::List { kind, .. }, .. }), items } = a {
        match kind {
            ListKind::Set => return contains_all(a, b),
            ListKind::Map(keys) => return same_entries(a, items, keys, b),
            ListKind::Atomic => {}
        }
    }
    for n in 0..a.len() {
        let (Some(a), Some(b)) = (a.get(n), b.get(n)) else { return Ok(false) };
        if !a?.equals(&b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains_all<'a>(a: &List<'a>, b: &List<'a>) -> Result<bool, EvalError> {
    for element in b.iter() {
        if !a.contains(&element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares entries that have the same keys, wherever they stand.
fn same_entries<'a>(a: &List<'a>, items: &'a [Json], keys: &[Box<str>], b: &List<'a>) -> Result<bool, EvalError> {
    for element in b.iter() {
        let element = element?;
        // Of several with the same keys the last one counts, as in upstream's map.
        let place = items.iter().rposition(|item| keys.iter().all(|key| same_key(item, &element, key)));
        let Some(mine) = place.and_then(|place| a.get(place)) else { return Ok(false) };
        if !mine?.equals(&element)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an entry of a list of maps and a value have the same key.
pub(super) fn same_key(item: &Json, element: &Value<'_>, key: &str) -> bool {
    let Value::Map(map) = element else { return false };
    match (item.get(key), map.raw(key)) {
        (Some(a), Some(b)) => same_json(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn maps<'a>(a: &Map<'a>, b: &Map<'a>) -> Result<bool, EvalError> {
    if let (Map::Host(a), Map::Host(b)) = (a, b) {
        return Ok(std::ptr::addr_eq(*a, *b));
    }
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (Map::Json { map: json, decl: Some(decl) }, Map::Json { map: other, .. }) = (a, b)
        && let Shape::Object(object) = &decl.shape
    {
        return objects(a, json, object, b, other);
    }
    for (key, value) in a.entries() {
        let Some(other) = b.find(&key) else { return Ok(false) };
        if !value?.equals(&other?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Objects are compared by field; those that the schema does not know as JSON.
fn objects<'a>(
    a: &Map<'a>,
    json: &'a serde_json::Map<String, Json>,
    object: &crate::types::decl::Object,
    b: &Map<'a>,
    other: &'a serde_json::Map<String, Json>,
) -> Result<bool, EvalError> {
    for (name, value) in json {
        if object.own(name).is_none() {
            if other.get(name).is_some_and(|other| !same_json(value, other)) {
                return Ok(false);
            }
            continue;
        }
        match (a.own(name), b.own(name)) {
            (None, None) => {}
            (Some(mine), Some(theirs)) => {
                if !mine?.equals(&theirs?)? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// JSON compared as data: numbers by what they are worth in their own kind.
fn same_json(a: &Json, b: &Json) -> bool {
    a == b
}
