//! Directories of a hierarchy: made, listed and removed from the leaves up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a group.
pub(super) fn directory(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Removes a directory and all below; control groups have files that cannot be removed, only their directories can.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names of the directories below.
pub(super) fn children(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Writes one value, unless the file has it already.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    if fs::read_to_string(&path).is_ok_and(|have| have.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// One number of a file of `name value` lines, or of a file that holds one number.
pub(super) fn number(path: &Path, name: Option<&str>) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    match name {
        None => text.trim().parse().ok(),
        Some(name) => {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        }
    }
}
