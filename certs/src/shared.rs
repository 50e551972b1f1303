//! What all servers of a cluster must have in common.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::files::{create_private_dir, read_if_there, write_atomically};

/// Authorities and the key of service account tokens. Leaves are each server's own.
const FILES: [&str; 7] = [
    "server-ca.crt",
    "server-ca.key",
    "client-ca.crt",
    "client-ca.key",
    "request-header-ca.crt",
    "request-header-ca.key",
    "service.key",
];

/// The shared files of a directory, by name.
///
/// # Errors
/// When one cannot be read.
pub fn export(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut files = BTreeMap::new();
    for name in FILES {
        if let Some(content) = read_if_there(&dir.join(name))? {
            files.insert(name.to_owned(), content);
        }
    }
    Ok(files)
}

/// Puts shared files into a directory; what is there already must be the same.
///
/// # Errors
/// [`Error::Differs`] for a file that is there and is another; then nothing is written.
pub fn import(dir: &Path, files: &BTreeMap<String, String>) -> Result<(), Error> {
    create_private_dir(dir)?;
    let mut missing = Vec::new();
    for (name, content) in files.iter().filter(|(name, _)| FILES.contains(&name.as_str())) {
        let path = dir.join(name);
        match read_if_there(&path)? {
            Some(there) if there == *content => {}
            Some(_) => return Err(Error::Differs { path }),
            None => missing.push((path, content)),
        }
    }
    for (path, content) in missing {
        let mode = if path.extension().is_some_and(|e| e == "key") { 0o600 } else { 0o644 };
        write_atomically(&path, content.as_bytes(), mode)?;
    }
    Ok(())
}

/// Removes all certificates and keys of a directory that nobody has used yet.
///
/// # Errors
/// When one cannot be removed.
pub fn forget(dir: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { action: "clear", path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "key" || e == "crt") {
            std::fs::remove_file(&path).map_err(io)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Pki;

    #[test]
    fn a_second_server_gets_the_same_identity_and_never_loses_its_own() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let first = Pki::open(one.path(), now).unwrap();
        let files = export(one.path()).unwrap();
        assert_eq!(files.len(), FILES.len());
        import(two.path(), &files).unwrap();
        let second = Pki::open(two.path(), now).unwrap();
        assert_eq!(first.server_ca.certificate, second.server_ca.certificate);
        let third = tempfile::tempdir().unwrap();
        Pki::open(third.path(), now).unwrap();
        assert!(matches!(import(third.path(), &files), Err(Error::Differs { .. })));
    }
}
