//! The embedded engine: one log, an index in memory, checkpoints in the background.
//!
//! Invariants:
//! - One thread, the writer, decides all transactions that write, in the order in which they came. It appends a group as
//!   one checksummed frame, syncs once if any of them was promised to be durable, then applies the group to the index,
//!   tells the observers, and only then answers.
//! - Readers see only what is durable, or what its writer did not want durable at once ([`crate::Durability`]).
//! - A frame that is damaged at the end of the log was never acknowledged and is cut off; anywhere else it is an error.
//!
//! Relaxed writes are handed to the operating system before they are acknowledged, deferred ones with whatever is written
//! next; both are made durable with the next synced write, at the latest 60 seconds later ([`Options::relaxed`]). Grants of
//! leases, the deletion of what expired and compactions are relaxed. The revisions of all these are reserved durably
//! before, so that the revision never goes back.
//!
//! The bytes on disk are described in `format`.

mod checkpoint;
mod format;
mod group;
mod index;
mod inspect;
mod leases;
mod log;
mod observers;
mod recover;
mod space;
mod transfer;
mod upkeep;
mod view;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::{Ledger, SharedClock, Weight, sizes};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::api::{
    Event, KeyRange, Kv, Lease, LeaseId, LeaseStatus, Observer, Range, RangeResult, Snapshot, Txn, TxnResult,
};
use crate::check;
use crate::error::Error;
use crate::files::Files;
use group::Request;
pub use index::History;
use index::Index;
pub use inspect::{Found, Summary, inspect};
use leases::Leases;
use observers::Observers;
pub use transfer::Contents;
use view::{Execution, Overlay, View};
use writer::Writer;

/// Transactions that may wait for the writer.
const QUEUE: usize = 4_096;

/// Free bytes of the file system below which values are refused, unless it is set otherwise.
pub const LOW_SPACE: u64 = 64 << 20;

/// How the engine is opened.
#[derive(Clone)]
pub struct Options {
    /// Its directory; created when missing.
    pub dir: PathBuf,
    pub files: Arc<dyn Files>,
    pub clock: SharedClock,
    /// A segment is closed when it is larger than this.
    pub segment_bytes: u64,
    /// A checkpoint is written when so many bytes, and as many as twice the live data, are not covered by one.
    pub checkpoint_bytes: u64,
    /// The log is filled with zeroes in steps of this size, so that a sync has nothing but the write itself to do.
    pub room: u64,
    /// What of the past is kept for paged lists and slow readers.
    pub history: History,
    /// How long writes may wait until they are made durable, if they were not promised to be.
    pub relaxed: Duration,
    /// Free bytes of the file system below which values are refused; below a quarter of it, everything. 0 for never.
    pub low_space: u64,
}

impl Options {
    /// The defaults for a directory on the real file system.
    pub fn new(dir: PathBuf, clock: SharedClock) -> Self {
        Self {
            dir,
            files: Arc::new(crate::files::RealFiles),
            clock,
            segment_bytes: 16 << 20,
            checkpoint_bytes: 16 << 20,
            room: 1 << 20,
            history: History::default(),
            relaxed: Duration::from_secs(60),
            low_space: LOW_SPACE,
        }
    }
}

/// What the writer shares with readers. Locks are taken in the order of the fields.
pub(crate) struct Shared {
    observers: Mutex<Observers>,
    index: RwLock<Index>,
    leases: Mutex<Leases>,
    /// Set once a write has failed: what is on disk is unknown from then on.
    failed: OnceLock<Error>,
    short_of_space: AtomicBool,
}

impl sizes::Measured for Shared {
    fn sizes(&self) -> Vec<(&'static str, sizes::Size)> {
        self.index.read().sizes()
    }
}

/// The embedded engine.
pub struct Embedded {
    shared: Arc<Shared>,
    clock: SharedClock,
    identity: u64,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the store and replays its log.
    ///
    /// # Errors
    /// When another process has the directory, it cannot be written, or a file is damaged or too new.
    pub fn open(options: Options) -> Result<Self, Error> {
        let (log, recovered) = log::Log::open(&options)?;
        let recover::Recovered { mut index, leases, ceiling, .. } = recovered;
        if ceiling > index.revision() {
            info!(revision = ceiling, "the store was not closed in order: revisions go on where they may have been");
            index.advance(ceiling);
            // Who was shown one of them must not go on as if nothing had been lost.
            index.compact(ceiling);
            while index.forget_some() {}
        }
        Self::start(options, Some(log), index, leases, ceiling)
    }

    /// A store that is only in memory, and empty.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn memory(clock: SharedClock) -> Result<Self, Error> {
        Self::memory_with(clock, History::default())
    }

    /// As [`Embedded::memory`], with so much of the past.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn memory_with(clock: SharedClock, history: History) -> Result<Self, Error> {
        let options = Options { history, ..Options::new(PathBuf::from("memory"), clock) };
        Self::start(options, None, Index::at(1, 0), Leases::default(), 0)
    }

    fn start(
        options: Options,
        log: Option<log::Log>,
        mut index: Index,
        mut leases: Leases,
        ceiling: u64,
    ) -> Result<Self, Error> {
        let clock = options.clock.clone();
        leases.restart(clock.monotonic());
        index.restart_clock(clock.monotonic());
        let shared = Arc::new(Shared {
            observers: Mutex::default(),
            index: RwLock::new(index),
            leases: Mutex::new(leases),
            failed: OnceLock::new(),
            short_of_space: AtomicBool::new(false),
        });
        sizes::list("store", &shared);
        let (requests, receiver) = mpsc::channel(QUEUE);
        let dir = options.dir.clone();
        let identity = log.as_ref().map_or_else(kedge_base::random::u64, log::Log::identity);
        let writer = Writer::new(shared.clone(), log, options, ceiling);
        let cannot_start = |e| Error::io("cannot start the writer of", &dir, e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(cannot_start)?;
        let thread = std::thread::Builder::new()
            .name("kv-writer".into())
            .spawn(move || {
                // The end of the writer is the end of all writes; who waits for one is told so, and so is the health.
                let run = || writer.run(&runtime, receiver);
                let _counted = Ledger::process().catch_now("kv", "kv-writer", Weight::Vital, run);
            })
            .map_err(cannot_start)?;
        let (requests, thread) = (Mutex::new(Some(requests)), Mutex::new(Some(thread)));
        Ok(Self { shared, clock, identity, requests, thread })
    }

    /// A number that no other store has, drawn when this one was created.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Events of a range from the revision `from` on, as far as the history goes back, and the revision up to which these
    /// are all. About `limit` events: those of one revision are not parted. `from` may be in the future.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the history begins later.
    pub fn history(&self, keys: &KeyRange, from: u64, limit: usize) -> Result<(Vec<Event>, u64), Error> {
        self.shared.index.read().events(keys, from, limit)
    }

    /// Whether values were refused for want of space when something was last written.
    pub fn is_short_of_space(&self) -> bool {
        self.shared.short_of_space.load(Ordering::Relaxed)
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, Error> {
        self.requests.lock().clone().ok_or_else(|| Error::Closed("it has been closed".into()))
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Result<T, Error> {
        let gone = || Error::Closed("its writer has ended".into());
        let (answer, answered) = oneshot::channel();
        self.sender()?.send(make(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// A transaction that writes nothing needs no writer.
    fn look(&self, txn: &Txn) -> Result<TxnResult, Error> {
        let index = self.shared.index.read();
        let mut overlay = Overlay::on(index.revision());
        let path = View { index: &index, overlay: &overlay }.path(txn);
        path.check_reads(txn, &index)?;
        Execution::new(&index, &mut overlay).run(txn, &path)
    }

    /// Lets the writer finish what it has and end.
    fn stop(&self) -> Option<std::thread::JoinHandle<()>> {
        drop(self.requests.lock().take());
        self.thread.lock().take()
    }
}

#[async_trait]
impl Kv for Embedded {
    fn revision(&self) -> u64 {
        self.shared.index.read().revision()
    }

    fn takes_packed(&self) -> bool {
        true
    }

    async fn barrier(&self) -> Result<u64, Error> {
        // What was acknowledged has been reported. Holding the lock, nothing is half reported.
        let mut observers = self.shared.observers.lock();
        let revision = self.shared.index.read().revision();
        observers.progress(revision);
        Ok(revision)
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        check::range(&range)?;
        self.shared.index.read().range(&range)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        check::txn(&txn)?;
        if check::is_read_only(&txn) {
            return self.look(&txn);
        }
        self.ask(|answer| Request::Txn { txn, answer }).await
    }

    async fn observe(&self, prefix: &[u8], observer: Arc<dyn Observer>) -> Result<Snapshot, Error> {
        // The writer takes this lock while it applies and reports, so nothing falls between snapshot and first event.
        let mut observers = self.shared.observers.lock();
        let result = self.shared.index.read().range(&Range::prefix(prefix))?;
        observers.add(KeyRange::prefix(prefix), observer, result.revision);
        Ok(Snapshot { revision: result.revision, kvs: result.kvs })
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.ask(|answer| Request::Compact { revision, answer }).await
    }

    async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<Lease, Error> {
        let seconds = check::lease_seconds(ttl)?;
        self.ask(|answer| Request::Grant { id, seconds, answer }).await
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.ask(|answer| Request::Revoke { id, answer }).await
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        self.health().await?;
        self.shared.leases.lock().keep_alive(id, self.clock.monotonic())
    }

    async fn lease(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        self.shared.leases.lock().status(id, self.clock.monotonic())
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        Ok(self.shared.leases.lock().all().into_iter().map(|(id, _)| id).collect())
    }

    async fn health(&self) -> Result<(), Error> {
        if let Some(err) = self.shared.failed.get() {
            return Err(Error::Closed(err.to_string()));
        }
        self.sender().map(drop)
    }

    async fn close(&self) {
        if let Some(thread) = self.stop() {
            // Joining may wait for the disk; a panic of the writer has been counted and logged.
            let _ = kedge_base::blocking::unbounded("close the store", move || thread.join()).await;
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            // Waits for the disk, so that the directory is free when this handle is gone.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
