//! Bodies of requests, in each encoding: what is read can be written and read again, and is the same.

use kedge_schema::decode::{Format, decode_object};
use kedge_schema::encode::{to_json, write_protobuf};
use kedge_schema::{Limits, TypeId, conform, decode_json, decode_yaml, definition, to_yaml};
use serde_json::Value;

use crate::input;

/// The server's limit on nesting: what is deeper could not be read back from the store.
const MAX_DEPTH: usize = 120;

/// JSON, without a type and of the kind that it says it is of, or of the one that the first byte chooses.
pub fn json(data: &[u8]) {
    let Some((choice, body)) = input::choice(data) else { return };
    let Ok(decoded) = decode_json(body, &Limits::default()) else { return };
    let value = decoded.value;
    assert!(input::depth(&value) <= MAX_DEPTH, "too deep");
    if decoded.strict.is_empty() {
        let plain: Value = serde_json::from_slice(body).expect("an ordinary reader takes it as well");
        assert_eq!(plain, value);
    }
    let again = decode_json(&serde_json::to_vec(&value).expect("a tree is written"), &Limits::default());
    let again = again.expect("what was written is read");
    assert_eq!((again.value, again.strict.len()), (value.clone(), 0));
    let own = kedge_schema::encode::own_type(&value);
    if let Some(ty) = own.or_else(|| input::builtin(choice)) {
        typed(Format::Json, body, ty);
    }
}

/// YAML, as JSON.
pub fn yaml(data: &[u8]) {
    let Some((choice, body)) = input::choice(data) else { return };
    let Ok(decoded) = decode_yaml(body, &Limits::default()) else { return };
    let value = decoded.value;
    assert!(input::depth(&value) <= MAX_DEPTH, "too deep");
    let limits = Limits { max_bytes: usize::MAX, ..Limits::default() };
    let written = to_yaml(&value);
    let again = decode_yaml(written.as_bytes(), &limits).map(|again| again.value);
    assert_eq!(again.as_ref().ok(), Some(&value), "{written:?} is read otherwise: {again:?}");
    let written = serde_json::to_vec(&value).expect("a tree is written");
    assert_eq!(decode_json(&written, &limits).expect("JSON of a tree is read").value, value);
    let own = kedge_schema::encode::own_type(&value);
    if let Some(ty) = own.or_else(|| input::builtin(choice)) {
        typed(Format::Yaml, body, ty);
    }
}

/// An object of a built-in type, on its way through the server.
fn typed(format: Format, body: &[u8], ty: TypeId) {
    let Ok(decoded) = decode_object(format, body, Some(ty), &Limits::default()) else { return };
    settled(ty, decoded.value);
}

/// What conforms, conforms unchanged; defaults are set once; and it comes back from both of its encodings as it was.
fn settled(ty: TypeId, value: Value) {
    let name = ty.def().name;
    let mut again = value.clone();
    let mut strict = Vec::new();
    conform(ty, &mut again, &mut strict).expect("what conforms once conforms again");
    assert_eq!((&again, strict.len()), (&value, 0), "{name} conforms otherwise the second time");
    let mut defaulted = value;
    kedge_schema::defaults::apply_type(ty, &mut defaulted);
    let mut twice = defaulted.clone();
    kedge_schema::defaults::apply_type(ty, &mut twice);
    assert_eq!(twice, defaulted, "defaults of {name} are set twice");
    kedge_schema::normalize(ty, &mut defaulted);
    let stored = to_json(&defaulted).expect("a tree is written");
    let limits = Limits { max_bytes: usize::MAX, ..Limits::default() };
    let back = decode_object(Format::Json, &stored, Some(ty), &limits);
    let back = back.unwrap_or_else(|err| panic!("{name} is stored as what cannot be read: {err}"));
    assert_eq!(back.value, normalized(ty, defaulted.clone()), "{name} changes in the store");
    comes_back(ty, &defaulted);
}

fn normalized(ty: TypeId, mut value: Value) -> Value {
    kedge_schema::normalize(ty, &mut value);
    value
}

/// Through protobuf, which has no place for the names of kind and version; defaults name those of objects within.
fn comes_back(ty: TypeId, value: &Value) {
    let mut raw = Vec::new();
    if write_protobuf(ty, value, &mut raw).is_err() {
        return;
    }
    let name = ty.def().name;
    let read = kedge_schema::protobuf::decode(ty, &raw);
    let mut read = read.unwrap_or_else(|err| panic!("{name} is written as protobuf that cannot be read: {err}"));
    conform(ty, &mut read, &mut Vec::new()).unwrap_or_else(|err| panic!("{name} comes back misshapen: {err}"));
    kedge_schema::defaults::apply_type(ty, &mut read);
    let bare = |mut value: Value| {
        if let Value::Object(map) = &mut value {
            map.remove("kind");
            map.remove("apiVersion");
        }
        normalized(ty, value)
    };
    assert_eq!(bare(read), bare(value.clone()), "{name} comes back from protobuf otherwise");
}

/// Protobuf: a message of the type that the first byte chooses, or an object in its envelope.
pub fn protobuf(data: &[u8]) {
    let Some((choice, body)) = input::choice(data) else { return };
    let (ty, raw) = match kedge_schema::protobuf::envelope(body) {
        Ok(envelope) => {
            let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
            (kedge_schema::kind(group, version, &envelope.kind), envelope.raw)
        }
        Err(_) => (None, body),
    };
    let Some(ty) = ty.or_else(|| input::builtin(choice)) else { return };
    let Ok(mut value) = kedge_schema::protobuf::decode(ty, raw) else { return };
    if conform(ty, &mut value, &mut Vec::new()).is_ok() {
        settled(ty, value);
    }
}

/// Definitions of custom resources as stock servers store them.
pub fn stored_definition(data: &[u8]) {
    let Ok(mut definition) = definition::decode(data) else { return };
    definition::to_v1(&mut definition);
    let mut again = definition.clone();
    definition::to_v1(&mut again);
    assert_eq!(again, definition);
    let text = to_json(&definition).expect("a tree is written");
    serde_json::from_slice::<Value>(&text).expect("a stored definition can be read");
}
