//! Layer 1: snapshots in etcd's format, so that backups of the embedded store open in etcd, and etcd's open here.
//!
//! A snapshot is etcd's database file followed by the SHA-256 of it. Only the newest version of each key is written; the
//! revision of the store is kept as the one that everything before was compacted at. Of snapshots that etcd made the
//! newest versions are read.
//!
//! Invariant: a snapshot is read only when its checksum fits, and no content makes the reader panic or run without end.

mod bolt;
mod error;
mod format;

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub use error::Error;
use kedge_kv::KeyValue;
use sha2::{Digest as _, Sha256};

/// Bytes of the checksum at the end of a snapshot.
pub const CHECKSUM: u64 = 32;
/// The database's size is a multiple of this, so a file with a checksum is told by its size.
const SECTOR: u64 = 512;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The revision of the store.
    pub revision: u64,
    /// The newest version of each key, by key.
    pub kvs: Vec<KeyValue>,
    /// Leases and the seconds that each lasts, by id.
    pub leases: Vec<(i64, u64)>,
}

/// What a file holds, without the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub revision: u64,
    pub keys: usize,
    pub size: u64,
    /// The checksum, in hexadecimal.
    pub checksum: String,
}

/// Writes a snapshot to a new file, 0600, durably. `progress` is told the keys written so far.
///
/// # Errors
/// [`Error::Write`]; what was written of the file is left to the caller.
pub fn write(path: &Path, state: &State, progress: &mut dyn FnMut(usize)) -> Result<Summary, Error> {
    let file = File::options().create_new(true).read(true).write(true).mode(0o600).open(path).map_err(Error::Write)?;
    write_to(file, path, state, progress)
}

/// The same to a file that is empty and at `path`, open for reading and writing.
///
/// # Errors
/// As [`write`].
pub fn write_to(file: File, path: &Path, state: &State, progress: &mut dyn FnMut(usize)) -> Result<Summary, Error> {
    let file = format::write(BufWriter::new(file), state, progress).map_err(Error::Write)?;
    let mut file = file.into_inner().map_err(|e| Error::Write(e.into_error()))?;
    let (checksum, size) = hash(&mut file, None)?;
    file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&checksum)).map_err(Error::Write)?;
    file.sync_all().map_err(Error::Write)?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::Write)?;
    }
    Ok(Summary { revision: state.revision, keys: state.kvs.len(), size: size + CHECKSUM, checksum: hex(&checksum) })
}

/// Reads a snapshot whose checksum fits. `progress` is told the records read so far.
///
/// # Errors
/// [`Error`].
pub fn read(path: &Path, progress: &mut dyn FnMut(usize)) -> Result<(State, Summary), Error> {
    let mut file = File::open(path).map_err(Error::Read)?;
    let len = file.metadata().map_err(Error::Read)?.len();
    if len % SECTOR != CHECKSUM {
        return Err(Error::NoChecksum);
    }
    let (checksum, size) = hash(&mut file, Some(len - CHECKSUM))?;
    let mut stored = [0; CHECKSUM as usize];
    file.read_exact(&mut stored).map_err(Error::Read)?;
    if stored != checksum {
        return Err(Error::Checksum);
    }
    let state = format::read(&file, size, progress)?;
    let summary = Summary { revision: state.revision, keys: state.kvs.len(), size: len, checksum: hex(&checksum) };
    Ok((state, summary))
}

/// The SHA-256 of the first `len` bytes (none: of all), and how many that were.
fn hash(file: &mut File, len: Option<u64>) -> Result<([u8; CHECKSUM as usize], u64), Error> {
    file.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    let mut hasher = Sha256::new();
    let mut limited = file.take(len.unwrap_or(u64::MAX));
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let n = limited.read(&mut buffer).map_err(Error::Read)?;
        if n == 0 {
            return Ok((hasher.finalize().into(), total));
        }
        hasher.update(&buffer[..n]);
        total += n as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
