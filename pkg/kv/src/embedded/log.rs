//! Segments and checkpoints on disk: opening, appending, rotating, replacing old segments by a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tracing::{info, warn};

use super::Options;
use super::format::{self, FileKind, Frame, HEADER, Record};
use super::index::Index;
use super::leases::Leases;
use super::lock::DirLock;
use crate::error::Error;
use crate::files::{AppendFile, Files};

const SEGMENT_SUFFIX: &str = ".log";
const CHECKPOINT_SUFFIX: &str = ".ckpt";
/// Records of one frame of a checkpoint are at most about this many bytes.
const CHECKPOINT_FRAME: usize = 1 << 20;

/// The open log.
pub(super) struct Log {
    dir: PathBuf,
    files: Arc<dyn Files>,
    segment: Box<dyn AppendFile>,
    segment_path: PathBuf,
    segment_len: u64,
    segment_limit: u64,
    /// Bytes in segments that no checkpoint covers.
    pub(super) uncovered: u64,
    /// Appended and not synced.
    dirty: bool,
    _lock: DirLock,
}

fn file_name(revision: u64, suffix: &str) -> String {
    format!("{revision:020}{suffix}")
}

impl Log {
    /// Opens the directory: loads the newest checkpoint, replays the segments after it.
    pub(super) fn open(options: &Options, lock: DirLock) -> Result<(Self, Index, Leases), Error> {
        let (dir, files) = (&options.dir, &options.files);
        let names = files.list(dir).map_err(|e| Error::io("cannot list", dir, e))?;
        for leftover in names.iter().filter(|n| n.ends_with(".tmp")) {
            let path = dir.join(leftover);
            files.remove(&path).map_err(|e| Error::io("cannot remove", &path, e))?;
        }
        let checkpoint = names.iter().rfind(|n| n.ends_with(CHECKPOINT_SUFFIX));
        let mut leases = Leases::default();
        let mut index = match checkpoint {
            Some(name) => load_checkpoint(&**files, &dir.join(name), &mut leases)?,
            None => Index::at(1, 0),
        };
        let covered = index.revision();
        let segments: Vec<_> = names.iter().filter(|n| n.ends_with(SEGMENT_SUFFIX)).map(|n| dir.join(n)).collect();
        let mut tail = None;
        let mut uncovered = 0;
        for (i, path) in segments.iter().enumerate() {
            let last = i + 1 == segments.len();
            let len = replay(&**files, path, last, covered, &mut index, &mut leases)?;
            uncovered += len;
            tail = Some((path.clone(), len));
        }
        index.compact(index.compacted().max(index.revision().saturating_sub(options.history)));
        info!(dir = %dir.display(), revision = index.revision(), segments = segments.len(), "store opened");
        let (segment, segment_path, segment_len) = match tail {
            Some((path, len)) if len >= HEADER as u64 => {
                let file = files.append_at(&path, len).map_err(|e| Error::io("cannot open", &path, e))?;
                (file, path, len)
            }
            Some((path, _)) => {
                // Its header never became durable, so it holds nothing.
                files.remove(&path).map_err(|e| Error::io("cannot remove", &path, e))?;
                new_segment(&**files, dir, index.revision())?
            }
            None => new_segment(&**files, dir, index.revision())?,
        };
        let log = Self {
            dir: dir.clone(),
            files: files.clone(),
            segment,
            segment_path,
            segment_len,
            segment_limit: options.segment_bytes,
            uncovered,
            dirty: false,
            _lock: lock,
        };
        Ok((log, index, leases))
    }

    /// Hands a whole frame to the operating system.
    pub(super) fn append(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.dirty = true;
        self.segment.append(frame).map_err(|e| Error::io("cannot append to", &self.segment_path, e))?;
        self.segment_len += frame.len() as u64;
        self.uncovered += frame.len() as u64;
        Ok(())
    }

    /// Makes everything durable that was appended.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.segment.sync().map_err(|e| Error::io("cannot sync", &self.segment_path, e))?;
        self.dirty = false;
        Ok(())
    }

    /// Whether the segment is full.
    pub(super) fn wants_rotation(&self) -> bool {
        self.segment_len >= self.segment_limit
    }

    /// Makes the segment durable and starts a new one after `revision`.
    pub(super) fn rotate(&mut self, revision: u64) -> Result<(), Error> {
        if self.dirty {
            self.sync()?;
        }
        (self.segment, self.segment_path, self.segment_len) = new_segment(&*self.files, &self.dir, revision)?;
        Ok(())
    }

    /// What a checkpoint needs to be written elsewhere.
    pub(super) fn checkpointer(&self) -> Checkpointer {
        Checkpointer { dir: self.dir.clone(), files: self.files.clone(), current_segment: self.segment_path.clone() }
    }
}

fn new_segment(files: &dyn Files, dir: &Path, revision: u64) -> Result<(Box<dyn AppendFile>, PathBuf, u64), Error> {
    let path = dir.join(file_name(revision, SEGMENT_SUFFIX));
    let fail = |e| Error::io("cannot create", &path, e);
    let mut file = files.create(&path).map_err(fail)?;
    file.append(&format::header(FileKind::Segment, revision)).map_err(fail)?;
    file.sync().map_err(fail)?;
    files.sync_dir(dir).map_err(fail)?;
    Ok((file, path, HEADER as u64))
}

/// Applies the records of a segment that lie after `covered`; returns the length of its sound part.
fn replay(
    files: &dyn Files,
    path: &Path,
    last: bool,
    covered: u64,
    index: &mut Index,
    leases: &mut Leases,
) -> Result<u64, Error> {
    let data = Bytes::from(files.read(path).map_err(|e| Error::io("cannot read", path, e))?);
    if last && data.len() < HEADER {
        return Ok(0);
    }
    format::read_header(FileKind::Segment, path, &data)?;
    let mut offset = HEADER;
    loop {
        let corrupt =
            |what: &str| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.to_owned() };
        match format::frame_at(&data, offset) {
            Frame::End => return Ok(offset as u64),
            Frame::Whole { payload, next } => {
                let mut payload = &payload[..];
                while let Some(record) = format::next_record(&mut payload).map_err(corrupt)? {
                    take(record, covered, index, leases);
                }
                offset = next;
            }
            Frame::Damaged(what) => {
                if !last || format::whole_frame_after(&data, offset) {
                    return Err(corrupt(what));
                }
                warn!(path = %path.display(), offset, what, "cut off an unfinished write at the end of the log");
                return Ok(offset as u64);
            }
        }
    }
}

/// Takes in a record of the log, unless a checkpoint has covered it.
fn take(record: Record, covered: u64, index: &mut Index, leases: &mut Leases) {
    match record {
        Record::Change(change) if change.revision > covered => leases.follow(&index.apply(change)),
        Record::Change(_) => {}
        Record::Grant { id, seconds } => leases.grant(id, seconds, Duration::ZERO),
        Record::Revoke { id } => leases.revoke(id),
        Record::Compaction { revision } => index.compact(revision),
    }
}

fn load_checkpoint(files: &dyn Files, path: &Path, leases: &mut Leases) -> Result<Index, Error> {
    let data = Bytes::from(files.read(path).map_err(|e| Error::io("cannot read", path, e))?);
    let revision = format::read_header(FileKind::Checkpoint, path, &data)?;
    let mut index = Index::at(revision, revision);
    let mut offset = HEADER;
    loop {
        let corrupt =
            |what: &str| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.to_owned() };
        match format::frame_at(&data, offset) {
            Frame::Whole { payload, .. } if payload.is_empty() => return Ok(index),
            Frame::Whole { payload, next } => {
                let mut payload = &payload[..];
                while let Some(record) = format::next_record(&mut payload).map_err(corrupt)? {
                    take(record, 0, &mut index, leases);
                }
                offset = next;
            }
            Frame::End => return Err(corrupt("the end of the checkpoint is missing")),
            Frame::Damaged(what) => return Err(corrupt(what)),
        }
    }
}

/// Writes checkpoints beside the running log.
pub(super) struct Checkpointer {
    dir: PathBuf,
    files: Arc<dyn Files>,
    current_segment: PathBuf,
}

impl Checkpointer {
    /// Writes the state at `revision` and then removes the segments and checkpoints that it replaces. The current
    /// segment must have been started at or before `revision`, after all others were closed.
    pub(super) fn write(&self, revision: u64, records: &[Record]) -> Result<(), Error> {
        let path = self.dir.join(file_name(revision, CHECKPOINT_SUFFIX));
        let temporary = self.dir.join(file_name(revision, ".ckpt.tmp"));
        self.write_file(&temporary, revision, records).map_err(|e| Error::io("cannot write", &temporary, e))?;
        self.files.rename(&temporary, &path).map_err(|e| Error::io("cannot rename", &temporary, e))?;
        self.files.sync_dir(&self.dir).map_err(|e| Error::io("cannot sync", &self.dir, e))?;
        let names = self.files.list(&self.dir).map_err(|e| Error::io("cannot list", &self.dir, e))?;
        for name in names {
            let old = self.dir.join(&name);
            let replaced = (name.ends_with(SEGMENT_SUFFIX) && old < self.current_segment)
                || (name.ends_with(CHECKPOINT_SUFFIX) && old < path);
            if replaced {
                self.files.remove(&old).map_err(|e| Error::io("cannot remove", &old, e))?;
            }
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, revision: u64, records: &[Record]) -> std::io::Result<()> {
        let mut file = self.files.create(path)?;
        file.append(&format::header(FileKind::Checkpoint, revision))?;
        let mut frame = BytesMut::new();
        let mut records = records.iter().peekable();
        while records.peek().is_some() {
            format::begin_frame(&mut frame);
            while frame.len() < CHECKPOINT_FRAME {
                let Some(record) = records.next() else { break };
                format::put_record(&mut frame, record);
            }
            format::end_frame(&mut frame);
            file.append(&frame)?;
        }
        format::begin_frame(&mut frame);
        format::end_frame(&mut frame);
        file.append(&frame)?;
        file.sync()
    }
}
