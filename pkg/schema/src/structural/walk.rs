//! Walks over an object along its schema. Objects come from a decoder that bounds their depth.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::{Kind, Node};
use crate::StrictError;

/// As many unknown fields are named.
const MAX_NAMED: usize = 100;

fn prune(node: &Node, value: &mut Value, path: &str, strict: &mut Vec<StrictError>) {
    match value {
        Value::Object(object) => prune_object(node, object, path, strict),
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (at, item) in list.iter_mut().enumerate() {
                prune(items, item, &format!("{path}[{at}]"), strict);
            }
        }
        _ => {}
    }
}

/// Drops the fields of an object that its node does not know.
pub(super) fn prune_object(node: &Node, object: &mut Map<String, Value>, path: &str, strict: &mut Vec<StrictError>) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    object.retain(|name, _| {
        let known = node.properties.contains_key(name.as_str()) || node.additional.is_some() || node.preserves_unknown;
        if !known && strict.len() < MAX_NAMED {
            strict.push(StrictError::UnknownField(at(name)));
        }
        known
    });
    for (name, value) in object {
        if let Some(node) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
            prune(node, value, &at(name), strict);
        }
    }
}

/// Fills in defaults. A null where none may be counts as left out.
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, field) in &node.properties {
                let Some(default) = &field.default else { continue };
                match object.get(&**name) {
                    None => {}
                    Some(Value::Null) if !field.nullable => {}
                    Some(_) => continue,
                }
                object.insert(name.to_string(), (**default).clone());
            }
            for (name, value) in object {
                if let Some(node) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
                    default(node, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                list.iter_mut().for_each(|item| default(items, item));
            }
        }
        _ => {}
    }
}

/// What is of a wrong type or missing, in upstream's words.
pub(super) fn validate(node: &Node, value: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let Value::Object(object) = value else { return errors };
    fields(node, object, None, &mut errors);
    errors
}

fn fields(node: &Node, object: &Map<String, Value>, path: Option<&Path>, errors: &mut ErrorList) {
    let at = |name: &str| path.map_or_else(|| Path::new(name), |path| path.child(name));
    for name in node.required.iter().filter(|name| !object.contains_key(&***name)) {
        errors.push(Error::required(&at(name), ""));
    }
    for (name, value) in object {
        let own = path.is_none() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let field = node.properties.get(name.as_str()).or(node.additional.as_deref());
        if let Some(node) = field.filter(|_| !own) {
            check(node, value, &at(name), errors);
        }
    }
}

fn check(node: &Node, value: &Value, path: &Path, errors: &mut ErrorList) {
    if value.is_null() && node.nullable {
        return;
    }
    let (fits, wanted) = match node.kind {
        Kind::Any => (true, ""),
        Kind::Object => (value.is_object(), "object"),
        Kind::Array => (value.is_array(), "array"),
        Kind::String => (value.is_string(), "string"),
        Kind::Integer => (is_whole(value), "integer"),
        Kind::Number => (value.is_number(), "number"),
        Kind::Boolean => (value.is_boolean(), "boolean"),
        Kind::IntOrString => (value.is_string() || is_whole(value), "integer,string"),
    };
    if !fits {
        let found = found(value);
        let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
        errors.push(Error::type_invalid(path, found, detail));
        return;
    }
    match value {
        Value::Object(object) => fields(node, object, Some(path), errors),
        Value::Array(list) => {
            let items = node.items.iter().flat_map(|items| list.iter().map(move |item| (items, item)));
            for (at, (items, item)) in items.enumerate() {
                check(items, item, &path.index(at), errors);
            }
        }
        _ => {}
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
