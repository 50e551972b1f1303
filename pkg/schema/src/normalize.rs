//! Which fields an encoded object has: what Go's encoder leaves out when empty, and what it writes although nobody set
//! it (structures that are no pointers, and fields without `omitempty`).
//!
//! Invariant: idempotent, and blind to everything but presence. Values of unexpected types are left alone.

use crate::table::{FieldDef, FieldType, TypeDef, TypeId};
use serde_json::{Map, Value};

/// Gives `value` exactly the fields that upstream would write: empty optional ones go, implied ones come
/// (`status: {}`, `resources: {}`, `containers: null`). Call it before encoding an object of a built-in type.
pub fn normalize(ty: TypeId, value: &mut Value) {
    object(ty, value, Empty::IsNull);
}

/// As [`normalize`], for what was stored as JSON: unlike protobuf that tells an empty list from none, and upstream's
/// servers show the empty one.
pub fn normalize_stored(ty: TypeId, value: &mut Value) {
    object(ty, value, Empty::Stays);
}

/// What becomes of an empty list that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    IsNull,
    Stays,
}

fn object(ty: TypeId, value: &mut Value, empty: Empty) {
    if let Value::Object(map) = value {
        let def = ty.def();
        for (key, value) in map.iter_mut() {
            if let Some(field) = def.field(key) {
                normalize_field(field.ty, value, empty);
            }
        }
        finish(def, map, empty);
    }
}

fn normalize_field(ty: FieldType, value: &mut Value, empty: Empty) {
    match (ty, value) {
        (FieldType::Object(id), value) => object(id, value, empty),
        (FieldType::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| normalize_field(*inner, item, empty));
        }
        (FieldType::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|item| normalize_field(*inner, item, empty));
        }
        _ => {}
    }
}

/// Decides presence for every field of one object whose field values are final.
pub(crate) fn finish_object(def: &TypeDef, map: &mut Map<String, Value>) {
    finish(def, map, Empty::IsNull);
}

fn finish(def: &TypeDef, map: &mut Map<String, Value>, empty: Empty) {
    let proto = def.name.starts_with("io.k8s.api.") || def.name.starts_with("io.k8s.apimachinery.");
    for field in &def.fields {
        match map.get_mut(field.name) {
            Some(value) if is_omitted(field, value) => {
                map.remove(field.name);
            }
            Some(value) => {
                // What is stored as protobuf cannot tell an empty list from none, and none is encoded as null.
                let is_list = matches!(field.ty, FieldType::List(_) | FieldType::Map(_));
                let is_none = empty == Empty::IsNull && is_list && is_empty(field.ty, value);
                if proto && is_none && !field.is_pointer() {
                    *value = Value::Null;
                } else if value.is_null() && !field.is_pointer() {
                    *value = zero(field.ty);
                }
            }
            None => {
                if let Some(value) = implied(field) {
                    map.insert(field.name.to_string(), value);
                }
            }
        }
    }
}

fn is_omitted(field: &FieldDef, value: &Value) -> bool {
    if field.is_pointer() {
        return value.is_null() && field.omit_empty();
    }
    (field.omit_zero() && value.is_null()) || (field.omit_empty() && is_empty(field.ty, value))
}

/// Empty in the sense of Go's `omitempty`, which no structure ever is.
fn is_empty(ty: FieldType, value: &Value) -> bool {
    match (ty, value) {
        (FieldType::String | FieldType::Bytes, Value::String(text)) => text.is_empty(),
        (FieldType::Bool, Value::Bool(set)) => !set,
        (FieldType::Int32 | FieldType::Int64 | FieldType::Double, Value::Number(number)) => {
            number.as_f64() == Some(0.0)
        }
        (FieldType::List(_), Value::Array(items)) => items.is_empty(),
        (FieldType::Map(_), Value::Object(map)) => map.is_empty(),
        (ty, Value::Null) => !is_struct(ty),
        _ => false,
    }
}

fn is_struct(ty: FieldType) -> bool {
    !matches!(
        ty,
        FieldType::String
            | FieldType::Bool
            | FieldType::Int32
            | FieldType::Int64
            | FieldType::Double
            | FieldType::Bytes
            | FieldType::List(_)
            | FieldType::Map(_)
    )
}

/// The value that the encoder writes for an unset field, if it writes one.
fn implied(field: &FieldDef) -> Option<Value> {
    if field.is_pointer() {
        return if field.omit_empty() { None } else { Some(Value::Null) };
    }
    if field.omit_zero() || (field.omit_empty() && !is_struct(field.ty)) {
        return None;
    }
    Some(zero(field.ty))
}

/// The encoded zero value of a type.
pub(crate) fn zero(ty: FieldType) -> Value {
    match ty {
        FieldType::String => Value::String(String::new()),
        FieldType::Bool => Value::Bool(false),
        FieldType::Int32 | FieldType::Int64 | FieldType::Double | FieldType::IntOrString => Value::from(0),
        FieldType::Quantity => Value::String("0".into()),
        FieldType::Duration => Value::String("0s".into()),
        FieldType::Object(id) => {
            let mut map = Map::new();
            finish_object(id.def(), &mut map);
            Value::Object(map)
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn normalized(group: &str, kind: &str, mut value: Value) -> Value {
        normalize(crate::table::kind(group, "v1", kind).unwrap(), &mut value);
        value
    }

    #[test]
    fn writes_what_go_writes() {
        let pod = json!({"metadata": {"name": "a", "labels": {}, "creationTimestamp": null},
            "spec": {"hostNetwork": false, "automountServiceAccountToken": false, "volumes": [],
                "containers": [{"name": "c", "image": "", "command": [], "ports": [{"containerPort": 0, "hostPort": 0}]}]}});
        assert_eq!(
            normalized("", "Pod", pod),
            json!({"metadata": {"name": "a"},
                "spec": {"automountServiceAccountToken": false,
                    "containers": [{"name": "c", "resources": {}, "ports": [{"containerPort": 0}]}]},
                "status": {}})
        );
        assert_eq!(
            normalized("apps", "Deployment", json!({"spec": {"replicas": 0}})),
            json!({"metadata": {}, "spec": {"replicas": 0, "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {}})
        );
        assert_eq!(
            normalized("rbac.authorization.k8s.io", "ClusterRole", json!({"rules": []})),
            json!({"metadata": {}, "rules": null})
        );
        let mut stored = json!({"metadata": {"labels": {}}, "rules": [{"verbs": [], "resources": []}], "x": []});
        normalize_stored(crate::table::kind("rbac.authorization.k8s.io", "v1", "ClusterRole").unwrap(), &mut stored);
        assert_eq!(stored, json!({"metadata": {}, "rules": [{"verbs": []}], "x": []}));
        assert_eq!(normalized("", "Event", json!({"count": 0}))["firstTimestamp"], Value::Null);
    }

    #[test]
    fn is_idempotent() {
        for info in crate::resources() {
            let ty = info.schema.builtin().unwrap();
            let mut once = json!({});
            normalize(ty, &mut once);
            let mut twice = once.clone();
            normalize(ty, &mut twice);
            assert_eq!(once, twice, "{}", info.plural);
        }
    }
}
