//! The bytes of segments and checkpoints, format 2.
//!
//! A directory holds segments `<number>.log` and checkpoints `<number>.ckpt` (numbers of 20 digits). A segment goes on where
//! the one before ended; a checkpoint covers all segments of lower numbers. A file is a header and frames; numbers are
//! little-endian, check values are CRC-32 (IEEE).
//! ```text
//! header   48 bytes
//!    0  8  "KEDGELOG" or "KEDGECKP"
//!    8  4  format version, 2
//!   12  4  check value of the last frame of the segment before; 0 when there is none
//!   16  8  number of the file, as in its name
//!   24  8  revision: of a segment, the newest before it; of a checkpoint, the one whose state it holds
//!   32  8  identity of the store, drawn at random when it was created
//!   40  4  zero
//!   44  4  check value of the bytes before
//! frame    24 bytes, payload
//!    0  4  0x4b56_f5a3
//!    4  4  length of the payload
//!    8  4  check value of the frame before it in the file, or of the header
//!   12  4  how many bytes of the file were known to be durable when the frame was written; 0 in a checkpoint
//!   16  4  CRC of the payload
//!   20  4  check value of the frame: CRC of the 20 bytes before
//! payload  records, one after the other
//! record   u8 kind, then by kind:
//!   1 put         u64 revision, u32 place among the changes of the revision, u64 create revision, u64 version,
//!                 i64 lease (0: none), u32 length of the key, key, u32 length of the value, value
//!   2 delete      u64 revision, u32 place, u32 length of the key, key
//!   3 grant       i64 lease, u64 seconds that it lasts
//!   4 revoke      i64 lease; its keys are deleted by records of their own
//!   5 compaction  u64 revision: what was replaced at or before it is forgotten
//!   6 ceiling     u64 revision: no higher one was shown to anybody before a later ceiling became durable
//!   7 closed      u64 revision: the store was closed here; it is the newest, whatever the ceiling
//!   8 continued   alone in the last frame of a segment, which the next one does not count: that one was made durable
//! ```
//! A segment's frame is one group commit: transactions are never spread over frames. Segments are filled with zeroes ahead
//! of what is written, so a frame header of zeroes is the end. A checkpoint ends with a frame without payload; it holds a
//! ceiling, grants and puts.
//!
//! What follows the end of the last segment was never promised to anybody, and is cut off when the store is opened. It
//! must look like it: either a sector of the frame at the end was never written (it is zeroes, or beyond the end of the
//! file), and no frame behind it knows that this place was durable; or it is damage, which is refused. A frame that has a
//! sector of zeroes of its own is therefore followed by one without payload, which knows, before it is promised.

mod frame;
mod record;

use std::path::Path;

use bytes::{Buf, BufMut};

use crate::error::Error;

pub(super) use frame::{FRAME_HEADER, Step, begin_frame, end_frame, frame_header, judge_end, looks_unwritten, step};
pub(super) use record::{Change, Record, is_continued, next_record, put_change, put_record};

pub(super) const FORMAT_VERSION: u32 = 2;
pub(super) const HEADER: usize = 48;
/// The smallest piece that a disk writes as a whole.
pub(super) const SECTOR: usize = 512;

pub(super) const SEGMENT_SUFFIX: &str = ".log";
pub(super) const CHECKPOINT_SUFFIX: &str = ".ckpt";
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment,
    Checkpoint,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"KEDGELOG",
            Self::Checkpoint => b"KEDGECKP",
        }
    }

    /// The name of such a file.
    pub(super) fn name(self, number: u64) -> String {
        let suffix = match self {
            Self::Segment => SEGMENT_SUFFIX,
            Self::Checkpoint => CHECKPOINT_SUFFIX,
        };
        format!("{number:020}{suffix}")
    }

    /// The kind and number that a name says; none for the names of other files.
    pub(super) fn of_name(name: &str) -> Option<(Self, u64)> {
        let (kind, number) = match (name.strip_suffix(SEGMENT_SUFFIX), name.strip_suffix(CHECKPOINT_SUFFIX)) {
            (Some(number), _) => (Self::Segment, number),
            (_, Some(number)) => (Self::Checkpoint, number),
            _ => return None,
        };
        let number = number.parse().ok()?;
        (kind.name(number) == name).then_some((kind, number))
    }
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: FileKind,
    pub number: u64,
    pub revision: u64,
    pub identity: u64,
    /// Check value of the last frame of the segment before.
    pub chain: u32,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(self.kind.magic());
        out.put_u32_le(FORMAT_VERSION);
        out.put_u32_le(self.chain);
        out.put_u64_le(self.number);
        out.put_u64_le(self.revision);
        out.put_u64_le(self.identity);
        out.put_u32_le(0);
        let check = crc32fast::hash(&out);
        out.put_u32_le(check);
        out
    }

    /// Reads a header with its check value. `name` is what the file's name says.
    pub(super) fn decode(path: &Path, name: (FileKind, u64), data: &[u8]) -> Result<(Self, u32), Error> {
        let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), offset: 0, what: what.to_owned() };
        let (kind, named) = name;
        if data.len() < 12 {
            return Err(corrupt("the file is shorter than its header"));
        }
        let (magic, mut rest) = data.split_at(8);
        if magic != kind.magic() {
            return Err(corrupt("it does not begin as a file of this store"));
        }
        let found = rest.get_u32_le();
        if found == 1 {
            return Err(Error::Version { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        let Some(header) = data.get(..HEADER) else { return Err(corrupt("the file is shorter than its header")) };
        let (covered, mut check) = header.split_at(HEADER - 4);
        let check = check.get_u32_le();
        // A newer version may check its header in another way, but not with damage in its version, which is only one of
        // many numbers.
        if crc32fast::hash(covered) != check {
            return Err(match found {
                3..=99 => Error::Version { path: path.to_owned(), found, supported: FORMAT_VERSION },
                _ => corrupt("the header's check value does not fit its content"),
            });
        }
        if found != FORMAT_VERSION {
            return Err(Error::Version { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        let chain = rest.get_u32_le();
        let (number, revision, identity) = (rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le());
        if number != named {
            return Err(corrupt("its header has another number than its name"));
        }
        Ok((Self { kind, number, revision, identity, chain }, check))
    }
}

#[cfg(test)]
mod tests;
