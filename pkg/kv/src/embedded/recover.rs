//! Opening a directory: the newest checkpoint, the segments behind it, and what a power cut has left at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use super::format::{
    self, CHECKPOINT_SUFFIX, FileKind, HEADER, Header, Record, SEGMENT_SUFFIX, Step, TEMPORARY_SUFFIX,
};
use super::index::{History, Index};
use super::leases::Leases;
use crate::error::Error;
use crate::files::{Files, ReadFile};

/// What the files say.
pub(super) struct Recovered {
    pub index: Index,
    pub leases: Leases,
    /// No revision beyond this was shown to anybody.
    pub ceiling: u64,
    pub identity: Option<u64>,
    /// The segment to go on with.
    pub tail: Option<Tail>,
    /// Files that a checkpoint has made useless.
    pub stale: Vec<PathBuf>,
    /// Bytes in segments.
    pub uncovered: u64,
}

/// The end of the last segment.
pub(super) struct Tail {
    pub path: PathBuf,
    pub number: u64,
    /// Where the next frame goes.
    pub len: u64,
    pub file_len: u64,
    /// Check value of the last frame.
    pub chain: u32,
    /// … of the last frame of the segment before.
    pub before: u32,
    /// Whether something unfinished stands behind the end.
    pub torn: bool,
    /// The end of it that the last frame does not know to be durable.
    pub doubtful: Vec<u8>,
}

/// The files of a store.
pub(super) struct Listing {
    pub checkpoint: Option<u64>,
    pub segments: Vec<u64>,
    pub stale: Vec<PathBuf>,
}

/// Lists a directory, and tells what is of use.
pub(super) fn list(files: &dyn Files, dir: &Path) -> Result<Listing, Error> {
    let names = files.list(dir).map_err(|e| Error::io("cannot list", dir, e))?;
    let known: Vec<(FileKind, u64)> = names.iter().filter_map(|name| FileKind::of_name(name)).collect();
    let checkpoint = known.iter().filter(|(kind, _)| *kind == FileKind::Checkpoint).map(|(_, number)| *number).max();
    let first = checkpoint.unwrap_or_default();
    let temporary = |name: &&String| {
        let base = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or_default();
        base.ends_with(CHECKPOINT_SUFFIX) || base.ends_with(SEGMENT_SUFFIX)
    };
    let mut stale: Vec<PathBuf> = names.iter().filter(temporary).map(|name| dir.join(name)).collect();
    stale.extend(known.iter().filter(|(_, number)| *number < first).map(|(kind, number)| dir.join(kind.name(*number))));
    let mut segments: Vec<u64> =
        known.iter().filter(|(kind, number)| *kind == FileKind::Segment && *number >= first).map(|(_, n)| *n).collect();
    segments.sort_unstable();
    Ok(Listing { checkpoint, segments, stale })
}

/// Reads everything; changes nothing on disk.
pub(super) fn recover(files: &dyn Files, dir: &Path, history: &History) -> Result<Recovered, Error> {
    let Listing { checkpoint, mut segments, mut stale } = list(files, dir)?;
    let first = checkpoint.unwrap_or(1);
    // A segment whose creation was not finished holds nothing. The one before it may have been gone on with since, when its
    // removal was lost. A checkpoint relies on the segment of its number only when that is durable.
    if let Some(number) = segments.last().copied().filter(|number| checkpoint != Some(*number)) {
        let path = dir.join(FileKind::Segment.name(number));
        if is_blank(files, &path)? {
            segments.pop();
            stale.push(path);
        }
    }
    let mut recovery = Recovery {
        files,
        history,
        state: Recovered {
            index: Index::at(1, 0),
            leases: Leases::default(),
            ceiling: 0,
            identity: None,
            tail: None,
            stale,
            uncovered: 0,
        },
        chain: Some(0),
    };
    if let Some(number) = checkpoint {
        recovery.checkpoint(&dir.join(FileKind::Checkpoint.name(number)), number)?;
    }
    let last = segments.last().copied().unwrap_or_default();
    for number in first..=last.max(checkpoint.unwrap_or_default()) {
        let path = dir.join(FileKind::Segment.name(number));
        if !segments.contains(&number) {
            let what = "the segment is missing".to_owned();
            return Err(Error::Corrupt { path, offset: 0, what });
        }
        recovery.segment(&path, number, number == last)?;
    }
    let mut state = recovery.state;
    state.index.trim(history, Duration::ZERO);
    Ok(state)
}

/// Whether nothing of a segment became durable, not even its header.
fn is_blank(files: &dyn Files, path: &Path) -> Result<bool, Error> {
    let fail = |e| Error::io("cannot read", path, e);
    let file = files.open(path).map_err(fail)?;
    if file.len().map_err(fail)? < HEADER as u64 {
        return Ok(true);
    }
    let mut header = [0; HEADER];
    fill(&*file, 0, &mut header).map_err(fail)?;
    if header.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), offset: 0, what: what.to_owned() };
    format::judge_end(&files.read(path).map_err(fail)?, 0).map_err(corrupt)?;
    Ok(true)
}

struct Recovery<'a> {
    files: &'a dyn Files,
    history: &'a History,
    state: Recovered,
    /// Check value of the last frame of the segment before; none when that is not known.
    chain: Option<u32>,
}

impl Recovery<'_> {
    fn header(&mut self, header: &Header, path: &Path) -> Result<(), Error> {
        let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), offset: 0, what: what.to_owned() };
        if self.state.identity.is_some_and(|identity| identity != header.identity) {
            return Err(corrupt("it belongs to another store"));
        }
        if header.kind == FileKind::Segment && self.chain.is_some_and(|chain| chain != header.chain) {
            return Err(corrupt("it does not go on where the segment before ends"));
        }
        if header.revision < self.state.index.revision() {
            return Err(corrupt("it begins at an older revision than the one before ends"));
        }
        self.state.identity = Some(header.identity);
        self.state.index.advance(header.revision);
        Ok(())
    }

    fn segment(&mut self, path: &Path, number: u64, last: bool) -> Result<(), Error> {
        let data = self.files.read(path).map_err(|e| Error::io("cannot read", path, e))?;
        let (header, mut previous) = Header::decode(path, (FileKind::Segment, number), &data)?;
        self.header(&header, path)?;
        let mut offset = HEADER;
        let mut durable = 0;
        let damaged = loop {
            match format::step(&data, offset, previous) {
                Step::Whole { payload, .. } if format::is_continued(&data[payload.clone()]) => {
                    if last {
                        let path = path.with_file_name(FileKind::Segment.name(number + 1));
                        return Err(Error::Corrupt { path, offset: 0, what: "the segment is missing".to_owned() });
                    }
                    offset = payload.end;
                    break None;
                }
                Step::Whole { payload, frame } => {
                    self.frame(path, offset, &data[payload.clone()], true)?;
                    (offset, previous) = (payload.end, frame.check);
                    durable = frame.durable as usize;
                }
                Step::End => break None,
                Step::Damaged(what) => break Some(what),
            }
        };
        let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what };
        // At the end of a segment that is not the last, only the word that another follows can be unfinished: that one
        // knows what comes before.
        let torn = (last || damaged.is_some()) && data[offset..].iter().any(|byte| *byte != 0);
        if torn {
            let what = damaged.unwrap_or("nothing is here");
            format::judge_end(&data, offset).map_err(|but| corrupt(format!("{what}, but {but}")))?;
            warn!(path = %path.display(), offset, what, "left out an unfinished write at the end of a segment");
        }
        self.chain = Some(previous);
        self.state.uncovered += offset as u64;
        let (len, file_len) = (offset as u64, data.len() as u64);
        let doubtful = if last { data[durable.min(offset)..offset].to_vec() } else { Vec::new() };
        let (path, chain, before) = (path.to_owned(), previous, header.chain);
        self.state.tail = Some(Tail { path, number, len, file_len, chain, before, torn, doubtful });
        Ok(())
    }

    fn checkpoint(&mut self, path: &Path, number: u64) -> Result<(), Error> {
        let file = self.files.open(path).map_err(|e| Error::io("cannot open", path, e))?;
        let mut reader = CheckpointReader::open(&*file, path, number)?;
        let header = reader.header;
        self.header(&header, path)?;
        self.chain = Some(header.chain);
        while let Some(payload) = reader.next()? {
            self.frame(path, reader.frame_offset, &payload, false)?;
        }
        // What lies before the checkpoint is gone, and the state is that of its revision.
        self.state.index.restart_history(header.revision);
        Ok(())
    }

    fn frame(&mut self, path: &Path, offset: usize, mut payload: &[u8], of_segment: bool) -> Result<(), Error> {
        let corrupt =
            |what: &str| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.to_owned() };
        let state = &mut self.state;
        let before = state.index.revision();
        while let Some(record) = format::next_record(&mut payload).map_err(corrupt)? {
            match record {
                Record::Change(change) => {
                    if of_segment && change.revision <= before {
                        return Err(corrupt("a revision goes back"));
                    }
                    state.leases.follow(&state.index.apply(change));
                }
                Record::Grant { id, seconds } => state.leases.grant(id, seconds, Duration::ZERO),
                Record::Revoke { id } => state.leases.revoke(id),
                Record::Compaction { revision } => state.index.compact(revision),
                Record::Ceiling { revision } => state.ceiling = revision,
                Record::Continued => return Err(corrupt("what ends a segment stands among other records")),
                Record::Closed { revision } => {
                    state.index.advance(revision);
                    state.ceiling = revision;
                }
            }
        }
        state.index.trim(self.history, Duration::ZERO);
        Ok(())
    }
}

/// Reads a checkpoint frame by frame, so that it is never in memory as a whole.
pub(super) struct CheckpointReader<'a> {
    file: &'a dyn ReadFile,
    path: &'a Path,
    pub header: Header,
    previous: u32,
    len: u64,
    /// Where the frame begins that was read last.
    pub frame_offset: usize,
    next: usize,
    done: bool,
}

impl<'a> CheckpointReader<'a> {
    pub(super) fn open(file: &'a dyn ReadFile, path: &'a Path, number: u64) -> Result<Self, Error> {
        let fail = |e| Error::io("cannot read", path, e);
        let len = file.len().map_err(fail)?;
        let mut head = vec![0; HEADER.min(usize::try_from(len).unwrap_or(HEADER))];
        fill(file, 0, &mut head).map_err(fail)?;
        let (header, previous) = Header::decode(path, (FileKind::Checkpoint, number), &head)?;
        Ok(Self { file, path, header, previous, len, frame_offset: HEADER, next: HEADER, done: false })
    }

    /// Check value of the frame that was read last.
    pub(super) fn check(&self) -> u32 {
        self.previous
    }

    /// The payload of the next frame; none after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.done {
            return Ok(None);
        }
        self.frame_offset = self.next;
        let (path, offset) = (self.path, self.next as u64);
        let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), offset, what: what.to_owned() };
        let fail = |e| Error::io("cannot read", path, e);
        let left = self.len - offset;
        if left < format::FRAME_HEADER as u64 {
            return Err(corrupt("the end of the checkpoint is missing"));
        }
        let mut data = vec![0; format::FRAME_HEADER];
        fill(self.file, offset, &mut data).map_err(fail)?;
        let Some(frame) = format::frame_header(&data) else { return Err(corrupt("no sound frame header is here")) };
        if (frame.len + format::FRAME_HEADER) as u64 > left {
            return Err(corrupt("a frame is cut off"));
        }
        data.resize(format::FRAME_HEADER + frame.len, 0);
        fill(self.file, offset + format::FRAME_HEADER as u64, &mut data[format::FRAME_HEADER..]).map_err(fail)?;
        match format::step(&data, 0, self.previous) {
            Step::Whole { frame, .. } => self.previous = frame.check,
            Step::Damaged(what) => return Err(corrupt(what)),
            Step::End => return Err(corrupt("the end of the checkpoint is missing")),
        }
        self.next += data.len();
        if frame.len == 0 {
            self.done = true;
            let more = self.next as u64 != self.len;
            return if more { Err(corrupt("something follows the end of the checkpoint")) } else { Ok(None) };
        }
        Ok(Some(data.split_off(format::FRAME_HEADER)))
    }
}

fn fill(file: &dyn ReadFile, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(offset + done as u64, &mut buf[done..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}
