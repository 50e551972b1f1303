//! The bytes of segments and checkpoints.
//!
//! A file is a header and frames. Numbers are little-endian.
//! ```text
//! header   8 bytes magic ("KEDGELOG" or "KEDGECKP"), u32 format version, u32 zero, u64 revision
//! frame    u32 0x4b56_f5a3, u32 length of the payload, u32 CRC-32 of the payload, payload
//! payload  records, one after the other
//! record   u8 kind, then by kind:
//!   1 put         u64 revision, u32 place among the changes of the revision, u64 create revision, u64 version,
//!                 i64 lease (0: none), u32 length of the key, key, u32 length of the value, value
//!   2 delete      u64 revision, u32 place, u32 length of the key, key
//!   3 grant       i64 lease, u64 seconds that it lasts
//!   4 revoke      i64 lease; its keys are deleted by records of their own
//!   5 compaction  u64 revision: what was replaced at or before it is forgotten
//! ```
//! The header's revision is, for a segment, the last one before it; for a checkpoint, the one whose state it holds.
//! A segment's frame is one group commit. A checkpoint ends with an empty frame: without it, it is not complete.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use crate::api::LeaseId;
use crate::error::Error;

pub(super) const FORMAT_VERSION: u32 = 2;
pub(super) const HEADER: usize = 24;
const FRAME_MAGIC: u32 = 0x4b56_f5a3;
const FRAME_HEADER: usize = 12;

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

/// A change of a key as it stands in the log. A deletion has no value, and zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub key: Bytes,
    pub value: Option<Bytes>,
    pub revision: u64,
    /// Its place among the changes of its revision, from 0.
    pub sub: u32,
    pub create_revision: u64,
    pub version: u64,
    pub lease: LeaseId,
}

/// What the log is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Change(Change),
    Grant { id: LeaseId, seconds: u64 },
    Revoke { id: LeaseId },
    Compaction { revision: u64 },
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
    match record {
        Record::Change(change) => put_change(out, change),
        Record::Grant { id, seconds } => {
            out.put_u8(3);
            out.put_i64_le(*id);
            out.put_u64_le(*seconds);
        }
        Record::Revoke { id } => {
            out.put_u8(4);
            out.put_i64_le(*id);
        }
        Record::Compaction { revision } => {
            out.put_u8(5);
            out.put_u64_le(*revision);
        }
    }
}

pub(super) fn put_change(out: &mut BytesMut, change: &Change) {
    out.put_u8(if change.value.is_some() { 1 } else { 2 });
    out.put_u64_le(change.revision);
    out.put_u32_le(change.sub);
    if change.value.is_some() {
        out.put_u64_le(change.create_revision);
        out.put_u64_le(change.version);
        out.put_i64_le(change.lease);
    }
    for part in [Some(&change.key), change.value.as_ref()].into_iter().flatten() {
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

/// The next record of a payload; none at its end. Keys and values are copies, so that one small value does not keep a
/// whole frame in memory.
pub(super) fn next_record(payload: &mut &[u8]) -> Result<Option<Record>, &'static str> {
    if payload.is_empty() {
        return Ok(None);
    }
    let record = match number(payload, Buf::try_get_u8)? {
        kind @ (1 | 2) => Record::Change(change(payload, kind == 1)?),
        3 => {
            Record::Grant { id: number(payload, Buf::try_get_i64_le)?, seconds: number(payload, Buf::try_get_u64_le)? }
        }
        4 => Record::Revoke { id: number(payload, Buf::try_get_i64_le)? },
        5 => Record::Compaction { revision: number(payload, Buf::try_get_u64_le)? },
        _ => return Err("a record is of an unknown kind"),
    };
    Ok(Some(record))
}

fn change(payload: &mut &[u8], put: bool) -> Result<Change, &'static str> {
    let revision = number(payload, Buf::try_get_u64_le)?;
    let sub = number(payload, Buf::try_get_u32_le)?;
    let (mut create_revision, mut version, mut lease) = (0, 0, 0);
    if put {
        create_revision = number(payload, Buf::try_get_u64_le)?;
        version = number(payload, Buf::try_get_u64_le)?;
        lease = number(payload, Buf::try_get_i64_le)?;
    }
    let key = part(payload)?;
    let value = if put { Some(part(payload)?) } else { None };
    Ok(Change { key, value, revision, sub, create_revision, version, lease })
}

fn number<'a, T>(
    payload: &mut &'a [u8],
    get: impl FnOnce(&mut &'a [u8]) -> Result<T, TryGetError>,
) -> Result<T, &'static str> {
    get(payload).map_err(|_| "a record is cut off")
}

fn part(payload: &mut &[u8]) -> Result<Bytes, &'static str> {
    let len = number(payload, Buf::try_get_u32_le)? as usize;
    let (part, rest) = payload.split_at_checked(len).ok_or("a record is cut off")?;
    *payload = rest;
    Ok(Bytes::copy_from_slice(part))
}
