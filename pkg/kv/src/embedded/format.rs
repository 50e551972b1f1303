//! The bytes of segments and checkpoints.
//!
//! A file is a header and frames. Numbers are little-endian.
//! ```text
//! header   8 bytes magic ("KEDGELOG" or "KEDGECKP"), u32 format version, u32 zero, u64 revision
//! frame    u32 0x4b56_f5a3, u32 length of the payload, u32 CRC-32 of the payload, payload
//! payload  records, one after the other
//! record   u8 kind (1 put, 2 delete), u64 revision, u64 create revision, u64 version, u64 expiry (0: none),
//!          u32 length of the key, key, u32 length of the value, value
//! ```
//! The header's revision is, for a segment, the last one before it; for a checkpoint, the one whose state it holds.
//! A segment's frame is one group commit. A checkpoint ends with an empty frame: without it, it is not complete.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::Error;

pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const HEADER: usize = 24;
const FRAME_MAGIC: u32 = 0x4b56_f5a3;
const FRAME_HEADER: usize = 12;
const RECORD_HEADER: usize = 1 + 4 * 8 + 2 * 4;

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
}

/// One write as it stands in the log. A deletion has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
    pub revision: u64,
    pub create_revision: u64,
    pub version: u64,
    pub expires: Option<u64>,
}

pub(super) fn header(kind: FileKind, revision: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend_from_slice(kind.magic());
    out.put_u32_le(FORMAT_VERSION);
    out.put_u32_le(0);
    out.put_u64_le(revision);
    out
}

/// Reads a header; returns its revision.
pub(super) fn read_header(kind: FileKind, path: &Path, data: &[u8]) -> Result<u64, Error> {
    let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), offset: 0, what: what.to_owned() };
    if data.len() < HEADER {
        return Err(corrupt("the file is shorter than its header"));
    }
    let (magic, mut rest) = data.split_at(8);
    if magic != kind.magic() {
        return Err(corrupt("it does not begin as a file of this store"));
    }
    let version = rest.get_u32_le();
    if version != FORMAT_VERSION {
        return Err(Error::Version { path: path.to_owned(), found: version, supported: FORMAT_VERSION });
    }
    rest.advance(4);
    Ok(rest.get_u64_le())
}

/// Begins a frame in `out`; [`end_frame`] completes it.
pub(super) fn begin_frame(out: &mut BytesMut) {
    out.clear();
    out.put_bytes(0, FRAME_HEADER);
}

pub(super) fn put_record(out: &mut BytesMut, record: &Record) {
    out.put_u8(if record.value.is_some() { 1 } else { 2 });
    out.put_u64_le(record.revision);
    out.put_u64_le(record.create_revision);
    out.put_u64_le(record.version);
    out.put_u64_le(record.expires.unwrap_or_default());
    let value = record.value.as_deref().unwrap_or_default();
    for part in [&record.key[..], value] {
        // Keys and values are limited far below 4 GiB where they enter the store.
        out.put_u32_le(part.len() as u32);
        out.put_slice(part);
    }
}

pub(super) fn end_frame(out: &mut BytesMut) {
    let crc = crc32fast::hash(&out[FRAME_HEADER..]);
    let len = (out.len() - FRAME_HEADER) as u32;
    let mut head = &mut out[..FRAME_HEADER];
    head.put_u32_le(FRAME_MAGIC);
    head.put_u32_le(len);
    head.put_u32_le(crc);
}

/// What stands at a place in a file.
pub(super) enum Frame {
    /// A whole frame and where the next one begins.
    Whole { payload: Bytes, next: usize },
    /// The end of the file.
    End,
    /// Something that is no whole frame.
    Damaged(&'static str),
}

pub(super) fn frame_at(data: &Bytes, offset: usize) -> Frame {
    let rest = &data[offset..];
    if rest.is_empty() {
        return Frame::End;
    }
    if rest.len() < FRAME_HEADER {
        return Frame::Damaged("a frame header is cut off");
    }
    let mut head = rest;
    if head.get_u32_le() != FRAME_MAGIC {
        return Frame::Damaged("no frame begins here");
    }
    let (len, crc) = (head.get_u32_le() as usize, head.get_u32_le());
    if head.len() < len {
        return Frame::Damaged("a frame is cut off");
    }
    let start = offset + FRAME_HEADER;
    let payload = data.slice(start..start + len);
    if crc32fast::hash(&payload) != crc {
        return Frame::Damaged("a frame's checksum does not fit its content");
    }
    Frame::Whole { payload, next: start + len }
}

/// Whether a whole frame begins anywhere after `offset`: then what is at `offset` is no torn end.
pub(super) fn whole_frame_after(data: &Bytes, offset: usize) -> bool {
    let magic = FRAME_MAGIC.to_le_bytes();
    let rest = &data[offset + 1..];
    rest.windows(4)
        .enumerate()
        .filter(|(_, window)| *window == magic)
        .any(|(at, _)| matches!(frame_at(data, offset + 1 + at), Frame::Whole { .. }))
}

/// The records of a payload; values share its memory.
pub(super) fn records(mut payload: Bytes) -> Result<Vec<Record>, &'static str> {
    let mut out = Vec::new();
    while !payload.is_empty() {
        if payload.len() < RECORD_HEADER {
            return Err("a record is cut off");
        }
        let kind = payload.get_u8();
        let revision = payload.get_u64_le();
        let create_revision = payload.get_u64_le();
        let version = payload.get_u64_le();
        let expires = Some(payload.get_u64_le()).filter(|e| *e > 0);
        let key = part(&mut payload)?;
        let value = part(&mut payload)?;
        let value = match kind {
            1 => Some(value),
            2 => None,
            _ => return Err("a record is of an unknown kind"),
        };
        out.push(Record { key, value, revision, create_revision, version, expires });
    }
    Ok(out)
}

fn part(payload: &mut Bytes) -> Result<Bytes, &'static str> {
    if payload.len() < 4 {
        return Err("a record is cut off");
    }
    let len = payload.get_u32_le() as usize;
    if payload.len() < len {
        return Err("a record is cut off");
    }
    // Copied, so that one small value does not keep a whole segment in memory.
    Ok(Bytes::copy_from_slice(&payload.split_to(len)))
}
