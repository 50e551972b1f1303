//! Where things are below the data directory.

use std::path::{Path, PathBuf};

/// The places of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    /// Of a data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where the embedded store and what becomes it are.
    pub(crate) fn db(&self) -> PathBuf {
        self.data_dir.join("server/db")
    }

    /// The embedded store.
    pub fn store(&self) -> PathBuf {
        self.db().join("kv")
    }

    /// A complete store that is about to take the place of the one that is there.
    pub(crate) fn new_store(&self) -> PathBuf {
        self.db().join("kv.new")
    }

    /// The same while it is written, as the engine names it.
    pub(crate) fn half_store(&self) -> PathBuf {
        self.db().join("kv.new.restoring")
    }

    /// Snapshots, unless another place is given.
    pub fn snapshots(&self) -> PathBuf {
        self.db().join("snapshots")
    }
}
