//! The whole store at one revision: for snapshots, and back.

use std::any::Any;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::Checkpointer;
use super::format::{FileKind, Header};
use super::index::{History, Index};
use super::{Embedded, recover};
use crate::api::{KeyValue, Lease};
use crate::error::Error;
use crate::files::Files;

/// Keys that are read at once.
const SLICE: usize = 256;
/// The number of the first files of a restored store: its checkpoint covers all before.
const FIRST: u64 = 2;

/// All that a store holds at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision that could be read.
    pub compacted: u64,
    /// All keys, in order.
    pub kvs: Vec<KeyValue>,
    /// All leases, by id.
    pub leases: Vec<Lease>,
}

fn leases(all: Vec<(i64, u64)>) -> Vec<Lease> {
    all.into_iter().map(|(id, seconds)| Lease { id, ttl: Duration::from_secs(seconds) }).collect()
}

impl Embedded {
    /// All that the store holds now; writers go on meanwhile.
    pub fn contents(&self) -> Contents {
        let (revision, compacted, leases) = {
            let mut index = self.shared.index.write();
            (index.pin(), index.compacted(), leases(self.shared.leases.lock().all()))
        };
        let mut kvs: Vec<KeyValue> = Vec::new();
        loop {
            let slice = self.shared.index.read().slice(kvs.last().map(|kv| &kv.key), revision, SLICE);
            if slice.is_empty() {
                break;
            }
            kvs.extend(slice);
        }
        self.shared.index.write().unpin(revision);
        Contents { revision, compacted, kvs, leases }
    }

    /// All that the store in a directory holds, which nobody has open. Changes nothing there.
    ///
    /// # Errors
    /// When it cannot be read, or a file is damaged or of another version.
    pub fn read(files: &dyn Files, dir: &Path) -> Result<Contents, Error> {
        let mut recovered = recover::recover(files, dir, &History::default())?;
        let index: &mut Index = &mut recovered.index;
        index.advance(recovered.ceiling);
        let (revision, compacted) = (index.revision(), index.compacted());
        let kvs = index.slice(None, revision, usize::MAX);
        Ok(Contents { revision, compacted, kvs, leases: leases(recovered.leases.all()) })
    }

    /// Writes a store that holds `contents`, as a whole or not at all: the directory is there when the store is complete.
    /// Keys keep their revisions, versions and leases; the revision goes on at that of the contents and `bump` more. The
    /// directory must not exist, or hold no store.
    ///
    /// # Errors
    /// [`Error::Locked`] when there is a store; when no revision is left; and when it cannot be written: then nothing is
    /// left of it.
    pub fn restore(files: &Arc<dyn Files>, dir: &Path, contents: &Contents, bump: u64) -> Result<(), Error> {
        let revision = contents.revision.checked_add(bump).filter(|revision| *revision <= MAX_REVISION);
        let revision = revision.ok_or(Error::Revisions(contents.revision))?;
        let temporary = beside(dir);
        remove(&**files, &temporary)?;
        let placed = write(files, &temporary, contents, revision).and_then(|()| place(&**files, &temporary, dir));
        if placed.is_err() {
            // What is half written is of no use; that it cannot be removed either is known at the next attempt.
            let _ = remove(&**files, &temporary);
        }
        placed
    }
}

/// Beyond this clients cannot count: revisions are signed in etcd's protocol.
const MAX_REVISION: u64 = i64::MAX as u64;

/// Makes a complete store that of `dir`.
fn place(files: &dyn Files, temporary: &Path, dir: &Path) -> Result<(), Error> {
    let lock = match files.list(dir) {
        // Renaming makes it: a kill leaves no empty directory, which would be taken for an empty store.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
        there => {
            there.map_err(|e| Error::io("cannot list", dir, e))?;
            Some(empty(files, dir)?)
        }
    };
    files.rename(temporary, dir).map_err(|e| Error::io("cannot rename", temporary, e))?;
    drop(lock);
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            files.sync_dir(parent).map_err(|e| Error::io("cannot sync", parent, e))
        }
        _ => Ok(()),
    }
}

/// Takes a directory that holds no store, and removes what is in it.
fn empty(files: &dyn Files, dir: &Path) -> Result<Box<dyn Any + Send>, Error> {
    let lock = files.lock(dir)?;
    let names = files.list(dir).map_err(|e| Error::io("cannot list", dir, e))?;
    if names.iter().any(|name| FileKind::of_name(name).is_some()) {
        let holder = " or an earlier one: it holds a store".to_owned();
        return Err(Error::Locked { path: dir.to_owned(), holder });
    }
    for name in names {
        let path = dir.join(name);
        files.remove(&path).map_err(|e| Error::io("cannot remove", &path, e))?;
    }
    Ok(lock)
}

/// The directory that becomes `dir` when it is complete.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("store"), OsString::from);
    name.push(".restoring");
    dir.with_file_name(name)
}

/// Removes what an interrupted attempt left.
fn remove(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    let names = match files.list(dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|e| Error::io("cannot list", dir, e))?,
    };
    for name in names {
        let path = dir.join(name);
        files.remove(&path).map_err(|e| Error::io("cannot remove", &path, e))?;
    }
    files.remove_dir(dir).map_err(|e| Error::io("cannot remove", dir, e))
}

fn write(files: &Arc<dyn Files>, dir: &Path, contents: &Contents, revision: u64) -> Result<(), Error> {
    files.create_dir(dir).map_err(|e| Error::io("cannot create", dir, e))?;
    let identity = kedge_base::random::u64();
    let header = |kind| Header { kind, number: FIRST, revision, identity, chain: 0 };
    let path = dir.join(FileKind::Segment.name(FIRST));
    let fail = |e| Error::io("cannot create", &path, e);
    let mut segment = files.create(&path).map_err(fail)?;
    segment.write_at(0, &header(FileKind::Segment).encode()).map_err(fail)?;
    segment.sync().map_err(fail)?;
    let leases: Vec<_> = contents.leases.iter().map(|lease| (lease.id, lease.ttl.as_secs())).collect();
    let checkpointer = Checkpointer {
        dir: dir.to_owned(),
        files: files.clone(),
        header: header(FileKind::Checkpoint),
        ceiling: revision,
    };
    let mut slices = contents.kvs.chunks(SLICE);
    checkpointer.write_from(&leases, || Some(slices.next().map(<[KeyValue]>::to_vec).unwrap_or_default())).map(drop)
}
