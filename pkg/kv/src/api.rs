//! The contract that every engine fulfils.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Error;

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision at which the key came into being.
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// How often it was written since it came into being.
    pub version: u64,
}

/// What is compared before a write: the modification revision of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The key must not exist.
    Absent,
    /// The key's last change must be of this revision.
    ModRevision(u64),
}

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a value. With `expires` (seconds since 1970) the key is deleted some time after that.
    Put { value: Bytes, expires: Option<u64> },
    /// Deletes the key.
    Delete,
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Written, at this revision.
    Committed { revision: u64 },
    /// The comparison failed; this is what the key holds.
    Mismatch { current: Option<KeyValue>, revision: u64 },
}

/// Keys from `start` (inclusive) to `end` (exclusive).
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub start: Bytes,
    pub end: Bytes,
    /// 0 for all.
    pub limit: usize,
    /// The state to read; the newest when absent.
    pub revision: Option<u64>,
}

impl Range {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: prefix_end(prefix), limit: 0, revision: None }
    }
}

/// The first key after all that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    // No key sorts after a prefix of only 0xff; the longest key does not reach this.
    vec![0xff; 16].into()
}

/// A page of keys.
#[derive(Debug, Clone)]
pub struct RangeResult {
    pub kvs: Vec<KeyValue>,
    /// The revision that was read.
    pub revision: u64,
    /// Keys in the range beyond the limit.
    pub remaining: usize,
}

/// A committed change.
#[derive(Debug, Clone)]
pub struct Event {
    pub revision: u64,
    pub key: Bytes,
    /// The value after the change; none for a deletion.
    pub value: Option<Bytes>,
    /// What the key held before.
    pub previous: Option<KeyValue>,
    pub create_revision: u64,
}

/// Is told of commits. Calls are in the order of revisions, never at the same time, and must not block.
pub trait Observer: Send + Sync {
    /// These were committed; all events of one revision are in one call.
    fn committed(&self, events: &[Event]);
}

/// The state that an observer starts from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub revision: u64,
    pub kvs: Vec<KeyValue>,
}

/// An engine.
#[async_trait]
pub trait Kv: Send + Sync {
    /// The newest revision.
    fn revision(&self) -> u64;

    /// Reads a key as it is now.
    ///
    /// # Errors
    /// [`Error`], as for all operations.
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error>;

    /// Reads a range at one revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`] for a revision that cannot be read.
    async fn range(&self, range: Range) -> Result<RangeResult, Error>;

    /// Compares and then writes one key, durably.
    ///
    /// # Errors
    /// When the outcome could not be made durable; then it is unknown until the store is opened again.
    async fn txn(&self, key: Bytes, compare: Option<Compare>, write: Write) -> Result<TxnOutcome, Error>;

    /// Registers an observer: it gets every event after the returned snapshot of the keys under `prefix`.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn observe(&self, prefix: &[u8], observer: Arc<dyn Observer>) -> Result<Snapshot, Error>;

    /// Forgets versions that were replaced at or before `revision`.
    ///
    /// # Errors
    /// When the revision is in the future.
    async fn compact(&self, revision: u64) -> Result<(), Error>;

    /// Makes everything durable and stops taking writes.
    async fn close(&self);
}
