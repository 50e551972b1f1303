//! `hostPath`: the path itself, after a check of what is there.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks, and for the `...OrCreate` types makes, what the volume names.
///
/// # Errors
/// Upstream's message.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("hostPath type check failed: {} {what}", path.display()));
    let io = |error: std::io::Error| error.to_string();
    let found = fs::metadata(path).ok();
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" => match found {
            Some(found) if found.is_dir() => Ok(()),
            Some(_) => fail("is not a directory"),
            None => fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io),
        },
        "FileOrCreate" => match found {
            Some(found) if found.is_file() => Ok(()),
            Some(_) => fail("is not a file"),
            None => {
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(0o644);
                options.open(path).map(drop).map_err(io)
            }
        },
        "Directory" if found.as_ref().is_some_and(|f| f.is_dir()) => Ok(()),
        "Directory" => fail("is not a directory"),
        "File" if found.as_ref().is_some_and(|f| f.is_file()) => Ok(()),
        "File" => fail("is not a file"),
        "Socket" if found.as_ref().is_some_and(|f| f.file_type().is_socket()) => Ok(()),
        "Socket" => fail("is not a socket file"),
        "CharDevice" if found.as_ref().is_some_and(|f| f.file_type().is_char_device()) => Ok(()),
        "CharDevice" => fail("is not a character device"),
        "BlockDevice" if found.as_ref().is_some_and(|f| f.file_type().is_block_device()) => Ok(()),
        "BlockDevice" => fail("is not a block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(
            check(&at("x"), "Directory"),
            Err(format!("hostPath type check failed: {} is not a directory", at("x").display()))
        );
        check(&at("d/e"), "DirectoryOrCreate").unwrap();
        check(&at("d/e"), "Directory").unwrap();
        check(&at("f"), "FileOrCreate").unwrap();
        check(&at("f"), "File").unwrap();
        check(Path::new("/dev/null"), "CharDevice").unwrap();
        assert!(check(&at("f"), "Socket").is_err() && check(&at("f"), "DirectoryOrCreate").is_err());
        check(&at("absent"), "").unwrap();
    }
}
