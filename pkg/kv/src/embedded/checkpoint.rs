//! Checkpoints: the state at one revision, written beside the running log so that older segments can go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use super::Shared;
use super::format::{self, Change, FileKind, Header, Record, TEMPORARY_SUFFIX};
use super::recover;
use crate::api::{KeyValue, LeaseId};
use crate::error::Error;
use crate::files::{Files, WriteFile};

/// A frame has about this many bytes.
const FRAME: usize = 256 << 10;
/// Keys that are read from the index at once.
const SLICE: usize = 256;
/// Bytes after which they are made durable: one large sync at the end would stall those of the log.
const SYNC: u64 = 4 << 20;

/// Writes one checkpoint.
pub(super) struct Checkpointer {
    pub dir: PathBuf,
    pub files: Arc<dyn Files>,
    pub header: Header,
    pub ceiling: u64,
}

impl Checkpointer {
    /// Writes the state at the header's revision, which the index must keep meanwhile, and then removes what it replaces.
    /// Returns how many keys there are; none when it was called off.
    pub(super) fn write(
        &self,
        shared: &Shared,
        leases: &[(LeaseId, u64)],
        called_off: &AtomicBool,
    ) -> Result<Option<usize>, Error> {
        let revision = self.header.revision;
        let mut after: Option<Bytes> = None;
        let next = || {
            let kvs = shared.index.read().slice(after.as_ref(), revision, SLICE);
            after = kvs.last().map(|kv| kv.key.clone());
            (!called_off.load(Ordering::Relaxed)).then_some(kvs)
        };
        self.write_from(leases, next)
    }

    /// Writes keys, in order, as `next` gives them: none calls it off, an empty list is the end.
    pub(super) fn write_from(
        &self,
        leases: &[(LeaseId, u64)],
        next: impl FnMut() -> Option<Vec<KeyValue>>,
    ) -> Result<Option<usize>, Error> {
        let name = FileKind::Checkpoint.name(self.header.number);
        let (path, temporary) = (self.dir.join(&name), self.dir.join(name + TEMPORARY_SUFFIX));
        let written = self.write_file(&temporary, leases, next);
        let Some(keys) = written.map_err(|e| Error::io("cannot write", &temporary, e))? else {
            self.files.remove(&temporary).map_err(|e| Error::io("cannot remove", &temporary, e))?;
            return Ok(None);
        };
        self.files.rename(&temporary, &path).map_err(|e| Error::io("cannot rename", &temporary, e))?;
        self.files.sync_dir(&self.dir).map_err(|e| Error::io("cannot sync", &self.dir, e))?;
        for old in recover::list(&*self.files, &self.dir)?.stale {
            self.files.remove(&old).map_err(|e| Error::io("cannot remove", &old, e))?;
        }
        Ok(Some(keys))
    }

    fn write_file(
        &self,
        path: &Path,
        leases: &[(LeaseId, u64)],
        mut next: impl FnMut() -> Option<Vec<KeyValue>>,
    ) -> io::Result<Option<usize>> {
        let mut out = Frames::create(&*self.files, path, &self.header)?;
        out.put(&Record::Ceiling { revision: self.ceiling })?;
        for (id, seconds) in leases {
            out.put(&Record::Grant { id: *id, seconds: *seconds })?;
        }
        let mut keys = 0;
        loop {
            let Some(kvs) = next() else { return Ok(None) };
            if kvs.is_empty() {
                break;
            }
            keys += kvs.len();
            for kv in kvs {
                out.put(&Record::Change(put_of(kv)))?;
            }
        }
        out.finish()?;
        Ok(Some(keys))
    }
}

fn put_of(kv: KeyValue) -> Change {
    let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
    Change { key, value: Some(value), revision: mod_revision, sub: 0, create_revision, version, lease }
}

/// A file of frames being written.
struct Frames {
    file: Box<dyn WriteFile>,
    frame: BytesMut,
    offset: u64,
    synced: u64,
    previous: u32,
}

impl Frames {
    fn create(files: &dyn Files, path: &Path, header: &Header) -> io::Result<Self> {
        let mut file = match files.create(path) {
            // Left behind by one that failed before.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                files.remove(path)?;
                files.create(path)?
            }
            created => created?,
        };
        let data = header.encode();
        file.write_at(0, &data)?;
        let mut frame = BytesMut::new();
        format::begin_frame(&mut frame);
        let previous = crc32fast::hash(&data[..data.len() - 4]);
        Ok(Self { file, frame, offset: data.len() as u64, synced: 0, previous })
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        format::put_record(&mut self.frame, record);
        if self.frame.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.previous = format::end_frame(&mut self.frame, self.previous, 0);
        self.file.write_at(self.offset, &self.frame)?;
        self.offset += self.frame.len() as u64;
        format::begin_frame(&mut self.frame);
        if self.offset - self.synced >= SYNC {
            self.file.sync()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.frame.len() > format::FRAME_HEADER {
            self.flush()?;
        }
        self.flush()?;
        self.file.sync()
    }
}
