//! From the JSON of a schema to its nodes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::format::Format;
use super::{Checks, Kind, MAX_DEPTH, Node, Pattern};
use crate::table::ListType;

/// A schema that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct Malformed {
    /// Below the schema, such as `properties[spec].type`.
    pub path: String,
    pub what: String,
    /// It goes deeper than any walk does.
    pub too_deep: bool,
}

fn malformed(path: &str, what: impl Into<String>) -> Malformed {
    Malformed { path: path.trim_start_matches('.').to_owned(), what: what.into(), too_deep: false }
}

/// A node and all below it.
pub(super) fn node(schema: &Value, path: &str, depth: usize) -> Result<Node, Malformed> {
    let kind = |object: &Map<String, Value>| kind(object, path);
    read(schema, path, depth, &kind)
}

/// What is within `allOf` and its like: values are checked, and nothing is said of structure.
fn nested(schema: &Value, path: &str, depth: usize) -> Result<Node, Malformed> {
    let kind = |object: &Map<String, Value>| match object.get("type").and_then(Value::as_str) {
        None if flag(object, "x-kubernetes-int-or-string") => Ok(Kind::IntOrString),
        None | Some("") => Ok(Kind::Any),
        Some(_) => kind(object, path),
    };
    read(schema, path, depth, &kind)
}

type KindOf<'a> = &'a dyn Fn(&Map<String, Value>) -> Result<Kind, Malformed>;

fn read(schema: &Value, path: &str, depth: usize, kind: KindOf<'_>) -> Result<Node, Malformed> {
    if depth > MAX_DEPTH {
        let what = format!("it goes deeper than {MAX_DEPTH}");
        return Err(Malformed { too_deep: true, ..malformed(path, what) });
    }
    let object = schema.as_object().ok_or_else(|| malformed(path, "a schema is an object"))?;
    let own_kind = kind(object)?;
    // Below a nested node all are nested.
    let is_nested = own_kind == Kind::Any && !flag(object, "x-kubernetes-preserve-unknown-fields");
    let below = |name: &str, value: &Value| {
        let path = format!("{path}.{name}");
        if is_nested { nested(value, &path, depth + 1) } else { node(value, &path, depth + 1) }
    };
    let mut properties = BTreeMap::new();
    for (name, value) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.as_str().into(), below(&format!("properties[{name}]"), value)?);
    }
    let additional = match object.get("additionalProperties") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        // Upstream keeps what is no object, and no field of what is one.
        Some(Value::Bool(true)) => Some(Box::new(Node { preserves_unknown: false, ..any() })),
        Some(schema) => Some(Box::new(below("additionalProperties", schema)?)),
    };
    let items = object.get("items").filter(|schema| !schema.is_null());
    let items = items.map(|schema| below("items", schema)).transpose()?.map(Box::new);
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(Node {
        kind: own_kind,
        nullable: flag(object, "nullable"),
        preserves_unknown: flag(object, "x-kubernetes-preserve-unknown-fields"),
        embedded: flag(object, "x-kubernetes-embedded-resource"),
        properties,
        additional,
        items,
        required: texts(object.get("required")),
        default: object.get("default").filter(|value| !value.is_null()).cloned().map(Box::new),
        list_type: match text("x-kubernetes-list-type") {
            "map" => ListType::Map,
            "set" => ListType::Set,
            _ => ListType::Atomic,
        },
        map_keys: texts(object.get("x-kubernetes-list-map-keys")),
        is_atomic: text("x-kubernetes-map-type") == "atomic",
        checks: checks(object, own_kind, path, depth)?.map(Box::new),
    })
}

fn flag(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// What is said of a value beside its type, if anything is.
fn checks(object: &Map<String, Value>, kind: Kind, path: &str, depth: usize) -> Result<Option<Checks>, Malformed> {
    const NAMES: [&str; 16] = [
        "format",
        "maximum",
        "minimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !NAMES.iter().any(|name| object.contains_key(*name)) {
        return Ok(None);
    }
    let whole = |name: &str| object.get(name).and_then(Value::as_i64);
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let all = |name: &str| -> Result<Box<[Node]>, Malformed> {
        let list = object.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        list.map(|(at, schema)| nested(schema, &format!("{path}.{name}[{at}]"), depth + 1)).collect()
    };
    let not = object.get("not").filter(|schema| !schema.is_null());
    Ok(Some(Checks {
        format: text("format").and_then(|name| Format::of(name, kind)),
        maximum: number("maximum"),
        exclusive_maximum: flag(object, "exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag(object, "exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        pattern: text("pattern").map(Pattern::new),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
        one_of_values: object.get("enum").and_then(Value::as_array).cloned().unwrap_or_default().into(),
        all_of: all("allOf")?,
        any_of: all("anyOf")?,
        one_of: all("oneOf")?,
        not: not.map(|schema| nested(schema, &format!("{path}.not"), depth + 1)).transpose()?.map(Box::new),
    }))
}

fn kind(object: &Map<String, Value>, path: &str) -> Result<Kind, Malformed> {
    let Some(text) = object.get("type").and_then(Value::as_str).filter(|text| !text.is_empty()) else {
        return match flag(object, "x-kubernetes-int-or-string") {
            true => Ok(Kind::IntOrString),
            false if flag(object, "x-kubernetes-preserve-unknown-fields") => Ok(Kind::Any),
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
pub(super) fn any() -> Node {
    Node {
        kind: Kind::Any,
        nullable: true,
        preserves_unknown: true,
        embedded: false,
        properties: BTreeMap::new(),
        additional: None,
        items: None,
        required: Box::default(),
        default: None,
        list_type: ListType::Atomic,
        map_keys: Box::default(),
        is_atomic: false,
        checks: None,
    }
}
