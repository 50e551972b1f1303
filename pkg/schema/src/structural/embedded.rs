//! Whole objects within objects: they say what they are, and their metadata is as that of all objects.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::{Map, Value};

use super::at::{At, MAX_NAMED, below, path};
use super::{Node, object_meta};

/// What is wrong with the embedded objects of an object.
pub fn check_embedded(node: &Node, object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(node, object, None, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, at: Option<&At<'_>>, errors: &mut ErrorList) {
    if errors.len() >= MAX_NAMED {
        return;
    }
    if let Value::Object(fields) = value
        && node.embedded
    {
        embedded(fields, at, errors);
    }
    below(node, value, at, &mut |node, value, at| walk(node, value, at, errors));
}

fn embedded(fields: &Map<String, Value>, at: Option<&At<'_>>, errors: &mut ErrorList) {
    let path = path(at);
    for name in ["apiVersion", "kind"].into_iter().filter(|name| !fields.contains_key(*name)) {
        errors.push(Error::required(&path.child(name), ""));
    }
    for name in ["apiVersion", "kind"] {
        let Some(value) = fields.get(name) else { continue };
        let place = path.child(name);
        match value.as_str() {
            None => errors.push(Error::invalid(&place, value, "must be a string")),
            Some("") => errors.push(Error::invalid(&place, "", "must not be empty")),
            Some(text) if name == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let detail = format!("unexpected GroupVersion string: {text}");
                    errors.push(Error::invalid(&place, text, detail));
                }
            }
            Some(text) => {
                let complaints = names::is_dns1035_label(&text.to_lowercase());
                if !complaints.is_empty() {
                    let why = complaints.join(",");
                    let detail = format!("may have mixed case, but should otherwise match: {why}");
                    errors.push(Error::invalid(&place, text, detail));
                }
            }
        }
    }
    if let (Some(meta), Some(metadata)) = (object_meta(), fields.get("metadata")) {
        let mut read = metadata.clone();
        if let Err(why) = crate::conform(meta, &mut read, &mut Vec::new()) {
            errors.push(Error::invalid(&path.child("metadata"), metadata, why.message));
        }
    }
}
