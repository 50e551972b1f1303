//! Writing a set of files so that readers see all of the old or all of the new, never a mix.
//!
//! The files live in a directory with the time in its name; `..data` links to it and is swapped by one rename; what
//! users see are links through `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileProjection {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
    /// The user who is to own it, if not root.
    pub(super) owner: Option<u32>,
}

/// Files by relative path.
pub(super) type Payload = BTreeMap<String, FileProjection>;

/// Makes the directory show exactly `payload`. `prepare` is called with the new files' directory before they are shown.
/// Returns whether anything changed.
pub(super) fn write(
    target: &Path,
    payload: &Payload,
    now: Timestamp,
    prepare: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    payload.keys().try_for_each(|path| validate(path))?;
    let link = target.join(DATA);
    let old = match fs::read_link(&link) {
        Ok(name) => Some(target.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let visible: BTreeSet<String> = payload.keys().filter_map(|path| first_component(path)).collect();
    if let Some(old) = &old
        && old.is_dir()
        && shown(old, payload)?
    {
        // A crash may have come between the swap and the links.
        link_visible(target, &visible)?;
        return Ok(false);
    }
    let name = directory_name(now);
    let fresh = target.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    write_files(&fresh, payload)?;
    prepare(&fresh)?;
    let swap = target.join(DATA_NEW);
    remove_file(&swap)?;
    symlink(&name, &swap)?;
    fs::rename(&swap, &link)?;
    link_visible(target, &visible)?;
    remove_stale(target, &visible, &name)?;
    Ok(true)
}

fn validate(path: &str) -> io::Result<()> {
    let bad = |reason: &str| Err(io::Error::other(format!("invalid path {path:?}: {reason}")));
    if path.is_empty() || path.len() > 4096 {
        return bad("must not be empty nor longer than 4096 characters");
    }
    if path.starts_with('/') {
        return bad("must be a relative path");
    }
    if Path::new(path).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return bad("must not contain '..'");
    }
    if path.starts_with("..") {
        return bad("must not start with '..'");
    }
    Ok(())
}

fn first_component(path: &str) -> Option<String> {
    let first = Path::new(path).components().find(|c| matches!(c, Component::Normal(_)))?;
    first.as_os_str().to_str().map(str::to_string)
}

fn directory_name(now: Timestamp) -> String {
    let suffix = kedge_base::random::u64() % 10_000_000_000;
    format!("..{}.{suffix}", now.strftime("%Y_%m_%d_%H_%M_%S"))
}

/// Whether `directory` holds exactly the payload.
fn shown(directory: &Path, payload: &Payload) -> io::Result<bool> {
    let mut files = BTreeSet::new();
    collect(directory, directory, &mut files)?;
    if files.len() != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        let normal: PathBuf = Path::new(path).components().filter(|c| *c != Component::CurDir).collect();
        if !files.contains(&normal) || fs::read(directory.join(&normal))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(root: &Path, directory: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.insert(relative.to_path_buf());
        }
    }
    Ok(())
}

fn write_files(directory: &Path, payload: &Payload) -> io::Result<()> {
    for (path, file) in payload {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path)?;
        out.write_all(&file.data)?;
        // The mode at creation is subject to the umask.
        out.set_permissions(fs::Permissions::from_mode(file.mode))?;
        if file.owner.is_some() {
            chown(&path, file.owner, None)?;
        }
    }
    Ok(())
}

fn link_visible(target: &Path, visible: &BTreeSet<String>) -> io::Result<()> {
    for name in visible {
        match symlink(Path::new(DATA).join(name), target.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes links to what is no more, and directories that a new one has replaced.
fn remove_stale(target: &Path, visible: &BTreeSet<String>, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == DATA || name == current || visible.contains(&name) {
            continue;
        }
        if name.starts_with("..") && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_type()?.is_symlink() {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| FileProjection { data: data.into(), mode: 0o640, owner: None };
        files.iter().map(|(path, data)| (path.to_string(), file(data))).collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|n| !n.starts_with("..2"));
        names.sort();
        names
    }

    #[test]
    fn swaps_whole_sets_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let nothing = |_: &Path| Ok(());
        let first = payload(&[("a", "1"), ("d/b", "2")]);
        assert!(write(dir.path(), &first, now, &nothing).unwrap());
        assert_eq!(names(dir.path()), ["..data", "a", "d"]);
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!write(dir.path(), &first, now, &nothing).unwrap(), "nothing changed");
        assert!(write(dir.path(), &payload(&[("a", "3"), ("c", "4")]), now, &nothing).unwrap());
        assert_eq!(names(dir.path()), ["..data", "a", "c"]);
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        let directories =
            fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir());
        assert_eq!(directories.count(), 1, "the old set is gone");
    }

    #[test]
    fn an_empty_set_and_bad_paths() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert!(write(dir.path(), &Payload::new(), now, &|_| Ok(())).unwrap());
        assert_eq!(names(dir.path()), ["..data"]);
        for bad in ["/a", "../a", "a/../b", "..a", ""] {
            assert!(write(dir.path(), &payload(&[(bad, "")]), now, &|_| Ok(())).is_err(), "{bad}");
        }
    }
}
