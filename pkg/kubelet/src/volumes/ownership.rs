//! Giving a volume to the pod's group.
//!
//! Invariant: nothing outside of the volume is touched, whatever a container that has the volume does with it meanwhile. What is changed is
//! opened first, without following a link, and then changed as what was opened.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags};

/// Directories in directories, each of which takes a file descriptor: deeper ones are a container's joke.
const MAX_DEPTH: usize = 256;
/// The rights of a root that was given to a group.
const ROOT_MODE: u32 = 0o2770;

/// Makes `group` the owner of everything below `root`, with the rights to read and, unless `read_only`, to write.
/// New files in directories get the group as well.
///
/// # Errors
/// When something cannot be changed, or lies deeper than anybody needs.
pub(super) fn set_group(root: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let root = open(rustix::fs::CWD, root, ResolveFlags::empty())?;
    give(&root, group, read_only)?;
    if root.metadata()?.is_dir() { below(&root, &mut PathBuf::new(), 1, group, read_only) } else { Ok(()) }
}

/// Makes `group` the owner of a volume that may be written. With `when_needed` all of it is left alone when its root has the group and
/// its rights already: `OnRootMismatch`.
///
/// # Errors
/// As [`set_group`].
pub(crate) fn set_volume_group(root: &Path, group: u32, when_needed: bool) -> io::Result<()> {
    if when_needed {
        let found = fs::metadata(root)?;
        let mode = found.permissions().mode();
        if found.gid() == group && mode & ROOT_MODE == ROOT_MODE {
            return Ok(());
        }
    }
    set_group(root, group, false)
}

/// What is at a path, also if that is a link.
fn open(base: impl rustix::fd::AsFd, path: &Path, resolve: ResolveFlags) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(base, path, flags, Mode::empty(), resolve)?.into())
}

/// Another name of what is open, that no container can give to something else.
fn place(open: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

fn below(root: &File, at: &mut PathBuf, depth: usize, group: u32, read_only: bool) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{} has directories within more than {MAX_DEPTH} others", at.display())));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let entries = match at.as_os_str().is_empty() {
        true => fs::read_dir(place(root))?,
        false => fs::read_dir(place(&open(root, at, resolve)?))?,
    };
    for entry in entries {
        at.push(entry?.file_name());
        let is_dir = match open(root, at, resolve) {
            Ok(found) => {
                give(&found, group, read_only)?;
                found.metadata()?.is_dir()
            }
            // Whoever has the volume may remove what is in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if is_dir {
            below(root, at, depth + 1, group, read_only)?;
        }
        at.pop();
    }
    Ok(())
}

fn give(found: &File, group: u32, read_only: bool) -> io::Result<()> {
    let metadata = found.metadata()?;
    if metadata.gid() != group {
        rustix::fs::chownat(found, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    }
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut mask = if read_only { 0o440 } else { 0o660 };
    if metadata.is_dir() {
        mask |= 0o2110;
    }
    let mode = metadata.permissions().mode() & 0o7777;
    // A change of owner clears the set-group bit, so that the mode is always written after it.
    fs::set_permissions(place(found), fs::Permissions::from_mode(mode | mask))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn group_rights_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let group = fs::metadata(&file).unwrap().gid();
        set_group(dir.path(), group, true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&file), 0o640);
        assert_eq!(mode(dir.path()) & 0o2070, 0o2050);
    }

    #[test]
    fn a_root_that_fits_speaks_for_all_where_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let group = fs::metadata(&file).unwrap().gid();
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
        set_volume_group(dir.path(), group, true).unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        set_volume_group(dir.path(), group, true).unwrap();
        assert_eq!(mode(), 0o660);
    }

    /// CVE-2021-25741, in another place: what a container puts in the way of the kubelet must not lead it out of the volume.
    #[test]
    fn nothing_outside_of_the_volume_is_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("o"));
        for directory in [&volume, &volume.join("d"), &outside] {
            fs::create_dir(directory).unwrap();
        }
        let secret = outside.join("f");
        for file in [&secret, &volume.join("d/f"), &volume.join("f")] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink(&outside, dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("f")).unwrap();
        let group = fs::metadata(&secret).unwrap().gid();
        let ends = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let exchange = |name: &str| {
                    let (inside, link) = (volume.join(name), dir.path().join(name));
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(rustix::fs::CWD, inside, rustix::fs::CWD, link, flags).unwrap();
                };
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    ["d", "f"].into_iter().for_each(exchange);
                }
            });
            for _ in 0..3_000 {
                // It may fail, with what changes under its hands.
                let _ = set_group(&volume, group, false);
            }
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o2020, 0);
    }

    #[test]
    fn directories_lie_in_so_many_others() {
        let dir = tempfile::tempdir().unwrap();
        let deep = |depth: usize| dir.path().join(vec!["d"; depth].join("/"));
        let group = fs::metadata(dir.path()).unwrap().gid();
        fs::create_dir_all(deep(MAX_DEPTH - 1)).unwrap();
        set_group(dir.path(), group, false).unwrap();
        fs::create_dir_all(deep(MAX_DEPTH)).unwrap();
        assert!(set_group(dir.path(), group, false).is_err());
    }
}
