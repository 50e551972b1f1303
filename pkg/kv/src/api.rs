//! The contract that every engine fulfils: etcd's, in Rust.
//!
//! - One counter, the revision, numbers all transactions that write; it never goes back, not even after a power cut.
//! - A transaction is atomic: its writes share one revision, its reads see what its own earlier operations wrote.
//!   Conditions, also those of inner transactions, are judged on the state before the whole transaction.
//! - Observers get every change once, in order, and all changes of a revision in one call.
//! - What was acknowledged with [`Durability::Synced`] survives anything; see [`Durability`] for the rest.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Error;

/// Identifies a lease; never 0.
pub type LeaseId = i64;

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision at which the key came into being.
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// How often it was written since it came into being, from 1.
    pub version: u64,
    /// The lease it goes with; 0 for none.
    pub lease: LeaseId,
}

impl KeyValue {
    /// With its value as it was before it was packed, if it was: as everybody outside is to see it.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn plain(self) -> Result<Self, Error> {
        Ok(Self { value: kedge_packed::plain(&self.value)?, ..self })
    }
}

/// Keys from `start` (inclusive) to `end` (exclusive; none for no end).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let mut end = Vec::with_capacity(start.len() + 1);
        end.extend_from_slice(&start);
        end.push(0);
        Self { start, end: Some(end.into()) }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let start = Bytes::copy_from_slice(prefix);
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self { start, end: Some(end.into()) };
            }
        }
        Self { start, end: None }
    }

    /// Whether this is exactly one key.
    pub fn is_single(&self) -> bool {
        self.end
            .as_ref()
            .is_some_and(|end| end.len() == self.start.len() + 1 && end.ends_with(&[0]) && end.starts_with(&self.start))
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// As bounds of an ordered map. The range must not be empty.
    pub fn bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        let end = self.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.start.clone()), end)
    }
}

/// A read of a range of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    pub keys: KeyRange,
    /// At most this many keys are returned; 0 for all.
    pub limit: usize,
    /// The state to read; the newest when absent.
    pub revision: Option<u64>,
    /// Counts, and returns no keys.
    pub count_only: bool,
    /// Leaves the values out.
    pub keys_only: bool,
}

impl Range {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { keys: KeyRange::prefix(prefix), ..Self::default() }
    }

    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { keys: KeyRange::key(key), ..Self::default() }
    }
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResult {
    /// In the order of keys.
    pub kvs: Vec<KeyValue>,
    /// The revision that was read.
    pub revision: u64,
    /// Keys in the range, with and beyond the limit.
    pub count: usize,
}

impl RangeResult {
    /// Keys in the range that are not in this page.
    pub fn remaining(&self) -> usize {
        self.count.saturating_sub(self.kvs.len())
    }
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// What a condition looks at. A key that does not exist has zeroes, and no value: any condition on its value fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(u64),
    CreateRevision(u64),
    ModRevision(u64),
    Value(Bytes),
    Lease(LeaseId),
}

/// A condition on every key of a range. An empty range is judged as one key that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub keys: KeyRange,
    pub order: Order,
    pub target: Target,
}

impl Compare {
    /// The key must not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self { keys: KeyRange::key(key), order: Order::Equal, target: Target::ModRevision(0) }
    }

    /// The key's last change must be of this revision.
    pub fn mod_revision(key: impl Into<Bytes>, revision: u64) -> Self {
        Self { keys: KeyRange::key(key), order: Order::Equal, target: Target::ModRevision(revision) }
    }
}

/// An operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Range(Range),
    /// Sets a value. `lease` 0 attaches it to none.
    Put {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
    },
    Delete(KeyRange),
    Txn(Txn),
}

/// Operations that happen together: `success` when all conditions hold, else `failure`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
    pub durability: Durability,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    Range(RangeResult),
    Put {
        previous: Option<KeyValue>,
    },
    /// What was deleted, in the order of keys.
    Delete {
        previous: Vec<KeyValue>,
    },
    Txn(TxnResult),
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResult {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The revision of its writes; without writes, the newest one.
    pub revision: u64,
    /// One for each operation of the branch that was taken.
    pub results: Vec<OpResult>,
}

/// What an acknowledgement promises; each promises what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// As [`Durability::Relaxed`], and the end of this process may lose the write too, unless the store is closed before.
    Deferred,
    /// A power cut soon after may lose the write (never tear it, and never the revision: that does not go back). It becomes
    /// durable with the next synced write, and within the bound that the engine documents.
    Relaxed,
    /// The write survives anything from then on.
    #[default]
    Synced,
}

/// A committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: u64,
    pub key: Bytes,
    /// What the key holds after the change; none for a deletion.
    pub current: Option<KeyValue>,
    /// What it held before; an engine may not know it any more when history was compacted meanwhile.
    pub previous: Option<KeyValue>,
}

/// The state that an observer starts from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub revision: u64,
    pub kvs: Vec<KeyValue>,
}

/// Is told of commits. Calls are in the order of revisions, never at the same time, and must not block.
pub trait Observer: Send + Sync {
    /// These were committed; all events of one revision are in one call.
    fn committed(&self, events: &[Event]);
    /// Everything up to `revision` has been reported.
    fn progress(&self, revision: u64) {
        let _ = revision;
    }
    /// The changes up to this state were lost to compaction: it replaces all that was reported before.
    fn reset(&self, state: Snapshot);
}

/// A lease that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// How long it lasts without being kept alive.
    pub ttl: Duration,
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    pub id: LeaseId,
    pub ttl: Duration,
    /// Until its keys are deleted.
    pub remaining: Duration,
    /// Keys that go with it, sorted.
    pub keys: Vec<Bytes>,
}

/// An engine.
///
/// All operations fail with [`Error`]. A write that fails may nevertheless have happened when
/// [`Error::is_outcome_unknown`] says so.
#[async_trait]
pub trait Kv: Send + Sync {
    /// The newest revision that this handle has seen.
    fn revision(&self) -> u64;

    /// Whether values may be put packed (see [`kedge_packed`]). They are given out as they were put: whoever hands them on makes
    /// them [plain](KeyValue::plain). Others who read an etcd would not know what to do with them.
    fn takes_packed(&self) -> bool {
        false
    }

    /// Waits until observers have been told everything that was acknowledged to anybody before the call; returns a
    /// revision that covers it.
    async fn barrier(&self) -> Result<u64, Error>;

    /// Reads a range at one revision: [`Error::Compacted`] or [`Error::FutureRevision`] when it cannot be read.
    async fn range(&self, range: Range) -> Result<RangeResult, Error>;

    /// Decides and applies a transaction.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error>;

    /// Registers an observer: it gets every event after the returned state of the keys under `prefix`.
    async fn observe(&self, prefix: &[u8], observer: Arc<dyn Observer>) -> Result<Snapshot, Error>;

    /// Forgets versions that were replaced at or before `revision`. [`Error::Compacted`] when it was compacted already.
    async fn compact(&self, revision: u64) -> Result<(), Error>;

    /// Grants a lease of at least `ttl` (whole seconds, rounded up), with the given id or a new one.
    async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<Lease, Error>;

    /// Ends a lease and deletes its keys. [`Error::LeaseNotFound`] when there is none.
    async fn revoke(&self, id: LeaseId) -> Result<(), Error>;

    /// Starts a lease's time anew. [`Error::LeaseNotFound`] when there is none.
    async fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error>;

    /// A lease as it stands. [`Error::LeaseNotFound`] when there is none.
    async fn lease(&self, id: LeaseId) -> Result<LeaseStatus, Error>;

    /// All leases, by id.
    async fn leases(&self) -> Result<Vec<LeaseId>, Error>;

    /// Whether the store takes writes now.
    async fn health(&self) -> Result<(), Error>;

    /// Makes everything durable and stops taking writes. May be called more than once.
    async fn close(&self);

    /// Reads a key as it is now.
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        Ok(self.range(Range::key(key.to_vec())).await?.kvs.pop())
    }
}
