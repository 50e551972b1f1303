//! What can go wrong with a store and its content.

use std::path::PathBuf;

/// A failed operation; the text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kv(#[from] kedge_kv::Error),
    #[error("{path}: {source}")]
    Snapshot { path: PathBuf, source: kedge_snapshot::Error },
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("there is no store at {0}")]
    NoStore(PathBuf),
    #[error(
        "a restore was cut off and {new}, which was to become {store}, is damaged: restore the snapshot again, or rename the kv.old-… beside it to kv"
    )]
    HalfRestored { new: PathBuf, store: PathBuf },
    #[error("there is no snapshot {name:?} in {dir}; `kedge etcd-snapshot ls` lists them")]
    NoSnapshot { name: String, dir: PathBuf },
    #[error(
        "a snapshot needs about {needed} MiB and {free} MiB are free on the file system of {dir}, of which {spared} MiB are kept for the store; make room, or choose another place with --etcd-snapshot-dir"
    )]
    NoSpace { dir: PathBuf, needed: u64, free: u64, spared: u64 },
    #[error("a snapshot's name must be a file name, not {0:?}")]
    Name(String),
    #[error("{0} is no etcd; give https://host:2379")]
    NoEtcd(String),
    #[error("{target} is not empty: it holds {keys} keys, such as {example}; migrate into an empty store")]
    NotEmpty { target: String, keys: usize, example: String },
    #[error("{target} holds a migration that has not ended; run the same `kedge store migrate` again to complete it")]
    Unfinished { target: String },
    #[error("after the migration {key} is not the same in {target}; run the same command again")]
    Differs { target: String, key: String },
    #[error("the source changes while it is migrated: stop the servers that use it, then run the same command again")]
    Changing,
    #[error(
        "{store} is in use by {by}: stop all servers that use it, then run the same command again; one that was killed counts as gone after 15 seconds"
    )]
    InUse { store: String, by: String },
    /// What servers share beside the objects could not be moved.
    #[error(transparent)]
    Identity(Box<dyn std::error::Error + Send + Sync>),
    #[error("the work was given up with the process that did it")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
