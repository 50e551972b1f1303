//! Walks over an object along its schema. Objects come from a decoder that bounds their depth.
//!
//! Invariant: a walk costs as much as its object is large, and no more than [`MAX_NAMED`] things are named.

use serde_json::{Map, Value};

use super::at::{At, MAX_NAMED, OWN};
use super::{Node, object_meta};
use crate::StrictError;

/// What becomes of a null where none may be, and nothing can stand for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// It is as good as left out.
    Go,
    /// It is a value like others, which no schema allows.
    Stay,
}

fn prune(node: &Node, value: &mut Value, nulls: Nulls, at: At<'_>, strict: &mut Vec<StrictError>) {
    match value {
        Value::Object(object) => prune_object(node, object, nulls, Some(&at), strict),
        Value::Array(list) => match &node.items {
            Some(items) => {
                for (index, item) in list.iter_mut().enumerate() {
                    prune(items, item, nulls, At::index(Some(&at), index), strict);
                }
            }
            // Of what its items hold nothing is known.
            None if !node.preserves_unknown => empty(list, &at, strict),
            None => {}
        },
        _ => {}
    }
}

/// Drops the fields of all objects in a list whose items are not described.
fn empty(list: &mut [Value], at: &At<'_>, strict: &mut Vec<StrictError>) {
    for (index, item) in list.iter_mut().enumerate() {
        let at = At::index(Some(at), index);
        match item {
            Value::Object(object) => {
                for name in object.keys() {
                    name_unknown(At::field(Some(&at), name), strict);
                }
                object.clear();
            }
            Value::Array(list) => empty(list, &at, strict),
            _ => {}
        }
    }
}

fn name_unknown(at: At<'_>, strict: &mut Vec<StrictError>) {
    if strict.len() < MAX_NAMED {
        strict.push(StrictError::UnknownField(at.path().to_string()));
    }
}

/// Drops the fields of an object that its node does not know, but those that all kinds have.
///
/// As upstream, they are named in the order of their paths.
pub(super) fn prune_root(node: &Node, object: &mut Map<String, Value>, nulls: Nulls, strict: &mut Vec<StrictError>) {
    let before = strict.len();
    prune_object(node, object, nulls, None, strict);
    strict[before..].sort_by_cached_key(ToString::to_string);
}

fn prune_object(
    node: &Node,
    object: &mut Map<String, Value>,
    nulls: Nulls,
    at: Option<&At<'_>>,
    strict: &mut Vec<StrictError>,
) {
    let own = |name: &str| node.embedded && OWN.contains(&name);
    object.retain(|name, value| {
        let field = node.properties.get(name.as_str()).or(node.additional.as_deref());
        let known = field.is_some() || node.preserves_unknown || own(name);
        if !known {
            name_unknown(At::field(at, name), strict);
        }
        let is_nothing =
            |field: &Node| nulls == Nulls::Go && value.is_null() && !field.nullable && field.default.is_none();
        known && (own(name) || !field.is_some_and(is_nothing))
    });
    for (name, value) in object {
        if own(name) {
            if name == "metadata" {
                clean_metadata(value, &At::field(at, name), strict);
            }
            continue;
        }
        if let Some(node) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
            prune(node, value, nulls, At::field(at, name), strict);
        }
    }
}

/// Metadata of an object within an object holds what that of all objects does. What is of a wrong form is told when it is validated.
fn clean_metadata(value: &mut Value, at: &At<'_>, strict: &mut Vec<StrictError>) {
    let Some(meta) = object_meta() else { return };
    let (mut clean, mut below) = (value.clone(), Vec::new());
    if crate::conform(meta, &mut clean, &mut below).is_err() {
        return;
    }
    for error in below {
        match error {
            StrictError::UnknownField(path) if strict.len() < MAX_NAMED => {
                strict.push(StrictError::UnknownField(format!("{}.{path}", at.path())));
            }
            StrictError::UnknownField(_) => {}
            other => strict.push(other),
        }
    }
    if let Value::Object(fields) = &mut clean {
        fields.retain(|name, value| !(name == "creationTimestamp" && value.is_null()));
    }
    *value = clean;
}

/// Fills in defaults, but in what all kinds have.
pub(super) fn default_root(node: &Node, value: &mut Value) {
    if let Value::Object(object) = value {
        default_object(node, object, true);
    }
}

fn default_object(node: &Node, object: &mut Map<String, Value>, is_root: bool) {
    let own = |name: &str| is_root && OWN.contains(&name);
    for (name, field) in node.properties.iter().filter(|(name, _)| !own(name)) {
        let Some(default) = &field.default else { continue };
        // A null where none may be counts as left out.
        match object.get(&**name) {
            None => {}
            Some(Value::Null) if !field.nullable => {}
            Some(_) => continue,
        }
        object.insert(name.to_string(), (**default).clone());
    }
    for (name, value) in object.iter_mut().filter(|(name, _)| !own(name)) {
        if let Some(field) = node.properties.get(name.as_str()) {
            fill(field, value);
        } else if let Some(field) = node.additional.as_deref() {
            instead_of_null(field, value);
            fill(field, value);
        }
    }
}

/// A null in a list or map, where none may be, is what is said to be there by default.
fn instead_of_null(node: &Node, value: &mut Value) {
    if let Some(default) = node.default.as_ref().filter(|_| value.is_null() && !node.nullable) {
        *value = (**default).clone();
    }
}

/// Fills in what is left out in a value.
pub(super) fn fill(node: &Node, value: &mut Value) {
    match value {
        Value::Object(object) => default_object(node, object, false),
        Value::Array(list) => {
            if let Some(items) = &node.items {
                for item in list {
                    instead_of_null(items, item);
                    fill(items, item);
                }
            }
        }
        _ => {}
    }
}
