//! JSON as Go writes it: the fields of a structure in the order of their declaration, those of maps sorted.
//!
//! Scripts and hand-written parsers rely on `kind`, `apiVersion`, `metadata` and its `name` coming first.

use serde_json::{Map, Value};

use crate::table::{FieldType, TypeDef, TypeId, type_by_name};

/// The definition that the unions inside JSON schemas hold.
const JSON_SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// An object that says what it is, with the newline that ends every answer. One of no built-in kind has its fields sorted.
///
/// # Errors
/// None but those of the writer, which does not fail.
pub fn to_json(object: &Value) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1_024);
    write_json(own_type(object), object, &mut out)?;
    out.push(b'\n');
    Ok(out)
}

/// Appends a value of a type, or of none that is known.
///
/// # Errors
/// As for [`to_json`].
pub fn write_json(ty: Option<TypeId>, value: &Value, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match ty {
        Some(ty) => typed(FieldType::Object(ty), value, out),
        None => serde_json::to_writer(out, value),
    }
}

/// Appends those fields of an object for which `keep` holds, without braces.
///
/// # Errors
/// As for [`to_json`].
pub fn write_json_fields(
    ty: Option<TypeId>,
    map: &Map<String, Value>,
    keep: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let kept = map.iter().filter(|(name, _)| keep(name));
    match ty {
        Some(ty) => fields(ty.def(), kept, out),
        None => entries(kept, out, |value, out| serde_json::to_writer(out, value)),
    }
}

/// The built-in kind that an object says to be of. Some documents of discovery say nothing of their version, which is `v1`.
pub fn own_type(object: &Value) -> Option<TypeId> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let (api_version, kind) = (text("apiVersion").unwrap_or("v1"), text("kind")?);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    crate::kind(group, version, kind)
}

fn typed(ty: FieldType, value: &Value, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match (ty, value) {
        (FieldType::Object(id), Value::Object(map)) => structure(id.def(), map, out),
        (FieldType::List(inner), Value::Array(items)) if inner.object().is_some() => list(*inner, items, out),
        (FieldType::Map(inner), Value::Object(map)) if inner.object().is_some() => {
            out.push(b'{');
            entries(map.iter(), out, |value, out| typed(*inner, value, out))?;
            out.push(b'}');
            Ok(())
        }
        (FieldType::SchemaOrArray | FieldType::SchemaOrBool | FieldType::SchemaOrStrings, value) => {
            schema_or(value, out)
        }
        (FieldType::Raw, Value::Object(_)) => write_json(own_type(value), value, out),
        (_, value) => serde_json::to_writer(out, value),
    }
}

fn list(ty: FieldType, items: &[Value], out: &mut Vec<u8>) -> serde_json::Result<()> {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        typed(ty, item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn schema_or(value: &Value, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match (type_by_name(JSON_SCHEMA).map(FieldType::Object), value) {
        (Some(ty), Value::Object(_)) => typed(ty, value, out),
        (Some(ty), Value::Array(schemas)) => list(ty, schemas, out),
        _ => serde_json::to_writer(out, value),
    }
}

fn structure(def: &TypeDef, map: &Map<String, Value>, out: &mut Vec<u8>) -> serde_json::Result<()> {
    out.push(b'{');
    fields(def, map.iter(), out)?;
    out.push(b'}');
    Ok(())
}

/// The fields of a structure, without braces.
fn fields<'a>(
    def: &TypeDef,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let rank = |name: &str| def.field(name).map_or((u8::MAX, None), |field| (field.rank, Some(field.ty)));
    let mut ranked: Vec<_> = fields.map(|(name, value)| (rank(name), name, value)).collect();
    // Stable: what the type does not know stays sorted by its name.
    ranked.sort_by_key(|((rank, _), ..)| *rank);
    let mut first = true;
    for ((_, ty), name, value) in ranked {
        key(name, &mut first, out)?;
        match ty {
            Some(ty) => typed(ty, value, out)?,
            None => serde_json::to_writer(&mut *out, value)?,
        }
    }
    Ok(())
}

fn entries<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<u8>,
    write: impl Fn(&Value, &mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    let mut first = true;
    for (name, value) in entries {
        key(name, &mut first, out)?;
        write(value, out)?;
    }
    Ok(())
}

fn key(name: &str, first: &mut bool, out: &mut Vec<u8>) -> serde_json::Result<()> {
    if !std::mem::take(first) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name)?;
    out.push(b':');
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        String::from_utf8(to_json(value).unwrap()).unwrap()
    }

    #[test]
    fn fields_come_as_upstream_declares_them() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "unknown": {"b": 1, "a": 2},
            "metadata": {"annotations": {"z": "1", "a": "2"}, "uid": "u", "resourceVersion": "7", "name": "n", "namespace": "ns"},
            "spec": {"restartPolicy": "Always", "containers": [{"image": "i", "name": "c", "args": ["x"], "env": [{"value": "v", "name": "e"}]}],
                "volumes": [{"emptyDir": {}, "name": "v"}]},
            "status": {"conditions": [], "phase": "Pending"}});
        assert_eq!(
            text(&pod),
            concat!(
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","namespace":"ns","uid":"u","resourceVersion":"7","#,
                r#""annotations":{"a":"2","z":"1"}},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","#,
                r#""image":"i","args":["x"],"env":[{"name":"e","value":"v"}]}],"restartPolicy":"Always"},"#,
                r#""status":{"phase":"Pending","conditions":[]},"unknown":{"a":2,"b":1}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn schemas_inside_unions_are_structures_too() {
        let name = "customresourcedefinitions";
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"items": [{"type": "object", "description": "d"}],
                "additionalProperties": {"properties": {"b": {"type": "string", "format": "f", "id": "i"}}, "type": "object"}}}}]}});
        let text = text(&crd);
        assert!(text.contains(r#"{"description":"d","type":"object"}"#), "{text}");
        assert!(
            text.contains(r#"{"type":"object","properties":{"b":{"id":"i","type":"string","format":"f"}}}"#),
            "{text}"
        );
    }

    #[test]
    fn what_is_of_no_built_in_kind_is_sorted() {
        let value = json!({"apiVersion": "example.com/v1", "kind": "Pod", "spec": {"b": 1, "a": 1}, "metadata": {"uid": "u", "name": "n"}});
        assert_eq!(
            text(&value),
            "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"n\",\"uid\":\"u\"},\"spec\":{\"a\":1,\"b\":1}}\n"
        );
    }
}
