//! Small readers and writers over JSON objects, for rules. None of them panics on a value of an unexpected type: such
//! a value counts as set.

use crate::table::{FieldDef, FieldType};
use serde_json::{Map, Value};

pub type Object = Map<String, Value>;

/// Whether a field is in the state that its Go zero value has.
pub fn is_unset(field: &FieldDef, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(_) if field.is_pointer() => false,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bool(set)) => !set,
        Some(Value::Number(number)) if field.ty != FieldType::IntOrString => number.as_i64() == Some(0),
        _ => false,
    }
}

/// The text of a field, empty when absent.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub fn flag(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}

pub fn is_absent(object: &Object, key: &str) -> bool {
    object.get(key).is_none_or(Value::is_null)
}

/// Absent, null, or a list, map or text without content.
pub fn is_empty(object: &Object, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// Sets what is absent: the default of a pointer field.
pub fn if_absent(object: &mut Object, key: &str, value: impl Into<Value>) {
    if is_absent(object, key) {
        object.insert(key.to_string(), value.into());
    }
}

/// Sets what is absent or empty: the default of a text or list field.
pub fn if_empty(object: &mut Object, key: &str, value: impl Into<Value>) {
    if is_empty(object, key) {
        object.insert(key.to_string(), value.into());
    }
}

/// Sets what is absent or 0: the default of a number field.
pub fn if_zero(object: &mut Object, key: &str, value: impl Into<Value>) {
    if is_absent(object, key) || object.get(key).and_then(Value::as_i64) == Some(0) {
        object.insert(key.to_string(), value.into());
    }
}

/// The object in a field, if there is one.
pub fn child<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// The object in a field, made if absent. `None` if something else is there.
pub fn make<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    if is_absent(object, key) {
        object.insert(key.to_string(), Value::Object(Map::new()));
    }
    child(object, key)
}

/// The objects in a list field.
pub fn children<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
        .iter_mut()
        .filter_map(Value::as_object_mut)
}

/// Adds the entries of `source` that `target` lacks.
pub fn fill(target: &mut Object, source: &Object) {
    for (key, value) in source {
        if !target.contains_key(key) {
            target.insert(key.clone(), value.clone());
        }
    }
}
