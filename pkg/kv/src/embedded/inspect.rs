//! What is in the files, frame by frame: for people who want to know, and for checking a store without opening it.
//!
//! Needs no lock and changes nothing. A store that is open meanwhile may remove files or write more: a file that vanishes
//! is left out, and an unfinished end is reported as such.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{self, FileKind, HEADER, Header, Record, Step};
use super::recover::CheckpointReader;
use crate::api::LeaseId;
use crate::error::Error;
use crate::files::Files;

/// One thing that was found.
#[derive(Debug, Clone)]
pub enum Found {
    /// A file begins.
    File {
        path: PathBuf,
        checkpoint: bool,
        number: u64,
        revision: u64,
        identity: u64,
        bytes: u64,
    },
    /// A frame begins.
    Frame {
        offset: u64,
        bytes: u64,
        check: u32,
    },
    /// A record of the frame.
    Put {
        revision: u64,
        key: Bytes,
        value: Bytes,
        create_revision: u64,
        version: u64,
        lease: LeaseId,
    },
    Delete {
        revision: u64,
        key: Bytes,
    },
    Grant {
        lease: LeaseId,
        seconds: u64,
    },
    Revoke {
        lease: LeaseId,
    },
    Compaction {
        revision: u64,
    },
    Ceiling {
        revision: u64,
    },
    Closed {
        revision: u64,
    },
    /// Another segment follows.
    Continued,
    /// The file ends well.
    End {
        offset: u64,
    },
    /// Something unfinished stands at the end of the last segment: it is cut off when the store is opened.
    Unfinished {
        offset: u64,
        what: String,
    },
    /// The file is damaged.
    Damaged(Error),
}

/// What was found in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: usize,
    pub frames: usize,
    pub records: usize,
    pub bytes: u64,
    pub damaged: usize,
}

/// Tells `report` all that is in the files of a directory, in order: checkpoints, then segments; and whether they belong
/// together, as opening them demands.
///
/// # Errors
/// When the directory or a file cannot be read; damage is reported and no error.
pub fn inspect(files: &dyn Files, dir: &Path, report: &mut dyn FnMut(Found)) -> Result<Summary, Error> {
    let names = files.list(dir).map_err(|e| Error::io("cannot list", dir, e))?;
    let mut known: Vec<(FileKind, u64)> = names.iter().filter_map(|name| FileKind::of_name(name)).collect();
    known.sort_by_key(|(kind, number)| (*kind == FileKind::Segment, *number));
    let last = known.last().copied();
    let first = known.iter().filter(|(kind, _)| *kind == FileKind::Checkpoint).map(|(_, number)| *number).max();
    let links = Links { next: first.unwrap_or(1), chain: Some(0), identity: None };
    let mut inspection = Inspection { files, report, summary: Summary::default(), links };
    for name @ (kind, number) in known {
        let path = dir.join(kind.name(number));
        let result = match kind {
            FileKind::Checkpoint => inspection.checkpoint(&path, number),
            FileKind::Segment => {
                inspection.no_gap_before(dir, number);
                let result = inspection.segment(&path, name, Some(name) == last);
                inspection.links.next = inspection.links.next.max(number + 1);
                result
            }
        };
        match result {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => inspection.links.chain = None,
            Err(damage @ (Error::Corrupt { .. } | Error::Version { .. })) => {
                inspection.links.chain = None;
                inspection.damaged(damage);
            }
            other => other?,
        }
    }
    // A checkpoint relies on the segment of its number.
    if let Some(first) = first {
        inspection.no_gap_before(dir, first + 1);
    }
    Ok(inspection.summary)
}

/// What the next segment must fit.
struct Links {
    next: u64,
    /// Check value of the last frame before; none when that is not known.
    chain: Option<u32>,
    identity: Option<u64>,
}

struct Inspection<'a> {
    files: &'a dyn Files,
    report: &'a mut dyn FnMut(Found),
    summary: Summary,
    links: Links,
}

impl Inspection<'_> {
    fn damaged(&mut self, damage: Error) {
        self.summary.damaged += 1;
        (self.report)(Found::Damaged(damage));
    }

    fn no_gap_before(&mut self, dir: &Path, number: u64) {
        if self.links.next < number {
            let path = dir.join(FileKind::Segment.name(self.links.next));
            self.damaged(Error::Corrupt { path, offset: 0, what: "the segment is missing".to_owned() });
            (self.links.next, self.links.chain) = (number, None);
        }
    }

    /// Whether a file belongs to those before it. What a checkpoint made useless need not.
    fn fits(&mut self, path: &Path, header: &Header) -> Result<(), Error> {
        let corrupt = |what: &str| Err(Error::Corrupt { path: path.to_owned(), offset: 0, what: what.to_owned() });
        if *self.links.identity.get_or_insert(header.identity) != header.identity {
            return corrupt("it belongs to another store");
        }
        if header.kind == FileKind::Checkpoint || header.number < self.links.next {
            return Ok(());
        }
        if self.links.chain.is_some_and(|chain| chain != header.chain) {
            return corrupt("it does not go on where the segment before ends");
        }
        Ok(())
    }

    fn begin(&mut self, path: &Path, header: &Header, bytes: u64) {
        let Header { kind, number, revision, identity, .. } = *header;
        self.summary.files += 1;
        self.summary.bytes += bytes;
        let (path, checkpoint) = (path.to_owned(), kind == FileKind::Checkpoint);
        (self.report)(Found::File { path, checkpoint, number, revision, identity, bytes });
    }

    fn frame(&mut self, path: &Path, offset: usize, check: u32, mut payload: &[u8]) -> Result<(), Error> {
        let bytes = (payload.len() + format::FRAME_HEADER) as u64;
        self.summary.frames += 1;
        (self.report)(Found::Frame { offset: offset as u64, bytes, check });
        let corrupt =
            |what: &str| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.to_owned() };
        while let Some(record) = format::next_record(&mut payload).map_err(corrupt)? {
            self.summary.records += 1;
            (self.report)(found(record));
        }
        Ok(())
    }

    fn checkpoint(&mut self, path: &Path, number: u64) -> Result<(), Error> {
        let file = self.files.open(path).map_err(|e| Error::io("cannot open", path, e))?;
        let bytes = file.len().map_err(|e| Error::io("cannot read", path, e))?;
        let mut reader = CheckpointReader::open(&*file, path, number)?;
        self.begin(path, &reader.header.clone(), bytes);
        self.fits(path, &reader.header.clone())?;
        self.links.chain = Some(reader.header.chain);
        while let Some(payload) = reader.next()? {
            self.frame(path, reader.frame_offset, reader.check(), &payload)?;
        }
        (self.report)(Found::End { offset: bytes });
        Ok(())
    }

    fn segment(&mut self, path: &Path, name: (FileKind, u64), last: bool) -> Result<(), Error> {
        let data = self.files.read(path).map_err(|e| Error::io("cannot read", path, e))?;
        if last && (data.len() < HEADER || data[..HEADER].iter().all(|byte| *byte == 0)) {
            (self.report)(Found::Unfinished { offset: 0, what: "its creation was not finished".to_owned() });
            return Ok(());
        }
        let (header, mut previous) = Header::decode(path, name, &data)?;
        self.begin(path, &header, data.len() as u64);
        let useless = header.number < self.links.next;
        self.fits(path, &header)?;
        let mut offset = HEADER;
        loop {
            let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), offset: offset as u64, what };
            let what = match format::step(&data, offset, previous) {
                Step::Whole { payload, frame } => {
                    self.frame(path, offset, frame.check, &data[payload.clone()])?;
                    offset = payload.end;
                    if !format::is_continued(&data[payload]) {
                        previous = frame.check;
                        continue;
                    }
                    let path = path.with_file_name(FileKind::Segment.name(header.number + 1));
                    // A store that is open may have begun it since the directory was listed.
                    if last && self.files.open(&path).is_err() {
                        return Err(Error::Corrupt { path, offset: 0, what: "the segment is missing".to_owned() });
                    }
                    if !useless {
                        self.links.chain = Some(previous);
                    }
                    (self.report)(Found::End { offset: offset as u64 });
                    return Ok(());
                }
                Step::End if !last || data[offset..].iter().all(|byte| *byte == 0) => {
                    if !useless {
                        self.links.chain = Some(previous);
                    }
                    (self.report)(Found::End { offset: offset as u64 });
                    return Ok(());
                }
                Step::End => "nothing is here, but something follows",
                Step::Damaged(what) => what,
            };
            format::judge_end(&data, offset).map_err(|but| corrupt(format!("{what}, but {but}")))?;
            if !useless {
                self.links.chain = Some(previous);
            }
            (self.report)(Found::Unfinished { offset: offset as u64, what: what.to_owned() });
            return Ok(());
        }
    }
}

fn found(record: Record) -> Found {
    match record {
        Record::Change(change) => match change.value {
            Some(value) => Found::Put {
                revision: change.revision,
                key: change.key,
                value,
                create_revision: change.create_revision,
                version: change.version,
                lease: change.lease,
            },
            None => Found::Delete { revision: change.revision, key: change.key },
        },
        Record::Grant { id, seconds } => Found::Grant { lease: id, seconds },
        Record::Revoke { id } => Found::Revoke { lease: id },
        Record::Compaction { revision } => Found::Compaction { revision },
        Record::Ceiling { revision } => Found::Ceiling { revision },
        Record::Closed { revision } => Found::Closed { revision },
        Record::Continued => Found::Continued,
    }
}
