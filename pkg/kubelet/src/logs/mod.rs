//! Container logs in the CRI format: parsing, reading, following and rotating them.

mod parse;
mod path;
mod read;
mod rotate;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

pub(crate) use path::{container_log_dir, legacy_symlink, pod_log_dir, relative_log_path};
pub(crate) use read::{LogOptions, LogStreams, follow_log};
pub(crate) use rotate::Rotator;

/// The last `limit` bytes of a file.
pub(crate) fn read_tail(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut data = Vec::new();
    file.take(limit).read_to_end(&mut data)?;
    Ok(data)
}

/// The messages of the last lines of a log, at most `limit` bytes of them.
pub(crate) fn tail_text(path: &Path, lines: usize, limit: u64) -> io::Result<String> {
    // Each line carries a time stamp and tags; four times the limit is enough to find that much text.
    let data = match read_tail(path, limit.saturating_mul(4).max(64 * 1024)) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let all: Vec<&[u8]> = data.split_inclusive(|b| *b == b'\n').collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let mut text = Vec::new();
    for line in last {
        if let Some(line) = parse::parse_line(line) {
            line.write_message(&mut text);
        }
    }
    let from = text.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(String::from_utf8_lossy(&text[from..]).into_owned())
}
