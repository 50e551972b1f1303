//! Between what the store holds and the JSON that everything above it sees.
//!
//! A stored value may be plain JSON, sealed, or protobuf that a stock API server wrote.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use kedge_meta::{GroupResource, GroupVersion};
use kedge_schema::{ResourceInfo, TypeId, definition, former, protobuf};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::watch;

use crate::encryption::{Encryption, OpenError};
use crate::error::Error;
use crate::object::Object;

/// Versions that are served, and have other fields than the one that is stored for them.
const CONVERTED: [&str; 2] = ["autoscaling/v1", "events.k8s.io/v1"];

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
    /// It would be written otherwise now.
    pub(crate) stale: bool,
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

    /// The object that `stored` is; `key` is the whole key, `resource` the resource's name in the configuration.
    pub(crate) fn read(&self, resource: &str, key: &str, stored: Bytes, revision: u64) -> Result<Read, Error> {
        let opened = self.encryption().open(resource, key, stored).map_err(|err| unreadable(key, &err))?;
        let json = match opened.value {
            value if value.starts_with(protobuf::MAGIC) => from_protobuf(key, &value)?,
            value if Object::is_stored_form(&value) => {
                // It is copied to clients as it is, so it has to be whole.
                let whole = serde_json::from_slice::<Head>(&value);
                whole.map_err(|e| Error::Unreadable { key: key.to_owned(), what: e.to_string() })?;
                of_its_kind(resource, key, value)?
            }
            value => from_json(key, &value)?,
        };
        Ok(Read { object: Object::from_stored(key, json, revision)?, stale: opened.stale })
    }

    /// Whether no key that is known here opens the value.
    pub(crate) fn lacks_key(&self, resource: &str, key: &str, stored: &Bytes) -> bool {
        let sealed = stored.starts_with(crate::encryption::SEALED);
        sealed && self.encryption().open(resource, key, stored.clone()).is_err()
    }

    /// The stored form of an encoded object.
    pub(crate) fn write(&self, resource: &str, key: &str, json: Bytes) -> Result<Sealed, Error> {
        let Used { encryption, source } = self.used.borrow().clone();
        let value = encryption.seal(resource, key, json).map_err(|err| Error::Encode(err.to_string()))?;
        Ok(Sealed { value, source: source.filter(|source| source.resources.contains(&resource)) })
    }
}

fn unreadable(key: &str, err: &OpenError) -> Error {
    Error::Unreadable { key: key.to_owned(), what: err.to_string() }
}

/// What is stored under a resource is of that resource's kind. Patches could once write another kind, or a version that
/// does not exist, into an object: that is read as what it was before.
fn of_its_kind(resource: &str, key: &str, json: Bytes) -> Result<Bytes, Error> {
    /// For each resource what its objects begin with, and what they are.
    static KINDS: LazyLock<HashMap<String, (Vec<u8>, &'static ResourceInfo)>> = LazyLock::new(|| {
        let stored = kedge_schema::resources().iter().filter(|r| r.is_stored());
        let of = |r: &'static ResourceInfo| {
            let version = GroupVersion::new(&r.storage_group, &r.storage_version);
            let head = format!("{{\"apiVersion\":\"{version}\",\"kind\":\"{}\",", r.kind);
            (GroupResource::new(&r.storage_group, &r.plural).to_string(), (head.into_bytes(), r))
        };
        stored.map(of).collect()
    });
    let Some((head, info)) = KINDS.get(resource) else { return Ok(json) };
    if json.starts_with(head) {
        return Ok(json);
    }
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let mut value: Value = serde_json::from_slice(&json).map_err(|e| fail(e.to_string()))?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = split(text("apiVersion"));
    let versions = || kedge_schema::resources().iter().filter(|r| r.group == group && r.kind == info.kind);
    let former = former::successor(group, version, &info.kind).is_some();
    let known = former || versions().any(|r| r.version == version || r.storage_version == version);
    if info.kind == text("kind") && known {
        return Ok(json);
    }
    value["apiVersion"] = GroupVersion::new(&info.storage_group, &info.storage_version).to_string().into();
    value["kind"] = (&info.kind).into();
    Object::encode(&value).map_err(|e| fail(e.to_string()))
}

/// Upstream's servers store built-in kinds as protobuf, with every zero value written out.
fn from_protobuf(key: &str, bytes: &[u8]) -> Result<Bytes, Error> {
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let envelope = protobuf::envelope(bytes).map_err(|e| fail(e.to_string()))?;
    let is_definition = is_stored_definition(&envelope.api_version, &envelope.kind);
    let decoded = if is_definition {
        definition::decode(envelope.raw)
    } else {
        let ty = stored_type(&envelope.api_version, &envelope.kind).ok_or_else(|| {
            fail(format!("it is protobuf of the unknown kind {} {}", envelope.api_version, envelope.kind))
        })?;
        protobuf::decode(ty, envelope.raw)
    };
    let mut value = decoded.map_err(|e| fail(e.to_string()))?;
    value["apiVersion"] = envelope.api_version.into();
    value["kind"] = envelope.kind.into();
    complete(&mut value).map_err(fail)?;
    Object::encode(&value).map_err(|e| fail(e.to_string()))
}

/// JSON in another form than ours. Upstream's servers begin built-in kinds with their kind, and sort all fields of
/// custom resources, so that some come before the metadata.
fn from_json(key: &str, json: &[u8]) -> Result<Bytes, Error> {
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let mut value: Value = serde_json::from_slice(json).map_err(|e| fail(e.to_string()))?;
    complete(&mut value).map_err(fail)?;
    Object::encode(&value).map_err(|e| fail(e.to_string()))
}

/// Upstream's servers set defaults when they read, and so store objects that lack some: a new claim has no phase.
fn complete(value: &mut Value) -> Result<(), String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut api_version, kind) = (text(value, "apiVersion"), text(value, "kind"));
    if is_stored_definition(&api_version, &kind) {
        definition::to_v1(value);
        definition::SERVED_VERSION.clone_into(&mut api_version);
    } else {
        former::bring_up(value);
        api_version = text(value, "apiVersion");
    }
    match stored_type(&api_version, &kind) {
        Some(ty) => {
            kedge_schema::defaults::apply_type(ty, value);
            kedge_schema::normalize_stored(ty, value);
            Ok(())
        }
        None if is_built_in(&api_version, &kind) => {
            Err(format!("it is of the version {api_version}, which is not read"))
        }
        None => Ok(()),
    }
}

/// The type of a stored version. One that is stored but not served has the fields of the version that is, and so have
/// some that were stored once, and those that newer servers store.
fn stored_type(api_version: &str, kind: &str) -> Option<TypeId> {
    if CONVERTED.contains(&api_version) {
        return None;
    }
    let (group, version) = split(api_version);
    kedge_schema::kind(group, version, kind)
        .or_else(|| {
            let stored = |r: &&ResourceInfo| r.storage_group == group && r.storage_version == version && r.kind == kind;
            kedge_schema::resources().iter().find(stored)?.schema.builtin()
        })
        .or_else(|| former::successor(group, version, kind)?.schema.builtin())
}

/// Whether that is upstream's kind, in whatever version: groups of custom resources have a dot in their name.
fn is_built_in(api_version: &str, kind: &str) -> bool {
    let (group, _) = split(api_version);
    !group.contains('.') || kedge_schema::resources().iter().any(|r| r.group == group && r.kind == kind)
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn is_stored_definition(api_version: &str, kind: &str) -> bool {
    api_version == definition::STORED_VERSION && kind == "CustomResourceDefinition"
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
