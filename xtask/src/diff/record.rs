//! Answers as a file: what a peer said to each step, compressed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::answer::Answer;

/// Answers by the names of their steps, `SCENARIO/STEP`.
pub type Record = BTreeMap<String, Answer>;

/// Writes a record, in the order of names, so that answers that are alike stand beside each other.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, record: &Record) -> anyhow::Result<()> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    for (step, answer) in record {
        write!(out, "@{step}\n{answer}")?;
    }
    std::fs::write(path, out.finish()?).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a record.
///
/// # Errors
/// When the bytes are none.
pub fn read(bytes: &[u8]) -> anyhow::Result<Record> {
    let mut text = String::new();
    ZlibDecoder::new(bytes).read_to_string(&mut text).context("the record is damaged")?;
    let mut lines = text.lines();
    let mut record = Record::new();
    while let Some(line) = lines.next() {
        let step = line.strip_prefix('@').with_context(|| format!("no step: {line}"))?;
        record.insert(step.to_owned(), Answer::parse(&mut lines).with_context(|| step.to_owned())?);
    }
    Ok(record)
}
