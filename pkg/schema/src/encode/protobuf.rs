//! Kubernetes' protobuf form, straight from JSON text or from a tree, without another tree in between.
//!
//! Fields that upstream's encoder writes although they are empty are left out: every decoder takes an absent field for its zero value.
//! What is not in the protobuf type (the type of an object, which stands in its envelope) is left out as well.
//!
//! Fields that Go embeds are messages of their own. Each of them is written as a message with one field, since decoders merge messages
//! that come in parts; so nothing has to be collected first.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protobuf::MAGIC;
use crate::table::{FieldType, TABLE, TypeDef, TypeId, type_by_name};

const JSON_SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// What follows the object in its envelope: that its encoding and type are the usual ones.
pub const TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// The envelope of an object of `len` bytes, up to them; [`TAIL`] comes behind them.
pub fn envelope_head(api_version: &str, kind: &str, len: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    delimited(&mut out, 1, |out| {
        text(out, 1, api_version);
        text(out, 2, kind);
    });
    tag(&mut out, 2, 2);
    varint(&mut out, len as u64);
    out
}

/// An object in its envelope.
///
/// # Errors
/// What the source of the object says, and a value that the type has no place for.
pub fn to_protobuf<'de, D: Deserializer<'de>>(
    ty: TypeId,
    api_version: &str,
    kind: &str,
    object: D,
) -> Result<Vec<u8>, D::Error> {
    let mut raw = Vec::with_capacity(1_024);
    write_protobuf(ty, object, &mut raw)?;
    let mut out = envelope_head(api_version, kind, raw.len());
    out.extend_from_slice(&raw);
    out.extend_from_slice(TAIL);
    Ok(out)
}

/// An object that says what it is, in its envelope. None when it is of no kind that has a protobuf form.
///
/// # Errors
/// As for [`to_protobuf`].
pub fn object_to_protobuf(object: &Value) -> serde_json::Result<Option<Vec<u8>>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let (api_version, kind) = (text("apiVersion").unwrap_or("v1"), text("kind").unwrap_or_default());
    super::json::own_type(object).map(|ty| to_protobuf(ty, api_version, kind, object)).transpose()
}

/// Appends the message of an object, without an envelope.
///
/// # Errors
/// As for [`to_protobuf`].
pub fn write_protobuf<'de, D: Deserializer<'de>>(ty: TypeId, object: D, out: &mut Vec<u8>) -> Result<(), D::Error> {
    Message { ty, out }.deserialize(object)
}

/// Appends a field with a text.
pub fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    bytes(out, number, text.as_bytes());
}

/// Appends a field with bytes.
pub fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    tag(out, number, 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a field with what `write` writes.
pub fn delimited<T>(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    tag(out, number, 2);
    // Most messages are short enough for a length of one byte; others move for a longer one.
    let at = out.len();
    out.push(0);
    let written = write(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return written;
    }
    let mut prefix = Vec::with_capacity(5);
    varint(&mut prefix, len as u64);
    out.splice(at..=at, prefix);
    written
}

/// Bytes of a field with `length` bytes of content.
pub fn delimited_len(number: u32, length: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(length as u64) + length
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Where the fields of a type stand in its message, in the order of [`TypeDef::fields`].
struct Layout(Box<[Place]>);

/// The numbers of the embedded messages that lead to a field, and its own; none when it is not in the message.
struct Place(Option<(Box<[u32]>, u32)>);

static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| TABLE.types.iter().map(Layout::of).collect());

impl Layout {
    fn of(def: &TypeDef) -> Self {
        let numbers = |field: &crate::table::FieldDef| {
            let mut chain: Vec<u32> = field.embedding().map(|(_, number)| number).collect::<Option<_>>()?;
            let mut number = field.proto_number()?;
            if field.is_message() {
                chain.push(std::mem::replace(&mut number, 1));
            }
            Some((chain.into_boxed_slice(), number))
        };
        Self(def.fields.iter().map(|field| Place(numbers(field))).collect())
    }

    fn get(ty: TypeId) -> &'static Self {
        &LAYOUTS[usize::from(ty.0)]
    }
}

/// Writes the fields of an object.
struct Message<'a> {
    ty: TypeId,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ty.def().name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (def, layout) = (self.ty.def(), Layout::get(self.ty));
        while let Some(at) = map.next_key_seed(Key(def))? {
            let known = at.and_then(|at| Some((&def.fields[at], layout.0[at].0.as_ref()?)));
            let Some((field, (chain, number))) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let (ty, number) = (field.ty, *number);
            let presence = if field.is_pointer() { Presence::Pointer } else { Presence::Plain };
            nested(self.out, chain, |out| map.next_value_seed(Field { ty, number, presence, out }))?;
        }
        Ok(())
    }
}

/// Writes within the embedded messages of `chain`.
fn nested<T>(out: &mut Vec<u8>, chain: &[u32], write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    match chain {
        [] => write(out),
        [number, inner @ ..] => delimited(out, *number, |out| nested(out, inner, write)),
    }
}

/// Finds the place of the field that a key names.
struct Key<'a>(&'a TypeDef);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Option<usize>, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.fields.binary_search_by(|field| field.name.cmp(name)).ok())
    }
}

/// Writes one field: its number and its value.
struct Field<'a> {
    ty: FieldType,
    number: u32,
    presence: Presence,
    out: &'a mut Vec<u8>,
}

/// What a zero value or null means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// The field is not set, either way.
    Plain,
    /// Zero is a value.
    Pointer,
    /// It is an element of a list or a map, and there.
    Element,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        if !self.ty.is_opaque() {
            return source.deserialize_any(self);
        }
        let raw = <Cow<'_, RawValue> as serde::Deserialize>::deserialize(source)?;
        if raw.get() != "null" || self.presence == Presence::Element {
            delimited(self.out, self.number, |out| text(out, 1, raw.get()));
        }
        Ok(())
    }
}

impl Field<'_> {
    /// An element of this list, or a value of this map, which is written whatever it is.
    fn element(&mut self, ty: FieldType, number: u32) -> Field<'_> {
        Field { ty, number, presence: Presence::Element, out: self.out }
    }

    fn number<E: Error>(self, number: i64) -> Result<(), E> {
        match self.ty {
            FieldType::Int32 | FieldType::Int64 => {
                if number != 0 || self.presence != Presence::Plain {
                    tag(self.out, self.number, 0);
                    varint(self.out, number.cast_unsigned());
                }
            }
            FieldType::Double => return self.double(number as f64),
            FieldType::IntOrString => delimited(self.out, self.number, |out| {
                tag(out, 1, 0);
                varint(out, 0);
                tag(out, 2, 0);
                varint(out, number.cast_unsigned());
            }),
            FieldType::Quantity => delimited(self.out, self.number, |out| text(out, 1, &number.to_string())),
            _ => return Err(self.misfit("a number")),
        }
        Ok(())
    }

    fn double<E: Error>(self, number: f64) -> Result<(), E> {
        match self.ty {
            FieldType::Double => {
                tag(self.out, self.number, 1);
                self.out.extend_from_slice(&number.to_le_bytes());
                Ok(())
            }
            _ => Err(self.misfit("a fraction")),
        }
    }

    fn misfit<E: Error>(&self, what: &str) -> E {
        E::custom(format_args!("{what} has no place in field {} of type {:?}", self.number, self.ty))
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {:?}", self.ty)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, set: bool) -> Result<(), E> {
        match self.ty {
            FieldType::Bool => {
                if set || self.presence != Presence::Plain {
                    tag(self.out, self.number, 0);
                    self.out.push(u8::from(set));
                }
            }
            FieldType::SchemaOrBool => delimited(self.out, self.number, |out| {
                tag(out, 1, 0);
                out.push(u8::from(set));
            }),
            _ => return Err(self.misfit("a boolean")),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.number(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        let number = i64::try_from(number).map_err(|_| self.misfit("so large a number"))?;
        self.number(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.double(number)
    }

    fn visit_str<E: Error>(self, content: &str) -> Result<(), E> {
        match self.ty {
            FieldType::String => {
                if !content.is_empty() || self.presence != Presence::Plain {
                    text(self.out, self.number, content);
                }
            }
            FieldType::Bytes => {
                // None at all and no bytes are two things: Go's encoder writes the latter.
                let content = STANDARD.decode(content).map_err(|_| self.misfit("what is no base64"))?;
                bytes(self.out, self.number, &content);
            }
            FieldType::Quantity => delimited(self.out, self.number, |out| text(out, 1, content)),
            FieldType::IntOrString => delimited(self.out, self.number, |out| {
                tag(out, 1, 0);
                varint(out, 1);
                text(out, 3, content);
            }),
            FieldType::Time | FieldType::MicroTime => {
                let time: jiff::Timestamp = content.parse().map_err(|_| self.misfit("what is no time"))?;
                let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
                let nanos = if self.ty == FieldType::Time { 0 } else { nanos / 1_000 * 1_000 };
                delimited(self.out, self.number, |out| {
                    tag(out, 1, 0);
                    varint(out, seconds.cast_unsigned());
                    tag(out, 2, 0);
                    varint(out, i64::from(nanos).cast_unsigned());
                });
            }
            FieldType::Duration => {
                let nanos = kedge_base::time::go_duration_nanos(content);
                let nanos = nanos.ok_or_else(|| self.misfit("what is no duration"))?;
                delimited(self.out, self.number, |out| {
                    tag(out, 1, 0);
                    varint(out, nanos.cast_unsigned());
                });
            }
            _ => return Err(self.misfit("a text")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let (inner, number) = match self.ty {
            FieldType::List(inner) => (*inner, self.number),
            FieldType::SchemaOrArray | FieldType::SchemaOrStrings => {
                let inner =
                    if self.ty == FieldType::SchemaOrStrings { FieldType::String } else { schema::<A::Error>()? };
                return delimited(self.out, self.number, |out| {
                    let mut inside = Field { ty: inner, number: 2, presence: Presence::Element, out };
                    while list.next_element_seed(inside.element(inner, 2))?.is_some() {}
                    Ok(())
                });
            }
            _ => return Err(self.misfit("a list")),
        };
        while list.next_element_seed(self.element(inner, number))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.ty {
            FieldType::Object(ty) => delimited(self.out, self.number, |out| Message { ty, out }.visit_map(map)),
            FieldType::Map(inner) => {
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    delimited(self.out, self.number, |out| {
                        text(out, 1, &key);
                        match inner {
                            // A list inside a map is a message with the elements in its first field.
                            FieldType::List(_) => delimited(out, 2, |out| {
                                map.next_value_seed(Field { ty: *inner, number: 1, presence: Presence::Element, out })
                            }),
                            _ => map.next_value_seed(Field { ty: *inner, number: 2, presence: Presence::Element, out }),
                        }
                    })?;
                }
                Ok(())
            }
            FieldType::SchemaOrArray | FieldType::SchemaOrBool | FieldType::SchemaOrStrings => {
                let FieldType::Object(ty) = schema::<A::Error>()? else { return Err(self.misfit("a schema")) };
                let allows = self.ty == FieldType::SchemaOrBool;
                delimited(self.out, self.number, |out| {
                    if allows {
                        tag(out, 1, 0);
                        out.push(1);
                    }
                    let number = if allows { 2 } else { 1 };
                    delimited(out, number, |out| Message { ty, out }.visit_map(map))
                })
            }
            _ => Err(self.misfit("an object")),
        }
    }
}

/// The type of the schemas inside schemas.
fn schema<E: Error>() -> Result<FieldType, E> {
    type_by_name(JSON_SCHEMA).map(FieldType::Object).ok_or_else(|| E::custom("schemas are of no known type"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protobuf;
    use serde_json::json;

    /// What a decoder makes of an object.
    fn there_and_back(value: &Value) -> Value {
        let text = |name: &str| value[name].as_str().unwrap();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let ty = crate::kind(group, version, text("kind")).unwrap();
        let whole = to_protobuf(ty, text("apiVersion"), text("kind"), value).unwrap();
        let from_text = value.to_string();
        let from_text = &mut serde_json::Deserializer::from_str(&from_text);
        assert_eq!(to_protobuf(ty, text("apiVersion"), text("kind"), from_text).unwrap(), whole);
        let envelope = protobuf::envelope(&whole).unwrap();
        let mut read = protobuf::decode(ty, envelope.raw).unwrap();
        read["apiVersion"] = envelope.api_version.into();
        read["kind"] = envelope.kind.into();
        read
    }

    /// Clients of the metrics API ask for it in protobuf.
    #[test]
    fn what_a_node_uses_keeps_its_window() {
        let node = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetrics", "metadata": {"name": "n"},
            "timestamp": "2026-01-02T03:04:05Z", "window": "15.062s", "usage": {"cpu": "123456n", "memory": "1234Ki"}});
        assert_eq!(there_and_back(&node), node);
    }

    /// Go's clients once read the first verb as such a message, and every one of them failed at discovery in protobuf.
    #[test]
    fn verbs_of_a_resource_are_a_message_of_their_own() {
        let list = json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1",
            "resources": [{"name": "p", "singularName": "", "namespaced": true, "kind": "P", "verbs": ["get", "list"]}]});
        assert_eq!(there_and_back(&list)["resources"][0]["verbs"], json!(["get", "list"]));
        let ty = super::super::json::own_type(&list).unwrap();
        let mut written = Vec::new();
        write_protobuf(ty, &list, &mut written).unwrap();
        let verbs = b"\x22\x0b\x0a\x03get\x0a\x04list";
        assert!(written.windows(verbs.len()).any(|bytes| bytes == verbs), "{written:?}");
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for value in [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n", "creationTimestamp": "2026-01-02T03:04:05Z",
                    "labels": {"a": "", "b": "x".repeat(300)},
                    "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {".": {}}}}]},
                "spec": {"terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": -1, "enableServiceLinks": false,
                    "containers": [{"name": "c", "args": ["", "y"], "resources": {"limits": {"cpu": "100m"}},
                        "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 3}, "ports": [{"containerPort": 80}]}],
                    "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s", "optional": false,
                        "items": [{"key": "k", "path": "p", "mode": 256}]}}]}}, {"name": "e", "emptyDir": {}}]},
                "status": {"phase": "Running"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"k": "AAEC", "empty": ""}}),
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": {"renewTime": "2026-01-02T03:04:05.678901Z"}}),
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {},
                "spec": {"maxUnavailable": 0, "selector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["a"]}]}}, "status": {"conditions": [{"type": "t"}]}}),
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {}, "data": {"spec": {"b": [1, null]}}, "revision": 3}),
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {},
                "spec": {"extra": {"k": ["a", "b"], "l": []}, "request": "AAEC"}, "status": {}}),
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {}, "spec": {"names": {},
                "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "maximum": 1.5, "default": {"x": 1},
                    "enum": ["a", 1, null], "items": {"type": "string"}, "additionalProperties": false,
                    "properties": {"p": {"items": [{"type": "integer"}], "additionalProperties": {"type": "string"}}},
                    "dependencies": {"d": ["a"]}}}}]}, "status": {"acceptedNames": {}}}),
        ] {
            let kept = |mut value: Value| {
                crate::normalize(
                    crate::kind(
                        value["apiVersion"].as_str().unwrap().split_once('/').map_or("", |(g, _)| g),
                        value["apiVersion"].as_str().unwrap().rsplit('/').next().unwrap(),
                        value["kind"].as_str().unwrap(),
                    )
                    .unwrap(),
                    &mut value,
                );
                value
            };
            assert_eq!(kept(there_and_back(&value)), kept(value.clone()), "{}", value["kind"]);
        }
    }

    #[test]
    fn a_value_of_a_wrong_type_is_an_error() {
        let pod = crate::kind("", "v1", "Pod").unwrap();
        for wrong in [json!({"metadata": 1}), json!({"spec": {"containers": {}}}), json!({"metadata": {"name": 1}})] {
            assert!(write_protobuf(pod, &wrong, &mut Vec::new()).is_err(), "{wrong}");
        }
    }
}
