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

    /// The embedded store.
    pub fn store(&self) -> PathBuf {
        self.data_dir.join("server/db/kv")
    }

    /// Snapshots, unless another place is given.
    pub fn snapshots(&self) -> PathBuf {
        self.data_dir.join("server/db/snapshots")
    }
}
