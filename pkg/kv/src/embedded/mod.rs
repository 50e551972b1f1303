//! The embedded engine: one log, an index in memory, checkpoints in the background.
//!
//! Invariants:
//! - One thread, the writer, decides all transactions, in the order in which they came. It appends a batch as one
//!   checksummed frame, syncs once, then applies the batch to the index, tells the observers, and only then answers.
//! - Readers see only what is durable.
//! - A frame that is damaged at the end of the log was never acknowledged and is cut off; anywhere else it is an error.

mod format;
mod index;
mod lock;
mod log;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_base::SharedClock;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::api::{Compare, KeyValue, Kv, Observer, Range, RangeResult, Snapshot, TxnOutcome, Write};
use crate::error::Error;
use crate::files::Files;
use index::Index;
use writer::{Request, Writer};

/// Transactions that may wait for the writer.
const QUEUE: usize = 4_096;
/// Longest key.
const MAX_KEY: usize = 4 << 10;
/// Largest value; the API's own limit on objects is lower.
const MAX_VALUE: usize = 8 << 20;

/// How the engine is opened.
pub struct Options {
    /// Its directory; created when missing.
    pub dir: PathBuf,
    pub files: Arc<dyn Files>,
    pub clock: SharedClock,
    /// A segment is closed when it is larger than this.
    pub segment_bytes: u64,
    /// How many revisions of history are kept for paged lists and slow readers.
    pub history: u64,
}

impl Options {
    /// The defaults for a directory on the real file system.
    pub fn new(dir: PathBuf, clock: SharedClock) -> Self {
        Self { dir, files: Arc::new(crate::files::RealFiles), clock, segment_bytes: 16 << 20, history: 10_000 }
    }
}

pub(crate) struct Shared {
    index: RwLock<Index>,
    observers: Mutex<Vec<(Bytes, Arc<dyn Observer>)>>,
}

/// The embedded engine.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    _lock: lock::DirLock,
}

impl Embedded {
    /// Opens the store and replays its log.
    ///
    /// # Errors
    /// When another process has the directory, it cannot be written, or a file is damaged or too new.
    pub fn open(options: Options) -> Result<Self, Error> {
        let files = options.files.clone();
        files.create_dir(&options.dir).map_err(|e| Error::io("cannot create", &options.dir, e))?;
        let lock = lock::DirLock::acquire(&options.dir)?;
        let (log, index) = log::Log::open(&options)?;
        let shared = Arc::new(Shared { index: RwLock::new(index), observers: Mutex::default() });
        let (requests, receiver) = mpsc::channel(QUEUE);
        let writer = Writer::new(shared.clone(), log, &options);
        let thread = std::thread::Builder::new()
            .name("kv-writer".into())
            .spawn(move || writer.run(receiver))
            .map_err(|e| Error::io("cannot start the writer of", &options.dir, e))?;
        Ok(Self { shared, requests: Mutex::new(Some(requests)), thread: Mutex::new(Some(thread)), _lock: lock })
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
}

#[async_trait]
impl Kv for Embedded {
    fn revision(&self) -> u64 {
        self.shared.index.read().revision()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        Ok(self.shared.index.read().get(key))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.shared.index.read().range(&range)
    }

    async fn txn(&self, key: Bytes, compare: Option<Compare>, write: Write) -> Result<TxnOutcome, Error> {
        let too_large = |what, size, limit| Err(Error::TooLarge { what, size, limit });
        if key.len() > MAX_KEY {
            return too_large("a key", key.len(), MAX_KEY);
        }
        match &write {
            Write::Put { value, .. } if value.len() > MAX_VALUE => return too_large("a value", value.len(), MAX_VALUE),
            _ => {}
        }
        self.ask(|answer| Request::Txn { key, compare, write, answer }).await
    }

    async fn observe(&self, prefix: &[u8], observer: Arc<dyn Observer>) -> Result<Snapshot, Error> {
        // The writer takes this lock while it applies and reports, so nothing falls between snapshot and first event.
        let mut observers = self.shared.observers.lock();
        let result = self.shared.index.read().range(&Range::prefix(prefix))?;
        observers.push((Bytes::copy_from_slice(prefix), observer));
        Ok(Snapshot { revision: result.revision, kvs: result.kvs })
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.ask(|answer| Request::Compact { revision, answer }).await
    }

    async fn close(&self) {
        // Dropping the last sender lets the writer finish what it has and end.
        drop(self.requests.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // Joining may wait for the disk; a panic of the writer has been logged by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

#[cfg(test)]
mod tests;
