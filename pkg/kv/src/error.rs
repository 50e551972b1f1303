//! What can go wrong in the store.

use std::path::PathBuf;
use std::sync::Arc;

/// A failed operation of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The revision asked for has been compacted away.
    #[error("the required revision {requested} has been compacted; the oldest is {compacted}")]
    Compacted { requested: u64, compacted: u64 },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision { requested: u64, current: u64 },
    /// A key or value beyond the limit.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    /// The file system failed; after a failed write the store takes no more writes until it is opened again.
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    /// A file holds what this store did not write.
    #[error("{path} is damaged at byte {offset}: {what}; restore a snapshot or move the file away")]
    Corrupt { path: PathBuf, offset: u64, what: String },
    /// The files are of another format.
    #[error("{path} has format version {found}; this program reads version {supported}")]
    Version { path: PathBuf, found: u32, supported: u32 },
    /// Another process has the data directory.
    #[error("data directory {path} is in use by another process{holder}")]
    Locked { path: PathBuf, holder: String },
    /// The store is shutting down or has failed before.
    #[error("the store takes no more writes: {0}")]
    Closed(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}
