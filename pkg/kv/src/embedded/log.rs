//! The segments on disk: appending, syncing, rotating.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use tracing::info;

use super::Options;
use super::checkpoint::Checkpointer;
use super::format::{self, FRAME_HEADER, FileKind, HEADER, Header, Record};
use super::recover::{self, Recovered};
use crate::error::Error;
use crate::files::{Files, WriteFile};

/// Frames of this size are written without making room for more first: that would double what is written.
const LARGE_FRAME: u64 = 64 << 10;
const PAGE: u64 = 4 << 10;
/// Bytes of frames that are held back; what comes beyond goes to the operating system at once, with all of them.
const HELD: usize = 64 << 10;

/// The open log.
pub(super) struct Log {
    dir: PathBuf,
    files: Arc<dyn Files>,
    segment: Segment,
    /// Frames at the end of the segment that the operating system does not have yet.
    held: BytesMut,
    /// One of the frames since the last sync could pass for one that was never written wholly.
    doubtful: bool,
    segment_limit: u64,
    /// Bytes of zeroes written ahead of the frames.
    room: u64,
    identity: u64,
    /// A checkpoint is due when so many bytes, and as many as twice the live data, are not covered by one.
    pub(super) checkpoint_bytes: u64,
    /// Bytes in segments that no checkpoint covers.
    pub(super) uncovered: u64,
    /// Bytes written since the log was opened.
    pub(super) written: u64,
    _lock: Box<dyn Any + Send>,
}

/// The segment that is appended to.
struct Segment {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    number: u64,
    /// Where the next frame goes; frames that are held back count.
    len: u64,
    /// The length of the file; zeroes from `len` on.
    allocated: u64,
    /// How much of it is durable.
    durable: u64,
    /// Check value of the last frame.
    chain: u32,
    /// … of the last frame of the segment before.
    before: u32,
}

impl Log {
    /// Opens the directory: reads what is there, tidies up, and makes everything that was read durable.
    pub(super) fn open(options: &Options) -> Result<(Self, Recovered), Error> {
        let (dir, files) = (&options.dir, &options.files);
        files.create_dir(dir).map_err(|e| Error::io("cannot create", dir, e))?;
        let lock = files.lock(dir)?;
        let mut recovered = recover::recover(&**files, dir, &options.history)?;
        // What this process reads may be in the page cache only, when the one before it was killed.
        files.sync_dir(dir).map_err(|e| Error::io("cannot sync", dir, e))?;
        for path in &recovered.stale {
            files.remove(path).map_err(|e| Error::io("cannot remove", path, e))?;
        }
        let identity = recovered.identity.unwrap_or_else(kedge_base::random::u64);
        let segment = match recovered.tail.take() {
            Some(tail) => Segment::reopen(&**files, tail)?,
            None => Segment::create(&**files, dir, &first_header(identity, &recovered))?,
        };
        info!(dir = %dir.display(), revision = recovered.index.revision(), segment = segment.number, "store opened");
        let log = Self {
            dir: dir.clone(),
            files: files.clone(),
            segment,
            held: BytesMut::new(),
            doubtful: false,
            segment_limit: options.segment_bytes,
            room: options.room,
            checkpoint_bytes: options.checkpoint_bytes,
            identity,
            uncovered: recovered.uncovered,
            written: 0,
            _lock: lock,
        };
        Ok((log, recovered))
    }

    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// Makes room for a frame. When that fails nothing has happened yet.
    pub(super) fn make_room(&mut self, frame: usize) -> Result<(), Error> {
        let segment = &mut self.segment;
        let end = segment.len + frame as u64;
        // A frame without payload may have to follow.
        if end + FRAME_HEADER as u64 <= segment.allocated {
            return Ok(());
        }
        // Room for the frame itself is taken too, so that only large ones can find the disk full when it is late.
        let (room, start) = match frame as u64 {
            LARGE_FRAME.. => (PAGE, end),
            _ => (self.room, segment.allocated),
        };
        let allocated = (end + FRAME_HEADER as u64).next_multiple_of(room.max(1));
        let zeroes = vec![0; usize::try_from(allocated - start).unwrap_or_default()];
        match segment.file.write_at(start, &zeroes) {
            Ok(()) => {
                self.written += zeroes.len() as u64;
                segment.allocated = allocated;
                Ok(())
            }
            Err(err) if is_full(&err) => Err(self.full()),
            Err(err) => Err(Error::io("cannot extend", &segment.path, err)),
        }
    }

    /// Completes a frame and hands it to the operating system, after those that were held back. [`Error::NoSpace`] when
    /// there is no room for them after all: then nothing has happened.
    pub(super) fn append(&mut self, frame: &mut BytesMut) -> Result<(), Error> {
        let before = (self.segment.chain, self.segment.len, self.uncovered, self.doubtful);
        self.complete(frame);
        let held = self.held.len();
        let appended = if held == 0 {
            self.write(frame)
        } else {
            self.held.extend_from_slice(frame);
            self.hand_over()
        };
        if let Err(Error::NoSpace(_)) = appended {
            self.held.truncate(held);
            (self.segment.chain, self.segment.len, self.uncovered, self.doubtful) = before;
        }
        appended
    }

    /// Completes a frame and keeps it until something else is written.
    pub(super) fn hold(&mut self, frame: &mut BytesMut) -> Result<(), Error> {
        if self.held.len() + frame.len() > HELD {
            return self.append(frame);
        }
        self.complete(frame);
        self.held.extend_from_slice(frame);
        Ok(())
    }

    /// Makes everything durable that was appended or held back.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        self.segment.sync()?;
        if std::mem::take(&mut self.doubtful) {
            let mut knowing = BytesMut::new();
            format::begin_frame(&mut knowing);
            match self.append(&mut knowing) {
                Ok(()) => self.segment.sync()?,
                // All is durable all the same; the next frame will know it.
                Err(Error::NoSpace(_)) => self.doubtful = true,
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    fn complete(&mut self, frame: &mut BytesMut) {
        let segment = &mut self.segment;
        let offset = segment.len;
        segment.chain = format::end_frame(frame, segment.chain, segment.durable);
        segment.len += frame.len() as u64;
        segment.allocated = segment.allocated.max(segment.len);
        self.uncovered += frame.len() as u64;
        // Without payload it says nothing that could be lost.
        self.doubtful |= frame.len() > FRAME_HEADER && format::looks_unwritten(frame, offset);
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.write(&held).inspect_err(|_| self.held = held)
    }

    /// Writes what ends where the segment does. When there is no room, what was written of it is taken back.
    fn write(&mut self, frames: &[u8]) -> Result<(), Error> {
        let segment = &mut self.segment;
        let start = segment.len - frames.len() as u64;
        match segment.file.write_at(start, frames) {
            Ok(()) => {
                self.written += frames.len() as u64;
                Ok(())
            }
            Err(err) if is_full(&err) => {
                segment.file.set_len(start).map_err(|e| Error::io("cannot cut", &segment.path, e))?;
                segment.allocated = start;
                Err(self.full())
            }
            Err(err) => Err(Error::io("cannot append to", &segment.path, err)),
        }
    }

    fn full(&self) -> Error {
        let dir = self.dir.display();
        Error::NoSpace(format!("the file system of {dir} is full: writes are refused until there is space again"))
    }

    /// Whether the segment is full.
    pub(super) fn wants_rotation(&self) -> bool {
        self.segment.len >= self.segment_limit
    }

    /// Makes the segment durable and starts a new one after `revision`. [`Error::NoSpace`] when there is no room for that:
    /// then it is gone on with.
    pub(super) fn rotate(&mut self, revision: u64) -> Result<(), Error> {
        self.hand_over()?;
        let segment = &mut self.segment;
        if segment.allocated > segment.len {
            segment.file.set_len(segment.len).map_err(|e| Error::io("cannot cut", &segment.path, e))?;
            segment.allocated = segment.len;
        }
        segment.sync()?;
        let (kind, number, chain) = (FileKind::Segment, segment.number + 1, segment.chain);
        let header = Header { kind, number, revision, identity: self.identity, chain };
        let next = match Segment::create(&*self.files, &self.dir, &header) {
            Err(Error::Io { source, .. }) if is_full(&source) => {
                // Nothing may be left of it: it would not fit what this one is gone on with.
                let path = self.dir.join(kind.name(number));
                match self.files.remove(&path) {
                    Err(err) if err.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io("cannot remove", &path, err));
                    }
                    _ => self.files.sync_dir(&self.dir).map_err(|e| Error::io("cannot sync", &self.dir, e))?,
                }
                return Err(self.full());
            }
            other => other?,
        };
        // What follows knows where this segment ends.
        self.doubtful = false;
        std::mem::replace(&mut self.segment, next).continued()
    }

    /// What a checkpoint of the state at `revision` needs to be written elsewhere. The segment must have been started
    /// there.
    pub(super) fn checkpointer(&self, revision: u64, ceiling: u64) -> Checkpointer {
        let (kind, number, chain) = (FileKind::Checkpoint, self.segment.number, self.segment.before);
        Checkpointer {
            dir: self.dir.clone(),
            files: self.files.clone(),
            header: Header { kind, number, revision, identity: self.identity, chain },
            ceiling,
        }
    }
}

fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn first_header(identity: u64, recovered: &Recovered) -> Header {
    let revision = recovered.index.revision();
    Header { kind: FileKind::Segment, number: 1, revision, identity, chain: 0 }
}

impl Segment {
    fn create(files: &dyn Files, dir: &Path, header: &Header) -> Result<Self, Error> {
        let path = dir.join(header.kind.name(header.number));
        let fail = |e| Error::io("cannot create", &path, e);
        let mut file = files.create(&path).map_err(fail)?;
        let data = header.encode();
        file.write_at(0, &data).map_err(fail)?;
        file.sync().map_err(fail)?;
        files.sync_dir(dir).map_err(fail)?;
        let len = HEADER as u64;
        let chain = crc32fast::hash(&data[..HEADER - 4]);
        Ok(Self { file, path, number: header.number, len, allocated: len, durable: len, chain, before: header.chain })
    }

    fn reopen(files: &dyn Files, tail: recover::Tail) -> Result<Self, Error> {
        let recover::Tail { path, number, len, file_len, chain, before, torn, doubtful } = tail;
        let fail = |e| Error::io("cannot open", &path, e);
        let mut file = files.open_write(&path).map_err(fail)?;
        let mut allocated = file_len;
        if torn {
            file.set_len(len).map_err(fail)?;
            allocated = len;
        }
        // After a sync that failed the system may think that it has written what it has not: it is given it again.
        file.write_at(len - doubtful.len() as u64, &doubtful).map_err(fail)?;
        file.sync().map_err(fail)?;
        Ok(Self { file, path, number, len, allocated, durable: len, chain, before })
    }

    /// Says that the next segment is durable, so that its loss is noticed.
    fn continued(mut self) -> Result<(), Error> {
        let mut frame = BytesMut::new();
        format::begin_frame(&mut frame);
        format::put_record(&mut frame, &Record::Continued);
        format::end_frame(&mut frame, self.chain, self.durable);
        match self.file.write_at(self.len, &frame) {
            Ok(()) => self.sync(),
            // All that was promised is there without it.
            Err(err) if is_full(&err) => Ok(()),
            Err(err) => Err(Error::io("cannot append to", &self.path, err)),
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync().map_err(|e| Error::io("cannot sync", &self.path, e))?;
        self.durable = self.len;
        Ok(())
    }
}
