//! Between what the store holds and the JSON that everything above it sees.
//!
//! A stored value may be plain JSON, packed, sealed, or protobuf that a stock API server wrote.

use std::sync::Arc;

use bytes::Bytes;
use kedge_schema::{definition, former, protobuf};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::watch;

use crate::encryption::Encryption;
use crate::error::Error;
use crate::form::StoredForm;
use crate::object::Object;

/// What an encryption that several servers share is made of: a key of the store, at a revision. Values of `resources` are
/// only written while the key is at that revision, so that nothing is written as it was right before another server
/// changed that: neither plain after secrets are encrypted, nor with a key that is about to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub key: &'static str,
    pub revision: u64,
    pub resources: &'static [&'static str],
}

/// Reads and writes stored values; the encryption may change while it is in use.
#[derive(Default)]
pub(crate) struct Codec {
    used: watch::Sender<Used>,
}

#[derive(Clone, Default)]
struct Used {
    encryption: Arc<Encryption>,
    source: Option<Source>,
}

/// A value as it is to be stored.
pub(crate) struct Sealed {
    pub(crate) value: Bytes,
    /// What must still hold when it is.
    pub(crate) source: Option<Source>,
}

/// What everything that is an object has.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: IgnoredAny,
    kind: IgnoredAny,
    metadata: Named,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Named {
    name: IgnoredAny,
}

/// A value that was read.
pub(crate) struct Read {
    pub(crate) object: Object,
    /// It would be sealed otherwise now.
    pub(crate) stale: bool,
    /// It is stored in another form than ours, which is what it is read as.
    pub(crate) foreign: bool,
}

impl Codec {
    pub(crate) fn new(encryption: Arc<Encryption>) -> Self {
        Self { used: watch::Sender::new(Used { encryption, source: None }) }
    }

    pub(crate) fn replace(&self, encryption: Arc<Encryption>, source: Option<Source>) {
        self.used.send_replace(Used { encryption, source });
    }

    fn encryption(&self) -> Arc<Encryption> {
        self.used.borrow().encryption.clone()
    }

    /// Completes when the encryption is made of what its source is at `revision`, or later.
    pub(crate) async fn reaches(&self, revision: u64) {
        let reached = |used: &Used| used.source.as_ref().is_none_or(|source| source.revision >= revision);
        // The sender lives as long as this.
        let _ = self.used.subscribe().wait_for(reached).await;
    }

    /// The object that `stored` is; `key` is the whole key, `resource` the resource's name in the configuration, `form` what
    /// its objects are stored as. Without a form any object is taken as it is.
    pub(crate) fn read(
        &self,
        resource: &str,
        form: Option<&StoredForm>,
        key: &str,
        stored: Bytes,
        revision: u64,
    ) -> Result<Read, Error> {
        let opened = self.encryption().open(resource, key, stored).map_err(|err| unreadable(key, &err))?;
        if kedge_packed::is_packed(&opened.value) {
            let json = kedge_packed::plain(&opened.value).map_err(|err| unreadable(key, &err))?;
            let ours = json_of(form, key, json.clone())?;
            let foreign = ours != json;
            let object = match foreign {
                false => Object::from_packed(key, opened.value, json, revision)?,
                true => Object::from_stored(key, ours, revision)?,
            };
            return Ok(Read { object, stale: opened.stale, foreign });
        }
        let json = json_of(form, key, opened.value.clone())?;
        let json = form.and_then(|form| form.reshape(&json, revision)).unwrap_or(json);
        let foreign = json != opened.value;
        Ok(Read { object: Object::from_stored(key, json, revision)?, stale: opened.stale, foreign })
    }

    /// Whether no key that is known here opens the value.
    pub(crate) fn lacks_key(&self, resource: &str, key: &str, stored: &Bytes) -> bool {
        let sealed = stored.starts_with(crate::encryption::SEALED);
        sealed && self.encryption().open(resource, key, stored.clone()).is_err()
    }

    /// The stored form of an encoded object. What is sealed is not packed: its length would say something of it.
    pub(crate) fn write(&self, resource: &str, key: &str, json: Bytes, packed: bool) -> Result<Sealed, Error> {
        let Used { encryption, source } = self.used.borrow().clone();
        let packed = if packed && !encryption.seals(resource) { kedge_packed::pack(&json) } else { None };
        let value = match packed {
            Some(packed) => packed,
            None => encryption.seal(resource, key, json).map_err(|err| Error::Encode(err.to_string()))?,
        };
        Ok(Sealed { value, source: source.filter(|source| source.resources.contains(&resource)) })
    }
}

/// Our form of an object that may be stored in another.
fn json_of(form: Option<&StoredForm>, key: &str, stored: Bytes) -> Result<Bytes, Error> {
    match stored {
        value if value.starts_with(protobuf::MAGIC) => from_protobuf(form, key, &value),
        value if Object::is_stored_form(&value) => {
            // It is copied to clients as it is, so it has to be whole.
            let whole = serde_json::from_slice::<Head>(&value);
            whole.map_err(|e| Error::Unreadable { key: key.to_owned(), what: e.to_string() })?;
            of_its_kind(form, key, value)
        }
        value => from_json(form, key, &value),
    }
}

fn unreadable(key: &str, err: &impl ToString) -> Error {
    Error::Unreadable { key: key.to_owned(), what: err.to_string() }
}

/// What is stored under a resource is of that resource's kind. Patches could once write another kind, or a version that
/// does not exist, into an object: that is read as what it was before.
fn of_its_kind(form: Option<&StoredForm>, key: &str, json: Bytes) -> Result<Bytes, Error> {
    let Some(form) = form.filter(|form| !form.begins(&json)) else { return Ok(json) };
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let mut value: Value = serde_json::from_slice(&json).map_err(|e| fail(e.to_string()))?;
    if form.kind == *text(&value, "kind") && form.knows(text(&value, "apiVersion")) {
        return Ok(json);
    }
    value["apiVersion"] = form.api_version.as_str().into();
    value["kind"] = form.kind.as_str().into();
    encode(Some(form), &value).map_err(|e| fail(e.to_string()))
}

/// Our form of an object that has been read in another.
fn encode(form: Option<&StoredForm>, value: &Value) -> Result<Bytes, Error> {
    let ty = form.and_then(|form| form.reads(text(value, "apiVersion")).flatten());
    Object::encode(ty, value)
}

/// Upstream's servers store built-in kinds as protobuf, with every zero value written out.
fn from_protobuf(form: Option<&StoredForm>, key: &str, bytes: &[u8]) -> Result<Bytes, Error> {
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let envelope = protobuf::envelope(bytes).map_err(|e| fail(e.to_string()))?;
    let (api_version, kind) = (&envelope.api_version, &envelope.kind);
    let form = form.filter(|form| form.kind == **kind);
    let decoded = if form.is_some_and(|form| is_stored_definition(form, api_version)) {
        definition::decode(envelope.raw)
    } else {
        let ty = form
            .and_then(|form| form.reads(api_version)?)
            .ok_or_else(|| fail(format!("it is protobuf of the unknown kind {api_version} {kind}")))?;
        protobuf::decode(ty, envelope.raw)
    };
    let mut value = decoded.map_err(|e| fail(e.to_string()))?;
    value["apiVersion"] = api_version.as_str().into();
    value["kind"] = kind.as_str().into();
    complete(form, &mut value).map_err(fail)?;
    encode(form, &value).map_err(|e| fail(e.to_string()))
}

/// JSON in another form than ours. Upstream's servers begin built-in kinds with their kind, and sort all fields of
/// custom resources, so that some come before the metadata.
fn from_json(form: Option<&StoredForm>, key: &str, json: &[u8]) -> Result<Bytes, Error> {
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let mut value: Value = serde_json::from_slice(json).map_err(|e| fail(e.to_string()))?;
    complete(form, &mut value).map_err(fail)?;
    encode(form, &value).map_err(|e| fail(e.to_string()))
}

/// Upstream's servers set defaults when they read, and so store objects that lack some: a new claim has no phase.
fn complete(form: Option<&StoredForm>, value: &mut Value) -> Result<(), String> {
    let Some(form) = form else { return Ok(()) };
    let kind = text(value, "kind");
    if form.kind != *kind {
        return Err(format!("it is of the kind {kind:?}, where {} are kept", form.kind));
    }
    if is_stored_definition(form, text(value, "apiVersion")) {
        definition::to_v1(value);
    } else if form.built_in {
        former::bring_up(value);
    }
    let api_version = text(value, "apiVersion");
    let schema =
        form.reads(api_version).ok_or_else(|| format!("it is of the version {api_version:?}, which is not read"))?;
    if let Some(ty) = schema {
        kedge_schema::defaults::apply_type(ty, value);
        kedge_schema::normalize_stored(ty, value);
    }
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether objects of the form are definitions of custom resources, and this is the version in which upstream stores them.
fn is_stored_definition(form: &StoredForm, api_version: &str) -> bool {
    form.api_version == *definition::SERVED_VERSION && form.built_in && api_version == definition::STORED_VERSION
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
