//! What can go wrong with a stored object.

use std::sync::Arc;

use kedge_kv as kv;

use crate::object::Object;

/// A failed storage operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no object under the key.
    #[error("not found")]
    NotFound,
    /// There is an object under the key.
    #[error("already exists")]
    Exists,
    /// The object is not at the revision that the writer assumed; this is what it is now.
    #[error("the object has been modified")]
    Conflict(Option<Arc<Object>>),
    /// Something else that must be free is taken (an address, a port), or has changed that must not. This is its key.
    #[error("{0} is taken or has changed")]
    Claimed(String),
    /// The version asked for is older than the history.
    #[error("too old resource version: {requested} ({oldest})")]
    TooOld { requested: u64, oldest: u64 },
    /// The version asked for has not happened yet.
    #[error("Too large resource version: {requested}, current: {current}")]
    Future { requested: u64, current: u64 },
    /// The cache did not take in in time what the store has acknowledged.
    #[error("the watch cache is at {current} and did not reach {requested} in time")]
    Behind { requested: u64, current: u64 },
    /// The store holds something under this key that is no object this program can read.
    #[error("unable to transform key {key:?}: {what}")]
    Unreadable { key: String, what: String },
    /// Another server has changed the encryption, and this one did not learn how in time.
    #[error("the encryption was changed at revision {0}, which has not been taken over yet")]
    Outdated(u64),
    /// The resource is no longer kept: it was removed after whoever asks had found it.
    #[error("the resource has been removed")]
    Removed,
    /// A resource cannot be kept where another one is, nor above or below it.
    #[error("{wanted} cannot be kept beside {taken}")]
    Overlap { wanted: String, taken: String },
    /// The value could not be written as JSON.
    #[error("cannot encode the object: {0}")]
    Encode(String),
    /// The store failed.
    #[error(transparent)]
    Kv(kv::Error),
}

impl From<kv::Error> for Error {
    fn from(err: kv::Error) -> Self {
        match err {
            kv::Error::Compacted { requested, compacted } => Self::TooOld { requested, oldest: compacted },
            kv::Error::FutureRevision { requested, current } => Self::Future { requested, current },
            other => Self::Kv(other),
        }
    }
}
