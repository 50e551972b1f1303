//! Records: what the payloads of frames are made of.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use crate::api::LeaseId;

/// A change of a key as it stands in the log. A deletion has no value, and zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::embedded) struct Change {
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
pub(in crate::embedded) enum Record {
    Change(Change),
    Grant { id: LeaseId, seconds: u64 },
    Revoke { id: LeaseId },
    Compaction { revision: u64 },
    Ceiling { revision: u64 },
    Closed { revision: u64 },
    Continued,
}

pub(in crate::embedded) fn put_record(out: &mut BytesMut, record: &Record) {
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
        Record::Ceiling { revision } => {
            out.put_u8(6);
            out.put_u64_le(*revision);
        }
        Record::Closed { revision } => {
            out.put_u8(7);
            out.put_u64_le(*revision);
        }
        Record::Continued => out.put_u8(8),
    }
}

pub(in crate::embedded) fn put_change(out: &mut BytesMut, change: &Change) {
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

/// Whether a payload says that another segment follows.
pub(in crate::embedded) fn is_continued(payload: &[u8]) -> bool {
    payload == [8]
}

/// The next record of a payload; none at its end. Keys and values are copies, so that one small value does not keep a
/// whole frame in memory.
pub(in crate::embedded) fn next_record(payload: &mut &[u8]) -> Result<Option<Record>, &'static str> {
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
        6 => Record::Ceiling { revision: number(payload, Buf::try_get_u64_le)? },
        7 => Record::Closed { revision: number(payload, Buf::try_get_u64_le)? },
        8 => Record::Continued,
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
