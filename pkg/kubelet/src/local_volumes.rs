//! Directories of this node that are volumes: made and removed when the provisioner asks, through the API server.
//!
//! Who may ask may run anything on the node; what is checked here is that a mistake removes nothing but what was made here.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path};

/// What the names of all directories begin with that are made here.
const PREFIX: &str = "pvc-";
/// Any user may write there, since the users of containers are not known here.
const MODE: u32 = 0o777;

/// Whether a directory may be made or removed here.
///
/// # Errors
/// Why not.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let plain = path.is_absolute() && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let deep = path.parent().is_some_and(|parent| parent.parent().is_some());
    let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    if plain && deep && named {
        return Ok(());
    }
    Err(format!(
        "{} is no path of a volume: they are absolute, and their last part begins with {PREFIX}",
        path.display()
    ))
}

/// Makes the directory; one that is there stays as it is. Blocks.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::other(format!("{} is no directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::other(format!("{} has no parent", path.display())));
    };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    // Under its name it has its rights, whenever this ends.
    let unfinished = parent.join(format!(".{name}"));
    match fs::create_dir(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(MODE))?;
    fs::rename(unfinished, path)
}

/// Removes the directory with what is in it; one that is gone is no error. Links are removed, not followed. Blocks.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_looks_like_a_volume_is_touched() {
        assert!(check(Path::new("/opt/pvc-1_n_data")).is_ok());
        for bad in ["/pvc-1", "opt/pvc-1", "/opt/data", "/opt/../pvc-1", "/opt/pvc-1/..", "/", "", "/opt/./../etc/pvc-"]
        {
            assert!(check(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_is_made_for_everybody_and_goes_with_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, path) = (dir.path().join("outside"), dir.path().join("a/b/pvc-1_n_data"));
        fs::write(&outside, "stays").unwrap();
        make(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        fs::create_dir(path.join("sub")).unwrap();
        std::os::unix::fs::symlink(&outside, path.join("sub/link")).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists() && outside.exists());
        std::os::unix::fs::symlink(dir.path(), &path).unwrap();
        assert!(make(&path).is_err(), "a link is no directory of ours");
    }
}
