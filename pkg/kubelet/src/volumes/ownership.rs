//! Giving a volume to the pod's group.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Makes `group` the owner of everything below `root`, with the rights to read and, unless `read_only`, to write.
/// New files in directories get the group as well.
pub(super) fn set_group(root: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let metadata = fs::symlink_metadata(root)?;
    if metadata.gid() != group {
        lchown(root, None, Some(group))?;
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
    fs::set_permissions(root, fs::Permissions::from_mode(mode | mask))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(root)? {
            set_group(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
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
}
