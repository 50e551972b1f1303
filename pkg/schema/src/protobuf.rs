//! Reading objects in Kubernetes' protobuf form, driven by the table.
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown`: type, payload. Messages are read into the same trees that
//! JSON is; fields that Go embeds are messages of their own here and are folded into their parent.
//!
//! Invariant: no input makes this panic or recurse deeper than [`MAX_DEPTH`]; numbers that the table does not know are
//! skipped, as protobuf wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_base::time;
use serde_json::{Map, Value, json};

use crate::decode::{MAX_DEPTH as MAX_NESTED, is_deeper_than};
use crate::table::{FieldDef, FieldType, TypeDef, TypeId};

/// What a protobuf body begins with.
pub const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 100;

/// A body that is no protobuf object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("proto: message is cut off or malformed")]
    Malformed,
    #[error("proto: messages are nested too deeply")]
    TooDeep,
    #[error("proto: a value of field {0} cannot be read")]
    Value(String),
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// The envelope: what the object is, and its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

/// Opens the envelope.
///
/// # Errors
/// When it is none.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?);
    let mut envelope = Envelope::default();
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader(meta);
                while let Some(field) = meta.field()? {
                    match field {
                        (1, Wire::Bytes(text)) => envelope.api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => envelope.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Reads a message of type `ty`.
///
/// # Errors
/// When it is malformed, a value has the wrong wire form, or more is inside one another than could be read as JSON.
pub fn decode(ty: TypeId, raw: &[u8]) -> Result<Value> {
    let mut out = Map::new();
    message(ty.def(), &[], raw, &mut out, 0)?;
    let value = Value::Object(out);
    // Values of JSON within messages count as well.
    if is_deeper_than(&value, MAX_NESTED) { Err(ProtobufError::TooDeep) } else { Ok(value) }
}

/// The texts and byte strings of a message of no known type, by their numbers.
///
/// # Errors
/// When it is malformed.
pub fn byte_fields(raw: &[u8]) -> Result<Vec<(u32, &[u8])>> {
    let (mut reader, mut fields) = (Reader(raw), Vec::new());
    while let Some((number, wire)) = reader.field()? {
        if let Wire::Bytes(bytes) = wire {
            fields.push((number, bytes));
        }
    }
    Ok(fields)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed)
}

/// A value as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.0.len() {
            return Err(ProtobufError::Malformed);
        }
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Malformed)
    }

    /// The next field's number and value; none at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Malformed)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Malformed)?;
                Wire::Bytes(self.take(len)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(ProtobufError::Malformed),
        };
        Ok(Some((number, wire)))
    }
}

/// The numbers of the embedded messages that lead to a field. One without a number is not in the message at all: the
/// type of an object stands in its envelope. Zero, which no field has, stands for that.
fn path(field: &FieldDef) -> impl Iterator<Item = u32> + use<> {
    field.embedding().map(|(_, number)| number.unwrap_or_default())
}

/// Reads a message into the fields of `def` that lie below the embedded messages `at`.
fn message(def: &TypeDef, at: &[u32], raw: &[u8], out: &mut Map<String, Value>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader(raw);
    while let Some((number, wire)) = reader.field()? {
        let here = |f: &&FieldDef| f.proto_number() == Some(number) && path(f).eq(at.iter().copied());
        if let Some(field) = def.fields.iter().find(here) {
            add(field, wire, out, depth)?;
            continue;
        }
        let below = |f: &FieldDef| path(f).take(at.len() + 1).eq(at.iter().copied().chain([number]));
        if let (Wire::Bytes(inner), true) = (wire, def.fields.iter().any(below)) {
            let at: Vec<u32> = at.iter().copied().chain([number]).collect();
            message(def, &at, inner, out, depth + 1)?;
        }
    }
    Ok(())
}

fn add(field: &FieldDef, wire: Wire<'_>, out: &mut Map<String, Value>, depth: usize) -> Result<()> {
    match field.ty {
        FieldType::List(_) if field.is_message() => {
            let Value::Array(more) = value(field, field.ty, wire, depth)? else { return Ok(()) };
            match out.entry(field.name).or_insert_with(|| json!([])) {
                Value::Array(list) => list.extend(more),
                _ => return Err(ProtobufError::Value(field.name.into())),
            }
        }
        FieldType::List(inner) => {
            let slot = out.entry(field.name).or_insert_with(|| json!([]));
            let Value::Array(list) = slot else { return Err(ProtobufError::Value(field.name.into())) };
            // Numbers may also come packed, several in one field.
            match (inner, wire) {
                (FieldType::Int32 | FieldType::Int64 | FieldType::Bool, Wire::Bytes(packed)) => {
                    let mut packed = Reader(packed);
                    while !packed.0.is_empty() {
                        list.push(value(field, *inner, Wire::Varint(packed.varint()?), depth)?);
                    }
                }
                _ => list.push(value(field, *inner, wire, depth)?),
            }
        }
        FieldType::Map(inner) => {
            let Wire::Bytes(entry) = wire else { return Err(ProtobufError::Value(field.name.into())) };
            let (mut key, mut content) = (String::new(), None);
            let mut entry = Reader(entry);
            while let Some((number, wire)) = entry.field()? {
                match (number, wire) {
                    (1, Wire::Bytes(text)) => key = utf8(text)?,
                    (2, wire) => content = Some(value(field, *inner, wire, depth)?),
                    _ => {}
                }
            }
            let content = match content {
                Some(content) => content,
                None => empty(*inner),
            };
            if let Value::Object(map) = out.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, content);
            }
        }
        // A message that comes in two parts is merged.
        FieldType::Object(ty) => match (out.remove(field.name), wire) {
            (Some(Value::Object(mut map)), Wire::Bytes(raw)) => {
                message(ty.def(), &[], raw, &mut map, depth + 1)?;
                out.insert(field.name.into(), Value::Object(map));
            }
            (_, wire) => {
                out.insert(field.name.into(), value(field, field.ty, wire, depth)?);
            }
        },
        ty => {
            out.insert(field.name.into(), value(field, ty, wire, depth)?);
        }
    }
    Ok(())
}

/// What an absent value of a map entry means.
fn empty(ty: FieldType) -> Value {
    match ty {
        FieldType::String | FieldType::Bytes => json!(""),
        FieldType::Int32 | FieldType::Int64 => json!(0),
        FieldType::Bool => json!(false),
        FieldType::List(_) => json!([]),
        FieldType::Quantity => json!("0"),
        _ => json!({}),
    }
}

fn value(field: &FieldDef, ty: FieldType, wire: Wire<'_>, depth: usize) -> Result<Value> {
    let bad = || ProtobufError::Value(field.name.into());
    Ok(match (ty, wire) {
        (FieldType::String, Wire::Bytes(text)) => Value::String(utf8(text)?),
        (FieldType::Bool, Wire::Varint(n)) => Value::Bool(n != 0),
        (FieldType::Int32 | FieldType::Int64, Wire::Varint(n)) => json!(n.cast_signed()),
        (FieldType::Int32, Wire::Fixed32(n)) => json!(n.cast_signed()),
        (FieldType::Double, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (FieldType::Bytes, Wire::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (FieldType::Object(ty), Wire::Bytes(raw)) => {
            let mut map = Map::new();
            message(ty.def(), &[], raw, &mut map, depth + 1)?;
            Value::Object(map)
        }
        // A list inside a map: a message with the elements in its first field.
        (FieldType::List(inner), Wire::Bytes(raw)) => {
            let (mut list, mut reader) = (Vec::new(), Reader(raw));
            while let Some((number, wire)) = reader.field()? {
                if number == 1 {
                    list.push(value(field, *inner, wire, depth + 1)?);
                }
            }
            Value::Array(list)
        }
        (FieldType::Quantity, Wire::Bytes(raw)) => match first(raw)? {
            Some(Wire::Bytes(text)) => Value::String(utf8(text)?),
            _ => json!("0"),
        },
        (FieldType::Time, Wire::Bytes(raw)) => timestamp(raw, time::rfc3339).ok_or_else(bad)?,
        (FieldType::MicroTime, Wire::Bytes(raw)) => timestamp(raw, time::rfc3339_micro).ok_or_else(bad)?,
        (FieldType::Duration, Wire::Bytes(raw)) => match first(raw)? {
            Some(Wire::Varint(nanos)) => json!(time::go_duration_text(nanos.cast_signed())),
            _ => json!("0s"),
        },
        (FieldType::IntOrString, Wire::Bytes(raw)) => int_or_string(raw)?,
        (FieldType::Raw | FieldType::Json | FieldType::FieldsV1, Wire::Bytes(raw)) => match first(raw)? {
            Some(Wire::Bytes(json)) if !json.is_empty() => serde_json::from_slice(json).map_err(|_| bad())?,
            _ => Value::Null,
        },
        (FieldType::SchemaOrArray | FieldType::SchemaOrBool | FieldType::SchemaOrStrings, Wire::Bytes(raw)) => {
            schema_or(field, ty, raw, depth + 1)?
        }
        _ => return Err(bad()),
    })
}

/// The value of field 1.
fn first(raw: &[u8]) -> Result<Option<Wire<'_>>> {
    let mut reader = Reader(raw);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            return Ok(Some(wire));
        }
    }
    Ok(None)
}

/// Seconds and nanoseconds; an empty message is no time.
fn timestamp(raw: &[u8], text: fn(jiff::Timestamp) -> String) -> Option<Value> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader(raw);
    while let Some((number, wire)) = reader.field().ok()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => seconds = n.cast_signed(),
            (2, Wire::Varint(n)) => nanos = i32::try_from(n.cast_signed()).ok()?,
            _ => {}
        }
    }
    if raw.is_empty() {
        return Some(Value::Null);
    }
    jiff::Timestamp::new(seconds, nanos).ok().map(|ts| Value::String(text(ts)))
}

fn int_or_string(raw: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
    let mut reader = Reader(raw);
    while let Some(field) = reader.field()? {
        match field {
            (1, Wire::Varint(n)) => is_text = n == 1,
            (2, Wire::Varint(n)) => number = n.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { json!(number) })
}

/// The three unions inside JSON schemas: field 1 or 2 says which.
fn schema_or(field: &FieldDef, ty: FieldType, raw: &[u8], depth: usize) -> Result<Value> {
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let schema = |raw: &[u8]| match crate::table::type_by_name(name) {
        Some(ty) => {
            let mut map = Map::new();
            message(ty.def(), &[], raw, &mut map, depth)?;
            Ok(Value::Object(map))
        }
        None => Err(ProtobufError::Value(field.name.into())),
    };
    let mut reader = Reader(raw);
    let (mut single, mut list, mut flag) = (None, Vec::new(), false);
    while let Some((number, wire)) = reader.field()? {
        match (ty, number, wire) {
            (FieldType::SchemaOrBool, 1, Wire::Varint(n)) => flag = n != 0,
            (FieldType::SchemaOrBool, 2, Wire::Bytes(raw)) => single = Some(schema(raw)?),
            (FieldType::SchemaOrStrings, 2, Wire::Bytes(text)) => list.push(Value::String(utf8(text)?)),
            (_, 1, Wire::Bytes(raw)) => single = Some(schema(raw)?),
            (_, 2, Wire::Bytes(raw)) => list.push(schema(raw)?),
            _ => {}
        }
    }
    Ok(match (single, ty) {
        (Some(schema), _) => schema,
        (None, FieldType::SchemaOrBool) => Value::Bool(flag),
        (None, _) => Value::Array(list),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn a_config_map_comes_out_of_its_envelope() {
        let metadata = [bytes(1, b"a"), bytes(3, b"ns")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let object = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let meta = [bytes(1, b"v1"), bytes(2, b"ConfigMap")].concat();
        let body = [MAGIC, &bytes(1, &meta), &bytes(2, &object)].concat();
        let envelope = envelope(&body).unwrap();
        assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "ConfigMap"));
        let value = decode(crate::kind("", "v1", "ConfigMap").unwrap(), envelope.raw).unwrap();
        assert_eq!(value, json!({"metadata": {"name": "a", "namespace": "ns"}, "data": {"k": "v"}}));
    }

    #[test]
    fn embedded_messages_are_folded_into_their_parent() {
        let reference = bytes(1, b"my-secret");
        let value = decode(crate::type_by_name("io.k8s.api.core.v1.SecretProjection").unwrap(), &bytes(1, &reference));
        assert_eq!(value.unwrap(), json!({"name": "my-secret"}));
    }

    /// What is stored as JSON must be readable as JSON, which has a limit on nesting: a revision with data as deep as that alone may be could
    /// be written in protobuf, and neither be read nor be deleted any more.
    #[test]
    fn json_within_a_message_is_part_of_its_depth() {
        let ty = crate::kind("apps", "v1", "ControllerRevision").unwrap();
        let read = |depth: usize| {
            let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let mut raw = vec![2 << 3 | 2, 0, 0, 1 << 3 | 2, 0, 0];
            raw.extend_from_slice(data.as_bytes());
            let varint = |length: usize| [length as u8 | 0x80, (length >> 7) as u8];
            raw[1..3].copy_from_slice(&varint(data.len() + 3));
            raw[4..6].copy_from_slice(&varint(data.len()));
            decode(ty, &raw)
        };
        assert_eq!(read(MAX_NESTED), Err(ProtobufError::TooDeep));
        let deepest = read(MAX_NESTED - 1).unwrap();
        let text = serde_json::to_vec(&deepest).unwrap();
        assert_eq!(crate::decode_json(&text, &crate::Limits::default()).unwrap().value, deepest);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = envelope(&[MAGIC, &raw].concat());
            let _ = decode(crate::kind("", "v1", "Pod").unwrap(), &raw);
        }
    }
}
