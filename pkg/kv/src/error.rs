//! What can go wrong in the store.

use std::path::PathBuf;
use std::sync::Arc;

/// A failed operation of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The revision asked for has been compacted away; `compacted` is the oldest that can be read, as far as it is known.
    #[error("the required revision {requested} has been compacted; the oldest is {compacted}")]
    Compacted { requested: u64, compacted: u64 },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision { requested: u64, current: u64 },
    /// A restored store would begin beyond the last revision.
    #[error("no revisions are left to go on with after {0}")]
    Revisions(u64),
    /// A key, value or request beyond the limit.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    /// More operations than a transaction may have.
    #[error("a transaction of {count} operations exceeds the limit of {limit}")]
    TooManyOps { count: usize, limit: usize },
    /// A transaction would write one key twice.
    #[error("a transaction writes the key {0} twice")]
    DuplicateKey(String),
    /// A key must not be empty.
    #[error("a key is empty")]
    EmptyKey,
    /// There is no such lease, or it has expired.
    #[error("lease {0:x} does not exist")]
    LeaseNotFound(i64),
    /// The id of a new lease is taken.
    #[error("lease {0:x} exists already")]
    LeaseExists(i64),
    /// A lease longer than can be granted.
    #[error("a lease of {0} seconds is too long")]
    LeaseTtl(u64),
    /// The file system is nearly full, or the quota of the etcd is used up. Reads and deletions go on.
    #[error("{0}")]
    NoSpace(String),
    /// The file system failed; after a failed write the store takes no more writes until it is opened again.
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    /// A file holds what this store did not write.
    #[error("{path} is damaged at byte {offset}: {what}; restore a snapshot (to remove the file would not help)")]
    Corrupt { path: PathBuf, offset: u64, what: String },
    /// A value that another program wrote into the store, or that was damaged in memory.
    #[error(transparent)]
    Damaged(#[from] kedge_packed::Damaged),
    /// The files are of another format.
    #[error("{path} has format version {found}; this program reads version {supported}")]
    Version { path: PathBuf, found: u32, supported: u32 },
    /// Another process has the data directory.
    #[error("data directory {path} is in use by another process{holder}")]
    Locked { path: PathBuf, holder: String },
    /// The store is shutting down or has failed before.
    #[error("the store takes no more writes: {0}")]
    Closed(String),
    /// No member of the etcd answered in time, or it has no leader. `unknown`: a write may have happened all the same.
    #[error("etcd is unavailable: {what}")]
    Unavailable { what: String, unknown: bool },
    /// What the etcd is to be reached with makes no sense.
    #[error("the etcd cannot be used: {0}")]
    Settings(String),
    /// The etcd refused the credentials.
    #[error("etcd refused the credentials: {0}")]
    Unauthenticated(String),
    /// The etcd answered with something that this program does not understand.
    #[error("unexpected answer from etcd: {0}")]
    Protocol(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether a write that failed so may have happened.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Closed(_) | Self::Unavailable { unknown: true, .. })
    }

    /// Whether the same request may succeed a little later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoSpace(_))
    }
}
