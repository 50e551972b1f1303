//! Custom resource definitions as upstream's servers store them: in `v1beta1`, which is served no more.
//!
//! There a definition can say once for all its versions what `v1` says for each of them.

use serde_json::{Map, Value, json};

use crate::protobuf::{self, ProtobufError, Reader, Wire};
use crate::table::{TypeId, type_by_name};

/// What a stored definition says of itself.
pub const STORED_VERSION: &str = "apiextensions.k8s.io/v1beta1";
/// What it is served as.
pub const SERVED_VERSION: &str = "apiextensions.k8s.io/v1";
const PACKAGE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Numbers of the fields of a `v1beta1` specification that `v1` does not have, or has in another form.
const VERSION: u32 = 2;
const VALIDATION: u32 = 5;
const SUBRESOURCES: u32 = 6;
const COLUMNS: u32 = 8;
const CONVERSION: u32 = 9;

/// Reads the protobuf form into the tree that its JSON would be.
///
/// # Errors
/// When it is malformed.
pub fn decode(raw: &[u8]) -> Result<Value, ProtobufError> {
    let (rest, specs) = split(raw, &[2])?;
    let mut definition = protobuf::decode(ty("CustomResourceDefinition")?, &rest)?;
    for (_, wire) in specs {
        definition["spec"] = decode_spec(bytes(wire)?)?;
    }
    Ok(definition)
}

fn decode_spec(raw: &[u8]) -> Result<Value, ProtobufError> {
    let (rest, own) = split(raw, &[VERSION, VALIDATION, SUBRESOURCES, COLUMNS, CONVERSION])?;
    let mut spec = protobuf::decode(ty("CustomResourceDefinitionSpec")?, &rest)?;
    let mut columns = Vec::new();
    for (number, wire) in own {
        let raw = bytes(wire)?;
        match number {
            VERSION => spec["version"] = text(raw)?,
            VALIDATION => spec["validation"] = protobuf::decode(ty("CustomResourceValidation")?, raw)?,
            SUBRESOURCES => spec["subresources"] = protobuf::decode(ty("CustomResourceSubresources")?, raw)?,
            COLUMNS => columns.push(protobuf::decode(ty("CustomResourceColumnDefinition")?, raw)?),
            _ => spec["conversion"] = decode_conversion(raw)?,
        }
    }
    if !columns.is_empty() {
        spec["additionalPrinterColumns"] = columns.into();
    }
    Ok(spec)
}

fn decode_conversion(raw: &[u8]) -> Result<Value, ProtobufError> {
    let (_, fields) = split(raw, &[1, 2, 3])?;
    let (mut conversion, mut reviews) = (json!({}), Vec::new());
    for (number, wire) in fields {
        let raw = bytes(wire)?;
        match number {
            1 => conversion["strategy"] = text(raw)?,
            2 => conversion["webhookClientConfig"] = protobuf::decode(ty("WebhookClientConfig")?, raw)?,
            _ => reviews.push(text(raw)?),
        }
    }
    if !reviews.is_empty() {
        conversion["conversionReviewVersions"] = reviews.into();
    }
    Ok(conversion)
}

/// Converts a stored definition to `v1`.
pub fn to_v1(definition: &mut Value) {
    definition["apiVersion"] = SERVED_VERSION.into();
    if let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) {
        versions_to_v1(spec);
        conversion_to_v1(spec);
    }
    if let Ok(ty) = ty("CustomResourceDefinition") {
        crate::normalize(ty, definition);
    }
}

fn versions_to_v1(spec: &mut Map<String, Value>) {
    let shared = [
        ("schema", spec.remove("validation")),
        ("subresources", spec.remove("subresources")),
        ("additionalPrinterColumns", spec.remove("additionalPrinterColumns")),
    ];
    let only = spec.remove("version").filter(|name| name.as_str().is_some_and(|name| !name.is_empty()));
    if let Some(Value::Array(versions)) = spec.get_mut("versions")
        && !versions.is_empty()
    {
        versions.iter_mut().filter_map(Value::as_object_mut).for_each(|version| fill(version, &shared));
    } else if let Some(name) = only {
        spec.insert("versions".into(), only_version(name, &shared));
    }
}

/// A definition that lists no versions has the one that it names; without a name it keeps having none.
fn only_version(name: Value, shared: &[(&str, Option<Value>)]) -> Value {
    let mut version = Map::from_iter([("name".into(), name), ("served".into(), true.into())]);
    version.insert("storage".into(), true.into());
    fill(&mut version, shared);
    json!([version])
}

/// What a version does not say itself is what is said for all.
fn fill(version: &mut Map<String, Value>, shared: &[(&str, Option<Value>)]) {
    for (field, value) in shared {
        if let (false, Some(value)) = (version.contains_key(*field), value) {
            version.insert((*field).into(), value.clone());
        }
    }
    let columns = version.get_mut("additionalPrinterColumns").and_then(Value::as_array_mut);
    for column in columns.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(path) = column.remove("JSONPath") {
            column.insert("jsonPath".into(), path);
        }
    }
}

fn conversion_to_v1(spec: &mut Map<String, Value>) {
    let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut) else { return };
    let config = conversion.remove("webhookClientConfig");
    let reviews = conversion.remove("conversionReviewVersions");
    if config.is_none() && reviews.is_none() {
        return;
    }
    let fields = [("clientConfig", config), ("conversionReviewVersions", reviews)];
    let webhook: Map<String, Value> = fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect();
    conversion.insert("webhook".into(), webhook.into());
}

fn ty(name: &str) -> Result<TypeId, ProtobufError> {
    type_by_name(&format!("{PACKAGE}.{name}")).ok_or_else(|| ProtobufError::Value(name.to_owned()))
}

fn bytes(wire: Wire<'_>) -> Result<&[u8], ProtobufError> {
    match wire {
        Wire::Bytes(raw) => Ok(raw),
        _ => Err(ProtobufError::Malformed),
    }
}

fn text(raw: &[u8]) -> Result<Value, ProtobufError> {
    std::str::from_utf8(raw).map(Value::from).map_err(|_| ProtobufError::Malformed)
}

/// Some fields of a message, by number.
type Fields<'a> = Vec<(u32, Wire<'a>)>;

/// The fields with these numbers, and the message without them.
fn split<'a>(raw: &'a [u8], numbers: &[u32]) -> Result<(Vec<u8>, Fields<'a>), ProtobufError> {
    let (mut rest, mut taken, mut reader) = (Vec::new(), Vec::new(), Reader(raw));
    loop {
        let before = reader.0;
        let Some((number, wire)) = reader.field()? else { return Ok((rest, taken)) };
        if numbers.contains(&number) {
            taken.push((number, wire));
        } else {
            rest.extend_from_slice(&before[..before.len() - reader.0.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A field with a length: number, content.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn expected() -> Value {
        let mut expected = json!({
            "metadata": {"name": "things.example.org"},
            "spec": {
                "group": "example.org", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "conversion": {"strategy": "Webhook", "webhook": {
                    "clientConfig": {"url": "https://a", "caBundle": "AQI="}, "conversionReviewVersions": ["v1"]}},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}]}],
            },
        });
        to_v1(&mut expected);
        expected
    }

    #[test]
    fn what_is_said_for_all_versions_is_said_for_each() {
        let spec = |versions: Value| {
            json!({
                "group": "example.org", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "version": "v1", "versions": versions, "preserveUnknownFields": false,
                "validation": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "N", "type": "integer", "JSONPath": ".spec.n"}],
                "conversion": {"strategy": "Webhook", "conversionReviewVersions": ["v1"],
                    "webhookClientConfig": {"url": "https://a", "caBundle": "AQI="}},
            })
        };
        for versions in [json!([{"name": "v1", "served": true, "storage": true}]), json!([]), Value::Null] {
            let mut stored = json!({"apiVersion": STORED_VERSION, "metadata": {"name": "things.example.org"},
                "spec": spec(versions)});
            to_v1(&mut stored);
            assert_eq!(stored, expected());
            assert_eq!(stored["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"], ".spec.n");
        }
        let own = json!([{"name": "v1", "served": true, "storage": true, "subresources": {}}]);
        let mut stored = json!({"spec": spec(own)});
        to_v1(&mut stored);
        assert_eq!(stored["spec"]["versions"][0]["subresources"], json!({}), "a version's own word counts");
    }

    /// The list was once empty or null depending on whether there was a specification, and on how often it was converted.
    #[test]
    fn a_definition_without_versions_is_the_same_however_often_it_is_converted() {
        for mut stored in [json!({}), json!({"spec": {}}), json!({"spec": {"versions": null, "version": ""}})] {
            to_v1(&mut stored);
            let once = stored.clone();
            to_v1(&mut stored);
            assert_eq!((&stored, &stored["spec"]["versions"]), (&once, &Value::Null));
        }
    }

    #[test]
    fn protobuf_reads_as_the_json_does() {
        let names = [field(1, b"things"), field(4, b"Thing")].concat();
        let version = [field(1, b"v1"), vec![2 << 3, 1, 3 << 3, 1]].concat();
        let column = [field(1, b"N"), field(2, b"integer"), field(6, b".spec.n")].concat();
        let webhook = [field(3, b"https://a"), field(2, &[1, 2])].concat();
        let conversion = [field(1, b"Webhook"), field(2, &webhook), field(3, b"v1")].concat();
        let spec = [
            field(1, b"example.org"),
            field(2, b"v1"),
            field(3, &names),
            field(4, b"Namespaced"),
            field(5, &field(1, &field(5, b"object"))),
            field(6, &field(1, b"")),
            field(7, &version),
            field(8, &column),
            field(9, &conversion),
            vec![10 << 3, 0],
        ]
        .concat();
        // The content is longer than the 127 bytes that one byte of length can say.
        let mut raw = [field(1, &field(1, b"things.example.org")), vec![2 << 3 | 2]].concat();
        raw.extend([u8::try_from(spec.len() & 0x7f).unwrap() | 0x80, u8::try_from(spec.len() >> 7).unwrap()]);
        raw.extend(&spec);
        let mut definition = decode(&raw).unwrap();
        to_v1(&mut definition);
        assert_eq!(definition, expected());
        assert_eq!(decode(&raw[..raw.len() - 1]), Err(ProtobufError::Malformed));
    }
}
