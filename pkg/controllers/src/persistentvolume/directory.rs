//! Deletes the directory of a volume on this machine. That is for tests on one node, as upstream's is, and so it is done below `/tmp`
//! alone.
//!
//! Invariant: nothing outside `/tmp` is deleted, whatever links anybody has put there: the way to the directory has none, and what is
//! found in it is not followed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Where volumes may be deleted.
const BELOW: &str = "/tmp";

/// Why a directory was not deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    #[error("host_path deleter only supports /tmp/.+ but received provided {0}")]
    Elsewhere(String),
    #[error("cannot delete {path}: {source}")]
    Io { path: String, source: io::Error },
}

/// The path below [`BELOW`], as the directory that it is in and its name there.
fn split(path: &str) -> Option<(PathBuf, &OsStr)> {
    let below = Path::new(path).strip_prefix(BELOW).ok()?;
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    Some((below.parent()?.to_owned(), below.file_name()?)).filter(|_| plain)
}

/// Deletes what is at `path`, which may be gone already. It blocks.
pub(super) fn delete(path: &str) -> Result<(), DirectoryError> {
    let (parent, name) = split(path).ok_or_else(|| DirectoryError::Elsewhere(path.to_owned()))?;
    match delete_in(&parent, name) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| DirectoryError::Io { path: path.to_owned(), source }),
    }
}

fn delete_in(parent: &Path, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let base = rustix::fs::open(BELOW, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = rustix::fs::openat2(&base, parent, flags, Mode::empty(), resolve)?;
    // By the descriptor, so that what was looked at is what is deleted.
    let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_below_tmp_is_deleted() {
        for path in ["/tmp", "/tmp/", "/var/tmp/x", "/tmpx/y", "/tmp/../etc/x", "/tmp/x/../../etc", "tmp/x", ""] {
            let said = delete(path).unwrap_err().to_string();
            assert_eq!(said, format!("host_path deleter only supports /tmp/.+ but received provided {path}"));
        }
    }

    #[test]
    fn links_lead_nowhere() {
        let dir = tempfile::Builder::new().prefix("kedge-directory-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("kept/inside")).unwrap();
        fs::create_dir_all(at("volume/data")).unwrap();
        std::os::unix::fs::symlink(at("kept"), at("volume/link")).unwrap();
        std::os::unix::fs::symlink(at("kept"), at("way")).unwrap();
        let delete = |name: &str| delete(&at(name).to_string_lossy());
        assert!(delete("way/inside").unwrap_err().to_string().starts_with("cannot delete /tmp/"));
        delete("volume").unwrap();
        delete("volume").unwrap();
        delete("way").unwrap();
        assert!(at("kept/inside").is_dir() && !at("volume").exists() && fs::symlink_metadata(at("way")).is_err());
    }
}
