//! What all servers of a cluster must have in common, and how other authorities take its place.
//!
//! Authorities that took the place of others name the files that they replaced: those give way to them, and nothing else does.
//! Files of a directory are replaced one by one; who is cut off in between goes on at its next start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::error::Error;
use crate::files::{create_private_dir, digest, read_if_there, write_atomically};
use crate::inventory;

/// The key of service account tokens.
pub(crate) const SERVICE_KEY: &str = "service.key";
/// Authorities and the key of service account tokens. Leaves are each server's own.
const FILES: [&str; 7] = [
    "server-ca.crt",
    "server-ca.key",
    "client-ca.crt",
    "client-ca.key",
    "request-header-ca.crt",
    "request-header-ca.key",
    SERVICE_KEY,
];
/// An authority that is a server's own.
const OWN: [&str; 2] = ["etcd-client-ca.crt", "etcd-client-ca.key"];
/// The digests of files that gave way, a line each.
const REPLACED: &str = "replaced";
/// So many are remembered: those of some ten rotations.
const REMEMBERED: usize = 96;

/// The shared files of a directory, by name.
///
/// # Errors
/// When one cannot be read.
pub fn export(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    read(dir, FILES.iter().chain([&REPLACED]))
}

/// Whether a file is one of an authority, or the key of tokens.
pub(crate) fn is_known(file: &str) -> bool {
    FILES.iter().chain(&OWN).any(|known| *known == file)
}

/// What a server keeps that shares its authorities with nobody.
///
/// # Errors
/// As [`export`].
pub fn kept(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    read(dir, FILES.iter().chain(&OWN).chain([&REPLACED]))
}

/// The files of authorities in a directory, also of those that are not shared.
pub(crate) fn all_of(dir: &Path) -> Result<BTreeMap<String, String>, Error> {
    read(dir, FILES.iter().chain(&OWN))
}

fn read<'a>(dir: &Path, names: impl Iterator<Item = &'a &'a str>) -> Result<BTreeMap<String, String>, Error> {
    let mut files = BTreeMap::new();
    for name in names {
        if let Some(content) = read_if_there(&dir.join(name))? {
            files.insert((*name).to_owned(), content);
        }
    }
    Ok(files)
}

/// Puts shared files into a directory; what is there already must be the same, or what they took the place of. What goes is
/// copied before. Tells whether something went.
///
/// # Errors
/// [`Error::Differs`] for a file that is there and is another; then nothing is written.
pub fn import(dir: &Path, files: &BTreeMap<String, String>, now: OffsetDateTime) -> Result<bool, Error> {
    create_private_dir(dir)?;
    let replaced = files.get(REPLACED).map(String::as_str).unwrap_or_default();
    let (mut missing, mut goes) = (Vec::new(), false);
    for (name, content) in files.iter().filter(|(name, _)| is_known(name)) {
        let path = dir.join(name);
        match read_if_there(&path)? {
            Some(there) if there == *content => {}
            Some(there) if replaced.lines().any(|line| line == digest(&there)) => {
                goes = true;
                missing.push((path, content));
            }
            Some(_) => return Err(Error::Differs { path }),
            None => missing.push((path, content)),
        }
    }
    if goes {
        inventory::back_up(dir, now)?;
    }
    // First of all: the files that are replaced are known again whenever this is cut off.
    if !replaced.is_empty() {
        write_atomically(&dir.join(REPLACED), replaced.as_bytes(), 0o600)?;
    }
    for (path, content) in missing {
        let mode = if path.extension().is_some_and(|e| e == "key") { 0o600 } else { 0o644 };
        write_atomically(&path, content.as_bytes(), mode)?;
    }
    Ok(goes)
}

/// Files that have taken the place of others, with the note of which.
pub fn replacing(before: &BTreeMap<String, String>, then: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let known = before.get(REPLACED).map(String::as_str).unwrap_or_default();
    let changed = before.iter().filter(|(name, content)| *name != REPLACED && then.get(*name) != Some(content));
    let mut lines: Vec<String> = known.lines().map(str::to_owned).collect();
    lines.extend(changed.map(|(_, content)| digest(content)));
    lines.drain(..lines.len().saturating_sub(REMEMBERED));
    let mut then = then;
    then.insert(REPLACED.to_owned(), lines.join("\n") + "\n");
    then
}

/// The digests of what gave way in a directory.
///
/// # Errors
/// When that cannot be read.
pub(crate) fn replaced(dir: &Path) -> Result<Vec<String>, Error> {
    let text = read_if_there(&dir.join(REPLACED))?.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// Where files wait for the next start that are to take the place of a directory's.
fn waiting(dir: &Path) -> PathBuf {
    dir.with_file_name("tls-next")
}

/// Whether files wait for the next start.
pub fn is_waiting(dir: &Path) -> bool {
    waiting(dir).is_dir()
}

/// Leaves files for the next start; either all of them or none.
///
/// # Errors
/// When some wait already, or these cannot be written.
pub fn leave(dir: &Path, files: &BTreeMap<String, String>) -> Result<(), Error> {
    let (to, making) = (waiting(dir), dir.with_file_name("tls-next.tmp"));
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    match std::fs::remove_dir_all(&making) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &making)(err)),
        _ => {}
    }
    create_private_dir(&making)?;
    for (name, content) in files {
        write_atomically(&making.join(name), content.as_bytes(), 0o600)?;
    }
    // Onto a directory with something in it nothing is renamed.
    std::fs::rename(&making, &to).map_err(io("create", &to))?;
    let above = to.parent().unwrap_or(Path::new("."));
    std::fs::File::open(above).and_then(|dir| dir.sync_all()).map_err(io("sync", above))
}

/// Takes the files that wait for this start. Tells whether there were any.
///
/// # Errors
/// When that fails; it is tried again then at the next start.
pub fn take_waiting(dir: &Path, now: OffsetDateTime) -> Result<bool, Error> {
    let from = waiting(dir);
    if !from.is_dir() {
        return Ok(false);
    }
    let files = kept(&from)?;
    import(dir, &files, now)?;
    std::fs::remove_dir_all(&from).map_err(|source| Error::Io { action: "remove", path: from, source })?;
    Ok(true)
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
        import(two.path(), &files, now).unwrap();
        let second = Pki::open(two.path(), now).unwrap();
        assert_eq!(first.server_ca.certificate, second.server_ca.certificate);
        let third = tempfile::tempdir().unwrap();
        Pki::open(third.path(), now).unwrap();
        assert!(matches!(import(third.path(), &files, now), Err(Error::Differs { .. })));
    }
}
