//! An object as its encoded JSON, with the place of `resourceVersion` known.
//!
//! The stored form has what the object is first, then its metadata, and the fields of built-in kinds in upstream's order; `resourceVersion`
//! is not in it: the store's own revision is the version. It is written behind the name and what upstream has next to it whenever the
//! object is written out. What is seldom read may be kept [packed](kedge_packed).

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::Bytes;
use kedge_schema::{TypeId, encode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::attributes::{Attributes, Fields};
use crate::error::Error;

const METADATA: &[u8] = b"\"metadata\":{";
/// What comes before the values of the first two fields, and before the first field of the metadata. Upstream begins built-in kinds
/// with their kind; custom ones are sorted, as were all objects that earlier versions of the server stored.
const HEADS: [[&[u8]; 3]; 2] = [
    [br#"{"kind":""#, br#"","apiVersion":""#, br#"","metadata":{"#],
    [br#"{"apiVersion":""#, br#"","kind":""#, br#"","metadata":{"#],
];
/// The fields before `resourceVersion`; all of them are texts.
const BEFORE_VERSION: [&[u8]; 5] = [b"name", b"generateName", b"namespace", b"selfLink", b"uid"];

#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// A stored object at a revision.
#[derive(Debug)]
pub struct Object {
    /// The JSON, or that packed: the very bytes that the store holds.
    bytes: Bytes,
    /// Where the fields of the metadata begin, and where `resourceVersion` is to be inserted.
    places: Places,
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
        let Some(places) = Places::of(&bytes) else {
            return Err(Error::Unreadable { key: key.to_owned(), what: "it does not begin as an object".into() });
        };
        Ok(Self { places, bytes, revision, attributes: OnceLock::new() })
    }

    /// Takes what the store holds packed; `json` is what was packed.
    ///
    /// # Errors
    /// As [`Object::from_stored`].
    pub(crate) fn from_packed(key: &str, packed: Bytes, json: Bytes, revision: u64) -> Result<Self, Error> {
        let plain = Self::from_stored(key, json, revision)?;
        // A newline at the end would come back each time.
        Ok(if plain.bytes.len() == kedge_packed::plain_len(&packed) { Self { bytes: packed, ..plain } } else { plain })
    }

    /// The same at another revision: what is left of it to show when it has been deleted.
    pub(crate) fn at(&self, revision: u64) -> Self {
        Self { bytes: self.bytes.clone(), places: self.places, revision, attributes: OnceLock::new() }
    }

    /// Whether that is the stored form. Upstream's servers end theirs with a newline, leave defaults out, and sort all fields of
    /// custom kinds, so that some may come before the metadata.
    pub(crate) fn is_stored_form(bytes: &[u8]) -> bool {
        bytes.ends_with(b"}") && Places::of(bytes).is_some()
    }

    /// The stored form of an object of a built-in type, or of none; a `resourceVersion` in it is left out.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no metadata with a name.
    pub fn encode(ty: Option<TypeId>, value: &Value) -> Result<Bytes, Error> {
        let fail = |what: &str| Error::Encode(what.to_owned());
        let object = value.as_object().ok_or_else(|| fail("it is no JSON object"))?;
        let metadata = object.get("metadata").and_then(Value::as_object).ok_or_else(|| fail("it has no metadata"))?;
        if !metadata.contains_key("name") {
            return Err(fail("it has no name"));
        }
        let text = |name: &str| object.get(name).and_then(Value::as_str).ok_or_else(|| fail("it has no type"));
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        let fail = |err: serde_json::Error| Error::Encode(err.to_string());
        let mut out = head(ty, api_version, kind);
        out.reserve(1_024);
        out.extend_from_slice(METADATA);
        let of_metadata = ty.and_then(|ty| ty.def().field("metadata")?.ty.object());
        encode::write_json_fields(of_metadata, metadata, |name| name != "resourceVersion", &mut out).map_err(fail)?;
        out.push(b'}');
        if object.len() > 3 {
            out.push(b',');
        }
        let rest = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata");
        encode::write_json_fields(ty, object, rest, &mut out).map_err(fail)?;
        out.push(b'}');
        // It is kept as long as the object lives: room that was taken ahead for it would be, too.
        Ok(out.into_boxed_slice().into())
    }

    /// Labels and the fields that it can be selected by: always those of the one cache that it belongs to.
    pub(crate) fn attributes(&self, fields: &Fields) -> &Attributes {
        self.attributes.get_or_init(|| Box::new(Attributes::of(&self.stored(), fields)))
    }

    /// The JSON, without its `resourceVersion`.
    pub fn stored(&self) -> Cow<'_, [u8]> {
        if !kedge_packed::is_packed(&self.bytes) {
            return Cow::Borrowed(&self.bytes);
        }
        match kedge_packed::plain(&self.bytes) {
            Ok(plain) => Cow::Owned(plain.into()),
            // It was read when it was taken, and nobody writes to it: the memory itself is broken.
            Err(damaged) => panic!("an object in memory: {damaged}"),
        }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the JSON.
    fn json_len(&self) -> usize {
        kedge_packed::plain_len(&self.bytes)
    }

    /// Bytes of the written-out form, at most.
    pub fn size_hint(&self) -> usize {
        self.json_len() + 48
    }

    /// Appends the JSON with its `resourceVersion`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write(&self.stored(), 0, out);
    }

    /// Appends the JSON as an item of a list, which says once for all its items what they are: without `apiVersion` and
    /// `kind`, with its `resourceVersion`.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write(&self.stored(), self.places.metadata() - METADATA.len(), out);
    }

    /// Appends the metadata alone, with its `resourceVersion`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the store holds broken JSON.
    pub fn write_metadata(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let unreadable = |_| Error::Unreadable { key: String::new(), what: "it is no JSON".into() };
        let json = self.stored();
        let whole: MetadataOnly<'_> = serde_json::from_slice(&json).map_err(unreadable)?;
        let brace = self.places.metadata() - 1;
        self.write(&json[..brace + whole.metadata.get().len()], brace, out);
        Ok(())
    }

    /// Bytes that [`Object::write_item`] appends.
    pub fn item_len(&self) -> usize {
        1 + METADATA.len() + self.whole_len() - self.places.metadata()
    }

    /// Bytes that [`Object::write_json`] appends.
    pub fn whole_len(&self) -> usize {
        let digits = self.revision.checked_ilog10().unwrap_or_default() as usize + 1;
        b"\"resourceVersion\":\"\",".len() + digits + self.json_len()
    }

    /// Appends the JSON from a place on, which is before that of the version.
    fn write(&self, json: &[u8], from: usize, out: &mut Vec<u8>) {
        let at = self.places.version();
        out.extend_from_slice(&json[from..at]);
        let first = at == self.places.metadata();
        if !first {
            out.push(b',');
        }
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        out.push(b'"');
        if first {
            out.push(b',');
        }
        out.extend_from_slice(&json[at..]);
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
        let mut value: Value = serde_json::from_slice(&self.stored()).map_err(unreadable)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        }
        Ok(value)
    }
}

/// Places in the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    metadata: u32,
    version: u32,
}

impl Places {
    /// None when that is not the stored form.
    fn of(bytes: &[u8]) -> Option<Self> {
        let after_head = |head: &[&[u8]; 3]| {
            let mut rest = bytes.strip_prefix(head[0])?;
            for next in &head[1..] {
                let end = rest.iter().position(|b| *b == b'"')?;
                rest = rest[end..].strip_prefix(*next)?;
            }
            // Without a field of its own no version can be put beside it.
            rest.starts_with(b"\"").then(|| bytes.len() - rest.len())
        };
        let metadata = HEADS.iter().find_map(after_head)?;
        let version = metadata + before_version(&bytes[metadata..]);
        Some(Self { metadata: u32::try_from(metadata).ok()?, version: u32::try_from(version).ok()? })
    }

    fn metadata(self) -> usize {
        self.metadata as usize
    }

    fn version(self) -> usize {
        self.version as usize
    }
}

/// Bytes of the fields at the beginning of `metadata` that come before the version.
fn before_version(metadata: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &metadata[at..];
        let rest = if at == 0 { rest } else { rest.strip_prefix(b",").unwrap_or_default() };
        let field = |name: &&&[u8]| {
            rest.strip_prefix(b"\"")
                .and_then(|rest| rest.strip_prefix(**name))
                .is_some_and(|rest| rest.starts_with(b"\":\""))
        };
        let Some(name) = BEFORE_VERSION.iter().find(field) else { return at };
        let value = &rest[name.len() + 4..];
        // None of these texts needs an escape; one that has some all the same ends the search.
        let Some(end) = value.iter().position(|b| matches!(b, b'"' | b'\\')).filter(|end| value[*end] == b'"') else {
            return at;
        };
        at = metadata.len() - value.len() + end + 1;
    }
}

/// What the stored form of a kind begins with, up to its metadata.
pub(crate) fn head(ty: Option<TypeId>, api_version: &str, kind: &str) -> Vec<u8> {
    let (head, values) = match ty {
        Some(_) => (HEADS[0], [kind, api_version]),
        None => (HEADS[1], [api_version, kind]),
    };
    [head[0], values[0].as_bytes(), head[1], values[1].as_bytes(), b"\","].concat()
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
        let bytes = Object::encode(kedge_schema::kind("", "v1", "ConfigMap"), &value).unwrap();
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
        let object = Object::from_stored("/k", Object::encode(None, &value).unwrap(), 42).unwrap();
        let mut item = Vec::new();
        object.write_item(&mut item);
        assert_eq!(item.len(), object.item_len());
        let mut wanted = object.to_value().unwrap();
        wanted.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
        assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), wanted);
    }

    /// Where upstream has it, whatever of the fields before it an object has; near the beginning in objects that are sorted.
    #[test]
    fn the_version_stands_behind_what_names_the_object() {
        let shown = |ty: &str, mut value: Value| {
            value["apiVersion"] = "v1".into();
            value["kind"] = ty.into();
            let bytes = Object::encode(kedge_schema::kind("", "v1", ty), &value).unwrap();
            let mut out = Vec::new();
            Object::from_stored("/k", bytes, 7).unwrap().write_metadata(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let all = json!({"uid": "u", "name": "n", "labels": {"a": "b"}, "namespace": "ns", "generateName": "g-", "generation": 1});
        assert_eq!(
            shown("Pod", json!({"metadata": all})),
            r#"{"name":"n","generateName":"g-","namespace":"ns","uid":"u","resourceVersion":"7","generation":1,"labels":{"a":"b"}}"#
        );
        assert_eq!(shown("Pod", json!({"metadata": {"name": "n"}})), r#"{"name":"n","resourceVersion":"7"}"#);
        assert_eq!(
            shown("Pod", json!({"metadata": {"name": "n\"", "uid": "u"}})),
            r#"{"resourceVersion":"7","name":"n\"","uid":"u"}"#
        );
        assert_eq!(
            shown("Custom", json!({"metadata": all})),
            r#"{"generateName":"g-","resourceVersion":"7","generation":1,"labels":{"a":"b"},"name":"n","namespace":"ns","uid":"u"}"#
        );
    }

    #[test]
    fn no_bytes_make_the_search_for_places_panic() {
        let whole = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","uid":"u","labels":{"a":"b"}}}"#;
        for end in 0..=whole.len() {
            let _ = Places::of(&whole[..end]);
            let mut broken = whole.to_vec();
            if end < whole.len() {
                broken[end] = b'"';
            }
            let _ = Places::of(&broken);
        }
    }
}
