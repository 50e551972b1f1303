//! Removing what is left of a pod, and nothing that is mounted in it.
//!
//! Invariant: no mount is entered. Something may be mounted there in this very moment, by a driver or a `mount` that somebody who is gone
//! began; what is in it is the user's, and stays. Links are removed, not followed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;

/// Directories within directories, each of which takes a file descriptor. What lies deeper is brought up first.
const MAX_DEPTH: usize = 64;

/// Removes a directory with what is in it; one that is gone is no error. Blocks.
///
/// # Errors
/// When something is mounted in it, or cannot be removed.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match openat2(CWD, directory, flags, Mode::empty(), ResolveFlags::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(named(error, directory)),
    };
    let mut removal = Removal { root: &root, moved: 0 };
    // What was brought up is there for the next pass.
    while removal.pass(&root, 0).map_err(|error| named(error, directory))? {}
    unlinkat(CWD, directory, AtFlags::REMOVEDIR).map_err(|error| named(error, directory))
}

fn named(error: Errno, directory: &Path) -> io::Error {
    let why = match error {
        Errno::XDEV | Errno::BUSY => "something is mounted in it".to_owned(),
        other => other.to_string(),
    };
    io::Error::other(format!("cannot remove {}: {why}", directory.display()))
}

struct Removal<'a> {
    root: &'a OwnedFd,
    moved: u64,
}

impl Removal<'_> {
    /// Empties a directory, but for what it brings up to the root; whether there was such.
    fn pass(&mut self, directory: &OwnedFd, depth: usize) -> Result<bool, Errno> {
        let mut again = false;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) if depth >= MAX_DEPTH => {
                    self.bring_up(directory, name)?;
                    again = true;
                }
                Err(Errno::ISDIR) => again |= self.descend(directory, name, depth)?,
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }

    fn descend(&mut self, parent: &OwnedFd, name: &CStr, depth: usize) -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let child = match openat2(parent, name, flags, Mode::empty(), resolve) {
            Ok(child) => child,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error),
        };
        let again = self.pass(&child, depth + 1)?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(again),
            Err(error) => Err(error),
        }
    }

    fn bring_up(&mut self, parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let to = format!(".removed-{}", self.moved);
            match renameat(parent.as_fd(), name, self.root.as_fd(), to.as_str()) {
                // One of that name that is not empty was brought up before.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("r"), dir.path().join("o"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), "stays").unwrap();
        fs::write(root.join("a/f"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        remove(&root).unwrap();
        remove(&root).unwrap();
        assert!(!root.exists() && outside.join("f").exists());
    }

    #[test]
    fn however_deep_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("r");
        fs::create_dir_all(root.join(vec!["d"; 1_000].join("/"))).unwrap();
        remove(&root).unwrap();
        assert!(!root.exists());
    }

    /// A mount that came late was entered, and what it showed was deleted.
    #[test]
    fn what_is_mounted_is_not_entered() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: left out");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (root, export) = (dir.path().join("r"), dir.path().join("e"));
        fs::create_dir_all(root.join("v")).unwrap();
        fs::create_dir(&export).unwrap();
        fs::write(export.join("f"), "the user's").unwrap();
        rustix::mount::mount_bind(&export, root.join("v")).unwrap();
        let refused = remove(&root).map_err(|error| error.to_string());
        rustix::mount::unmount(root.join("v"), rustix::mount::UnmountFlags::empty()).unwrap();
        assert!(refused.unwrap_err().contains("something is mounted in it"));
        assert_eq!(fs::read_to_string(export.join("f")).unwrap(), "the user's");
    }
}
