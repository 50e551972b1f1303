//! From an OpenAPI v3 schema to a [`Decl`], with bounds as upstream derives them.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::decl::{Decl, ListKind, Object, Shape};
use super::escape::escape;
use crate::limits::MAX_REQUEST_SIZE;

/// Schemas are nested less deep than this in practice; what is deeper is hidden.
const MAX_DEPTH: usize = 64;
/// The longest texts of dates and durations, with quotes.
const MAX_TIME: u64 = 32;
const DATE: u64 = 12;

impl Decl {
    /// Reads a schema. `name` is the type's name if it is an object, and what those in it are called after. At the root of a resource
    /// `apiVersion`, `kind` and `metadata` are there even if the schema does not say so.
    ///
    /// What the schema says that is no schema is hidden from expressions; validating schemas is not done here.
    pub fn from_schema(schema: &Value, name: &str, resource_root: bool) -> Self {
        read(schema, name, resource_root, 0)
    }
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn number(schema: &Value, name: &str) -> Option<u64> {
    let value = schema.get(name)?;
    value.as_u64().or_else(|| value.as_i64().map(|_| 0)).or_else(|| value.as_f64().map(|n| n.max(0.0) as u64))
}

fn text<'s>(schema: &'s Value, name: &str) -> &'s str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn read(schema: &Value, name: &str, root: bool, depth: usize) -> Decl {
    let mut decl =
        if depth > MAX_DEPTH { Decl::new(Shape::Hidden, 0, 0) } else { read_shape(schema, name, root, depth) };
    decl.nullable = flag(schema, "nullable");
    decl
}

fn read_shape(schema: &Value, name: &str, root: bool, depth: usize) -> Decl {
    if flag(schema, "x-kubernetes-int-or-string") {
        let max = number(schema, "maxLength").map_or(MAX_REQUEST_SIZE - 2, |n| n.saturating_mul(4));
        return Decl::new(Shape::IntOrString, max, 1);
    }
    match text(schema, "type") {
        "object" => read_object(schema, name, root, depth),
        "array" => read_list(schema, name, depth),
        "string" => read_string(schema),
        "boolean" => Decl::new(Shape::Bool, 0, 4),
        "number" => Decl::new(Shape::Double, 0, 1),
        "integer" => Decl::new(Shape::Int, 0, 1),
        _ if flag(schema, "x-kubernetes-preserve-unknown-fields") => Decl::new(Shape::Hidden, 0, 0),
        other => {
            let why = format!(
                "invalid type, expected object, array, number, integer, boolean or string, or no type with x-kubernetes-int-or-string or \
                 x-kubernetes-preserve-unknown-fields is true, got {other}"
            );
            Decl::new(Shape::Invalid(why.into()), 0, 0)
        }
    }
}

fn read_list(schema: &Value, name: &str, depth: usize) -> Decl {
    let Some(items) = schema.get("items").filter(|items| items.is_object()) else {
        let why = "invalid array type, expected Items with a non-empty Schema";
        return Decl::new(Shape::Invalid(why.into()), 0, 2);
    };
    let items = read(items, &format!("{name}.@idx"), flag(items, "x-kubernetes-embedded-resource"), depth + 1);
    let max = number(schema, "maxItems").unwrap_or((MAX_REQUEST_SIZE - 2) / (items.min_size + 1));
    let kind = match text(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect())
        }
        _ => ListKind::Atomic,
    };
    Decl::new(Shape::List { items: Arc::new(items), kind }, max, 2)
}

fn read_object(schema: &Value, name: &str, root: bool, depth: usize) -> Decl {
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(values) =
        schema.get("additionalProperties").filter(|it| it.is_object() && properties.is_none_or(Map::is_empty))
    {
        let value = read(values, &format!("{name}.@elem"), flag(values, "x-kubernetes-embedded-resource"), depth + 1);
        let max = number(schema, "maxProperties").unwrap_or((MAX_REQUEST_SIZE - 2) / (value.min_size + 6));
        let key = Arc::new(Decl::new(Shape::String, 0, 2));
        return Decl::new(Shape::Map { key, value: Arc::new(value) }, max, 2);
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut object = Object::new(name);
    let mut min_size = 2;
    for (field, schema) in properties.into_iter().flatten() {
        let identifier = escape(field);
        let inner = format!("{name}.{}", identifier.as_deref().unwrap_or(field));
        let decl = read(schema, &inner, flag(schema, "x-kubernetes-embedded-resource"), depth + 1);
        let defaulted = schema.get("default").is_some_and(|it| !it.is_null());
        if required.contains(&field.as_str()) && !defaulted && decl.cel_type().is_some() {
            min_size += field.len() as u64 + decl.min_size + 4;
        }
        object.insert(field, identifier, Arc::new(decl));
    }
    if root {
        add_type_and_metadata(&mut object, name);
    }
    Decl::new(Shape::Object(object), 0, min_size)
}

/// What is at the root of each resource. A schema that says only a part of it loses that part to this, as upstream does it.
fn add_type_and_metadata(object: &mut Object, name: &str) {
    let is_string = |decl: Option<&Arc<Decl>>| decl.is_some_and(|it| matches!(it.shape, Shape::String));
    let metadata = match object.own("metadata").map(|it| &it.shape) {
        Some(Shape::Object(metadata)) => is_string(metadata.own("name")) && is_string(metadata.own("generateName")),
        _ => false,
    };
    if metadata && is_string(object.own("kind")) && is_string(object.own("apiVersion")) {
        return;
    }
    let string = || Decl::string(MAX_REQUEST_SIZE - 2);
    object.insert("kind", Some("kind".to_owned()), Arc::new(string()));
    object.insert("apiVersion", Some("apiVersion".to_owned()), Arc::new(string()));
    let metadata = Decl::object(&format!("{name}.metadata"), [("name", string()), ("generateName", string())]);
    object.insert("metadata", Some("metadata".to_owned()), Arc::new(metadata));
}

fn read_string(schema: &Value) -> Decl {
    let limit = number(schema, "maxLength");
    match text(schema, "format") {
        "byte" => Decl::new(Shape::Bytes, limit.unwrap_or(MAX_REQUEST_SIZE - 2), 2),
        "duration" => Decl::new(Shape::Duration, MAX_TIME, 3),
        "date" => Decl::new(Shape::Date, DATE, DATE),
        "date-time" => Decl::new(Shape::Timestamp, MAX_TIME, 21),
        _ => {
            let longest = schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty());
            let longest =
                longest.map(|values| values.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0) as u64);
            // A bound is in characters, which may take four bytes.
            let max = limit.map(|n| n.saturating_mul(4)).or(longest).unwrap_or(MAX_REQUEST_SIZE - 2);
            Decl::new(Shape::String, max, 2)
        }
    }
}
