//! From the JSON of a schema to its nodes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Kind, MAX_DEPTH, Node};
use crate::table::ListType;

/// A schema that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct Malformed {
    /// Below the schema, such as `properties[spec].type`.
    pub path: String,
    pub what: String,
}

fn malformed(path: &str, what: impl Into<String>) -> Malformed {
    Malformed { path: path.trim_start_matches('.').to_owned(), what: what.into() }
}

/// A node and all below it.
pub(super) fn node(schema: &Value, path: &str, depth: usize) -> Result<Node, Malformed> {
    if depth > MAX_DEPTH {
        return Err(malformed(path, format!("it goes deeper than {MAX_DEPTH}")));
    }
    let object = schema.as_object().ok_or_else(|| malformed(path, "a schema is an object"))?;
    let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or_default();
    let below = |name: &str, value: &Value| node(value, &format!("{path}.{name}"), depth + 1);
    let mut properties = BTreeMap::new();
    for (name, value) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.as_str().into(), below(&format!("properties[{name}]"), value)?);
    }
    let additional = match object.get("additionalProperties") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(Box::new(any())),
        Some(schema) => Some(Box::new(below("additionalProperties", schema)?)),
    };
    let items = object.get("items").map(|schema| below("items", schema)).transpose()?.map(Box::new);
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(Node {
        kind: kind(object, path)?,
        nullable: flag("nullable"),
        preserves_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        properties,
        additional,
        items,
        required: texts(object.get("required")),
        default: object.get("default").cloned().map(Box::new),
        list_type: match text("x-kubernetes-list-type") {
            "map" => ListType::Map,
            "set" => ListType::Set,
            _ => ListType::Atomic,
        },
        map_keys: texts(object.get("x-kubernetes-list-map-keys")),
        is_atomic: text("x-kubernetes-map-type") == "atomic",
    })
}

fn kind(object: &Map<String, Value>, path: &str) -> Result<Kind, Malformed> {
    let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or_default();
    let Some(text) = object.get("type").and_then(Value::as_str) else {
        return match flag("x-kubernetes-int-or-string") {
            true => Ok(Kind::IntOrString),
            false if flag("x-kubernetes-preserve-unknown-fields") => Ok(Kind::Any),
            false => {
                Err(malformed(&format!("{path}.type"), "Required value: must not be empty for specified object fields"))
            }
        };
    };
    Ok(match text {
        "object" => Kind::Object,
        "array" => Kind::Array,
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        other => return Err(malformed(&format!("{path}.type"), format!("{other:?} is no type"))),
    })
}

fn texts(list: Option<&Value>) -> Box<[Box<str>]> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

/// Holds anything.
fn any() -> Node {
    Node {
        kind: Kind::Any,
        nullable: true,
        preserves_unknown: true,
        properties: BTreeMap::new(),
        additional: None,
        items: None,
        required: Box::default(),
        default: None,
        list_type: ListType::Atomic,
        map_keys: Box::default(),
        is_atomic: false,
    }
}
