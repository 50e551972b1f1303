//! An object as its encoded JSON, with the place of `resourceVersion` known.
//!
//! The stored form begins `{"apiVersion":…,"kind":…,"metadata":{`, further fields sorted, without `resourceVersion`: the
//! store's own revision is the version. It is spliced in where `metadata` begins whenever the object is written out.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::attributes::{Attributes, Fields};
use crate::error::Error;

const METADATA: &[u8] = b"\"metadata\":{";
/// What comes before the values of the first two fields, and before the first field of the metadata.
const HEAD: [&[u8]; 3] = [br#"{"apiVersion":""#, br#"","kind":""#, br#"","metadata":{"#];

#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// A stored object at a revision.
#[derive(Debug)]
pub struct Object {
    bytes: Bytes,
    /// Where `resourceVersion` is to be inserted.
    version_at: usize,
    /// The revision of its last change: its `resourceVersion`.
    pub revision: u64,
    /// Labels and selectable fields, worked out when first asked for.
    attributes: OnceLock<Box<Attributes>>,
}

impl Object {
    /// Takes what the store holds under `key`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when that is not the stored form.
    pub fn from_stored(key: &str, bytes: Bytes, revision: u64) -> Result<Self, Error> {
        // Upstream's servers end every value with a newline, which would break a watch event in two lines.
        let bytes = bytes.slice(..bytes.trim_ascii_end().len());
        let Some(version_at) = version_at(&bytes) else {
            return Err(Error::Unreadable { key: key.to_owned(), what: "it does not begin as an object".into() });
        };
        Ok(Self { version_at, bytes, revision, attributes: OnceLock::new() })
    }

    /// Whether that is the stored form. Others sort all fields, so that some may come before the metadata.
    pub(crate) fn is_stored_form(bytes: &[u8]) -> bool {
        version_at(bytes).is_some()
    }

    /// The stored form of an object; a `resourceVersion` in it is left out.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no metadata with a name.
    pub fn encode(value: &Value) -> Result<Bytes, Error> {
        let encode = |what: &str| Error::Encode(what.to_owned());
        let object = value.as_object().ok_or_else(|| encode("it is no JSON object"))?;
        let metadata = object.get("metadata").and_then(Value::as_object).ok_or_else(|| encode("it has no metadata"))?;
        if !metadata.contains_key("name") {
            return Err(encode("it has no name"));
        }
        let mut out = Vec::with_capacity(1_024);
        out.push(b'{');
        for name in ["apiVersion", "kind"] {
            let field = object.get(name).ok_or_else(|| encode("it has no type"))?;
            write_field(&mut out, name, field)?;
            out.push(b',');
        }
        out.extend_from_slice(METADATA);
        write_fields(&mut out, metadata, |name| name != "resourceVersion")?;
        out.push(b'}');
        if object.len() > 3 {
            out.push(b',');
        }
        write_fields(&mut out, object, |name| !matches!(name, "apiVersion" | "kind" | "metadata"))?;
        out.push(b'}');
        // It is kept as long as the object lives: room that was taken ahead for it would be, too.
        Ok(out.into_boxed_slice().into())
    }

    /// Labels and the fields that it can be selected by: always those of the one cache that it belongs to.
    pub(crate) fn attributes(&self, fields: &Fields) -> &Attributes {
        self.attributes.get_or_init(|| Box::new(Attributes::of(&self.bytes, fields)))
    }

    /// The JSON, without its `resourceVersion`.
    pub fn stored(&self) -> &Bytes {
        &self.bytes
    }

    /// Bytes of the written-out form, at most.
    pub fn size_hint(&self) -> usize {
        self.bytes.len() + 48
    }

    /// Appends the JSON with its `resourceVersion`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let (head, tail) = self.bytes.split_at(self.version_at);
        out.extend_from_slice(head);
        self.write_version(tail, out);
    }

    /// Appends the JSON as an item of a list, which says once for all its items what they are: without `apiVersion` and
    /// `kind`, with its `resourceVersion`.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(METADATA);
        self.write_version(&self.bytes[self.version_at..], out);
    }

    /// Appends the metadata alone, with its `resourceVersion`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the store holds broken JSON.
    pub fn write_metadata(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let unreadable = |_| Error::Unreadable { key: String::new(), what: "it is no JSON".into() };
        let whole: MetadataOnly<'_> = serde_json::from_slice(&self.bytes).map_err(unreadable)?;
        out.push(b'{');
        // What is before its first field is the brace.
        self.write_version(&whole.metadata.get().as_bytes()[1..], out);
        Ok(())
    }

    /// Bytes that [`Object::write_item`] appends.
    pub fn item_len(&self) -> usize {
        let digits = self.revision.checked_ilog10().unwrap_or_default() as usize + 1;
        let version = b"\"resourceVersion\":\"\",".len() + digits;
        1 + METADATA.len() + version + self.bytes.len() - self.version_at
    }

    fn write_version(&self, tail: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(tail);
    }

    /// The JSON with its `resourceVersion`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_hint());
        self.write_json(&mut out);
        out
    }

    /// The object as a tree, with its `resourceVersion`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the store holds broken JSON.
    pub fn to_value(&self) -> Result<Value, Error> {
        let unreadable = |_| Error::Unreadable { key: String::new(), what: "it is no JSON".into() };
        let mut value: Value = serde_json::from_slice(&self.bytes).map_err(unreadable)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        }
        Ok(value)
    }
}

/// What the stored form of a kind begins with.
pub(crate) fn head(api_version: &str, kind: &str) -> Vec<u8> {
    [HEAD[0], api_version.as_bytes(), HEAD[1], kind.as_bytes(), b"\","].concat()
}

/// Where the metadata's fields begin in the stored form.
fn version_at(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.strip_prefix(HEAD[0])?;
    for next in &HEAD[1..] {
        let end = rest.iter().position(|b| *b == b'"')?;
        rest = rest[end..].strip_prefix(*next)?;
    }
    // Without a field of its own no version can be put before it.
    rest.starts_with(b"\"").then(|| bytes.len() - rest.len())
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &Value) -> Result<(), Error> {
    let fail = |e: serde_json::Error| Error::Encode(e.to_string());
    serde_json::to_writer(&mut *out, name).map_err(fail)?;
    out.push(b':');
    serde_json::to_writer(out, value).map_err(fail)
}

fn write_fields(out: &mut Vec<u8>, map: &Map<String, Value>, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
    for (i, (name, value)) in map.iter().filter(|(name, _)| keep(name)).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_field(out, name, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_spliced_into_the_right_metadata() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "{\"metadata\":{"},
            "metadata": {"name": "a", "resourceVersion": "3"}});
        let bytes = Object::encode(&value).unwrap();
        assert!(!bytes.windows(15).any(|w| w == b"resourceVersion"));
        let object = Object::from_stored("/k", bytes, 42).unwrap();
        let read: Value = serde_json::from_slice(&object.to_json()).unwrap();
        assert_eq!(read, object.to_value().unwrap());
        assert_eq!(read["metadata"]["resourceVersion"], "42");
        assert_eq!(read["data"], value["data"]);
        let mut metadata = Vec::new();
        object.write_metadata(&mut metadata).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&metadata).unwrap(), read["metadata"]);
    }

    #[test]
    fn an_item_of_a_list_says_not_what_it_is() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kind": "x", "apiVersion": "y"},
            "metadata": {"name": "a"}});
        let object = Object::from_stored("/k", Object::encode(&value).unwrap(), 42).unwrap();
        let mut item = Vec::new();
        object.write_item(&mut item);
        assert_eq!(item.len(), object.item_len());
        let mut wanted = object.to_value().unwrap();
        wanted.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
        assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), wanted);
    }
}
