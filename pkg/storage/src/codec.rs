//! Between what the store holds and the JSON that everything above it sees.
//!
//! A stored value may be plain JSON, sealed, or protobuf that a stock API server wrote.

use std::sync::Arc;

use bytes::Bytes;
use kedge_schema::protobuf;
use parking_lot::RwLock;

use crate::encryption::{Encryption, OpenError};
use crate::error::Error;
use crate::object::Object;

/// Reads and writes stored values; the encryption may change while it is in use.
#[derive(Default)]
pub(crate) struct Codec {
    encryption: RwLock<Arc<Encryption>>,
}

/// A value that was read.
pub(crate) struct Read {
    pub(crate) object: Object,
    /// It would be written otherwise now.
    pub(crate) stale: bool,
}

impl Codec {
    pub(crate) fn new(encryption: Arc<Encryption>) -> Self {
        Self { encryption: RwLock::new(encryption) }
    }

    pub(crate) fn replace(&self, encryption: Arc<Encryption>) {
        *self.encryption.write() = encryption;
    }

    pub(crate) fn encryption(&self) -> Arc<Encryption> {
        self.encryption.read().clone()
    }

    /// The object that `stored` is; `key` is the whole key, `resource` the resource's name in the configuration.
    pub(crate) fn read(&self, resource: &str, key: &str, stored: Bytes, revision: u64) -> Result<Read, Error> {
        let opened = self.encryption().open(resource, key, stored).map_err(|err| unreadable(key, &err))?;
        let json =
            if opened.value.starts_with(protobuf::MAGIC) { from_protobuf(key, &opened.value)? } else { opened.value };
        Ok(Read { object: Object::from_stored(key, json, revision)?, stale: opened.stale })
    }

    /// Whether no key that is known here opens the value.
    pub(crate) fn lacks_key(&self, resource: &str, key: &str, stored: &Bytes) -> bool {
        let sealed = stored.starts_with(crate::encryption::SEALED);
        sealed && self.encryption().open(resource, key, stored.clone()).is_err()
    }

    /// The stored form of an encoded object.
    pub(crate) fn write(&self, resource: &str, key: &str, json: Bytes) -> Result<Bytes, Error> {
        self.encryption().seal(resource, key, json).map_err(|err| Error::Encode(err.to_string()))
    }
}

fn unreadable(key: &str, err: &OpenError) -> Error {
    Error::Unreadable { key: key.to_owned(), what: err.to_string() }
}

/// Upstream's servers store built-in kinds as protobuf, with every zero value written out.
fn from_protobuf(key: &str, bytes: &[u8]) -> Result<Bytes, Error> {
    let fail = |what: String| Error::Unreadable { key: key.to_owned(), what };
    let envelope = protobuf::envelope(bytes).map_err(|e| fail(e.to_string()))?;
    let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
    let ty = kedge_schema::kind(group, version, &envelope.kind).ok_or_else(|| {
        fail(format!("it is protobuf of the unknown kind {} {}", envelope.api_version, envelope.kind))
    })?;
    let mut value = protobuf::decode(ty, envelope.raw).map_err(|e| fail(e.to_string()))?;
    kedge_schema::normalize(ty, &mut value);
    value["apiVersion"] = envelope.api_version.into();
    value["kind"] = envelope.kind.into();
    Object::encode(&value)
}
