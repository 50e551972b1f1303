//! Frames, and what stands where none is.

use std::ops::Range;

use bytes::{Buf, BufMut, BytesMut};

use super::SECTOR;

const MAGIC: u32 = 0x4b56_f5a3;
pub(in crate::embedded) const FRAME_HEADER: usize = 24;

/// Begins a frame in `out`; [`end_frame`] completes it.
pub(in crate::embedded) fn begin_frame(out: &mut BytesMut) {
    out.clear();
    out.put_bytes(0, FRAME_HEADER);
}

/// Completes a frame that follows the one with the check value `previous`; returns its own.
pub(in crate::embedded) fn end_frame(out: &mut BytesMut, previous: u32, durable: u64) -> u32 {
    let payload = crc32fast::hash(&out[FRAME_HEADER..]);
    let len = (out.len() - FRAME_HEADER) as u32;
    let mut head = &mut out[..FRAME_HEADER];
    head.put_u32_le(MAGIC);
    head.put_u32_le(len);
    head.put_u32_le(previous);
    // A segment is closed long before 4 GiB.
    head.put_u32_le(durable as u32);
    head.put_u32_le(payload);
    let check = crc32fast::hash(&out[..FRAME_HEADER - 4]);
    out[FRAME_HEADER - 4..FRAME_HEADER].copy_from_slice(&check.to_le_bytes());
    check
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
pub(in crate::embedded) struct Frame {
    pub len: usize,
    pub previous: u32,
    pub durable: u64,
    pub payload: u32,
    pub check: u32,
}

/// Reads the header of a frame, if one is there and sound.
pub(in crate::embedded) fn frame_header(data: &[u8]) -> Option<Frame> {
    let mut head = data.get(..FRAME_HEADER)?;
    let sound = crc32fast::hash(&head[..FRAME_HEADER - 4]);
    if head.get_u32_le() != MAGIC {
        return None;
    }
    let (len, previous, durable) = (head.get_u32_le() as usize, head.get_u32_le(), u64::from(head.get_u32_le()));
    let (payload, check) = (head.get_u32_le(), head.get_u32_le());
    (sound == check).then_some(Frame { len, previous, durable, payload, check })
}

/// What stands at a place in a file.
#[derive(Debug)]
pub(in crate::embedded) enum Step {
    /// A whole frame that follows the one before.
    Whole { payload: Range<usize>, frame: Frame },
    /// The end of the file, or zeroes.
    End,
    /// Something that is no whole frame.
    Damaged(&'static str),
}

/// What stands at `offset` behind the frame with the check value `previous`.
pub(in crate::embedded) fn step(data: &[u8], offset: usize, previous: u32) -> Step {
    let rest = data.get(offset..).unwrap_or_default();
    if is_zero(&rest[..rest.len().min(FRAME_HEADER)]) {
        return Step::End;
    }
    let Some(frame) = frame_header(rest) else { return Step::Damaged("no sound frame header is here") };
    let start = offset + FRAME_HEADER;
    let Some(payload) = data.get(start..start + frame.len) else { return Step::Damaged("a frame is cut off") };
    if crc32fast::hash(payload) != frame.payload {
        return Step::Damaged("a frame's checksum does not fit its content");
    }
    if frame.previous != previous {
        return Step::Damaged("a frame does not follow the one before");
    }
    Step::Whole { payload: start..start + frame.len, frame }
}

/// Judges what is left of the last segment from `offset` on, where no whole frame is: `Ok` when it is what a power cut
/// leaves of writes that nobody was promised; what speaks against it otherwise.
pub(in crate::embedded) fn judge_end(data: &[u8], offset: usize) -> Result<(), &'static str> {
    let rest = data.get(offset..).unwrap_or_default();
    let region = frame_header(rest).map_or(FRAME_HEADER, |frame| FRAME_HEADER + frame.len);
    if rest.get(..region).is_some_and(|frame| !looks_unwritten(frame, offset as u64)) {
        return Err("it was written as a whole and has changed since");
    }
    let magic = MAGIC.to_le_bytes();
    let mut at = offset + 1;
    while let Some(found) = data.get(at..).and_then(|rest| find(rest, magic)) {
        at += found;
        let promised = frame_header(&data[at..]).filter(|frame| frame.durable > offset as u64);
        if promised.is_some_and(|frame| {
            let start = at + FRAME_HEADER;
            data.get(start..start + frame.len).is_some_and(|payload| crc32fast::hash(payload) == frame.payload)
        }) {
            return Err("a later frame knows that it was durable");
        }
        at += 1;
    }
    Ok(())
}

/// Whether a frame would pass for one that was not written wholly, if it changed: a part of it in one sector is zeroes.
pub(in crate::embedded) fn looks_unwritten(frame: &[u8], offset: u64) -> bool {
    // Only where sectors begin matters.
    let lead = (offset % SECTOR as u64) as usize;
    let first = (SECTOR - lead).min(frame.len());
    let (head, rest) = frame.split_at(first);
    is_zero(head) || rest.chunks(SECTOR).any(is_zero)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn find(data: &[u8], magic: [u8; 4]) -> Option<usize> {
    data.windows(4).position(|window| window == magic)
}
