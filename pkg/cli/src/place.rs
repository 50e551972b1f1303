//! Whether this user may put things where the flags say, said before anything is started.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::flags::ServerFlags;

/// What a server writes into, below its data directory.
const BELOW: [&str; 4] = ["server", "server/db", "server/tls", "agent"];

/// A place that cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "a node needs root, and this is user {user}: run kedge as root, or the control plane alone with --disable-agent"
    )]
    NotRoot { user: u32 },
    #[error("cannot use the data directory {path}: {source}; choose another one with --data-dir")]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "user {user} may not write to {path} in the data directory {data_dir}: {source}; choose another directory with \
         --data-dir, or make this one the user's own with chown"
    )]
    Write { user: u32, path: PathBuf, data_dir: PathBuf, source: io::Error },
    #[error(
        "user {user} may not write the kubeconfig file {path}: {source}; choose another one with --write-kubeconfig"
    )]
    Kubeconfig { user: u32, path: PathBuf, source: io::Error },
}

impl ServerFlags {
    /// Makes the data directory and checks that it, and the place of the kubeconfig, can be written.
    ///
    /// # Errors
    /// [`PlaceError`] naming the path and the flag.
    pub fn check_places(&self) -> Result<(), PlaceError> {
        let user = rustix::process::geteuid();
        if !self.disable_agent && !user.is_root() {
            return Err(PlaceError::NotRoot { user: user.as_raw() });
        }
        let (user, data_dir) = (user.as_raw(), self.data_dir());
        std::fs::create_dir_all(&data_dir).map_err(|source| PlaceError::Create { path: data_dir.clone(), source })?;
        let below = BELOW.iter().map(|name| data_dir.join(name)).filter(|path| path.exists());
        for path in std::iter::once(data_dir.clone()).chain(below) {
            writable(&path).map_err(|source| PlaceError::Write { user, path, data_dir: data_dir.clone(), source })?;
        }
        let path = self.kubeconfig();
        // What is missing above it is made; a file in its place is replaced, which its directory must allow.
        let above = path.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(Path::new("."));
        writable(above).map_err(|source| PlaceError::Kubeconfig { user, path: path.clone(), source })
    }
}

fn writable(directory: &Path) -> io::Result<()> {
    // A relative path's last ancestor is empty.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}
