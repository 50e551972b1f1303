//! The engine that keeps everything in an etcd of version 3.5 or 3.6, over its gRPC API.
//!
//! Invariants:
//! - A write whose answer was lost is not sent again; it fails as [`Error::Unavailable`] with an open outcome. Reads go
//!   on at another endpoint.
//! - Reads are linearizable. A range is of one revision, however many pages it takes.
//! - An observer has one watch, which resumes where it was after any loss; see [`observe`](self::observe).
//! - [`Durability`](crate::Durability) makes no difference: etcd syncs everything.

mod auth;
mod barrier;
mod caller;
mod compact;
mod convert;
mod dial;
mod lease;
mod observe;
mod options;
mod read;
mod status;
mod version;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::{SharedClock, TaskGroup};
use kedge_etcdpb::etcdserverpb as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{Notify, mpsc};

use crate::api::{Kv, Lease, LeaseId, LeaseStatus, Observer, Op, Range, RangeResult, Snapshot, Txn, TxnResult};
use crate::check;
use crate::error::Error;
use caller::{Caller, Kind, closed};
use observe::Observation;
pub use options::EtcdOptions;
use status::Subject;

/// How often a watch that is waited for is asked for its progress.
const NUDGE: Duration = Duration::from_millis(100);
/// A healthy etcd answers within this.
const HEALTHY: Duration = Duration::from_secs(2);

/// What the handle and its tasks share.
pub(crate) struct Shared {
    caller: Caller,
    tasks: TaskGroup,
    /// Held by every task; when the last is gone, [`Etcd::close`] goes on.
    running: Mutex<Option<mpsc::Sender<()>>>,
    observations: Mutex<Vec<Arc<Observation>>>,
    /// An observer has been told something.
    progress: Notify,
    /// Somebody waits for the observers to reach this revision.
    wanted: AtomicU64,
    rounds: Mutex<barrier::Rounds>,
    page: usize,
}

/// A store in an etcd.
pub struct Etcd {
    shared: Arc<Shared>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Etcd {
    /// Connects: at least one endpoint must answer, and those that do must be of a version that is known to work.
    ///
    /// # Errors
    /// [`Error::Protocol`] for options that make no sense or a version that is too old, [`Error::Unauthenticated`],
    /// [`Error::Unavailable`].
    pub async fn connect(options: EtcdOptions, clock: SharedClock, tasks: TaskGroup) -> Result<Self, Error> {
        let tasks = tasks.child("etcd");
        let caller = Caller::new(&options, clock, tasks.shutdown().clone())?;
        let (running, ended) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            caller,
            tasks,
            running: Mutex::new(Some(running)),
            observations: Mutex::default(),
            progress: Notify::new(),
            wanted: AtomicU64::new(0),
            rounds: Mutex::default(),
            page: options.page.max(1),
        });
        shared.check_versions().await?;
        shared.newest(shared.caller.total_timeout()).await?;
        if let Some(interval) = options.compact_interval {
            let compacting = shared.clone();
            shared.spawn("etcd-compaction", move || compacting.clone().compact_always(interval));
        }
        Ok(Self { shared, ended: tokio::sync::Mutex::new(ended) })
    }
}

impl Shared {
    /// Runs a task that [`Etcd::close`] waits for; after a panic it is made again.
    fn spawn<F>(&self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(running) = self.running.lock().clone() else { return };
        self.tasks.spawn_lasting(name, move || {
            let (running, work) = (running.clone(), make());
            async move {
                work.await;
                drop(running);
            }
        });
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        check::txn(&txn)?;
        let request = convert::txn_request(&txn)?;
        let mut subject = Subject { size: request.encoded_len(), ..Subject::default() };
        describe(&txn, &mut subject);
        let kind = if check::is_read_only(&txn) { Kind::Read } else { Kind::Write };
        let answer = self.caller.call(kind, subject, |to| {
            let request = to.request(request.clone());
            async move { to.kv().txn(request).await }
        });
        let answer = answer.await?;
        let revision = answer.header.as_ref().map_or(0, |h| convert::unsigned(h.revision));
        convert::txn_result(&txn, answer, revision)
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let request = pb::CompactionRequest { revision: convert::signed(revision), physical: false };
        let subject = Subject { revision, ..Subject::default() };
        let answer = self.caller.call(Kind::Write, subject, |to| {
            let request = to.request(request);
            async move { to.kv().compact(request).await }
        });
        answer.await.map(|_| ())
    }

    async fn health(&self) -> Result<(), Error> {
        // As upstream's servers, which read: an etcd without space is one for reading and deleting, and no reason to be
        // restarted. One that is corrupt refuses to be read.
        self.newest(HEALTHY).await.map(drop)
    }
}

/// What a transaction is about, for the errors that name it.
fn describe(txn: &Txn, subject: &mut Subject) {
    subject.ops = subject.ops.max(txn.compare.len()).max(txn.success.len()).max(txn.failure.len());
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put { key, lease, .. } => {
                if subject.lease == 0 {
                    subject.lease = *lease;
                }
                if subject.key.is_empty() {
                    subject.key = String::from_utf8_lossy(key).into_owned();
                }
            }
            Op::Range(range) => subject.revision = subject.revision.max(range.revision.unwrap_or(0)),
            Op::Delete(_) => {}
            Op::Txn(inner) => describe(inner, subject),
        }
    }
}

#[async_trait]
impl Kv for Etcd {
    fn revision(&self) -> u64 {
        self.shared.caller.revision()
    }

    async fn barrier(&self) -> Result<u64, Error> {
        self.shared.barrier().await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.shared.range(range).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        self.shared.txn(txn).await
    }

    async fn observe(&self, prefix: &[u8], observer: Arc<dyn Observer>) -> Result<Snapshot, Error> {
        let state = self.shared.range(Range::prefix(prefix)).await?;
        let observation = Arc::new(Observation::new(prefix, observer, state.revision));
        self.shared.observations.lock().push(observation.clone());
        let (shared, mut again) = (self.shared.clone(), false);
        self.shared.spawn("etcd-observer", move || {
            shared.clone().keep_told(observation.clone(), std::mem::replace(&mut again, true))
        });
        Ok(Snapshot { revision: state.revision, kvs: state.kvs })
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.shared.compact(revision).await
    }

    async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<Lease, Error> {
        self.shared.grant(id, ttl).await
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.shared.revoke(id).await
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        self.shared.keep_alive(id).await
    }

    async fn lease(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        self.shared.lease(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.shared.leases().await
    }

    async fn health(&self) -> Result<(), Error> {
        if self.shared.caller.shutdown().is_requested() {
            return Err(closed());
        }
        self.shared.health().await
    }

    async fn close(&self) {
        self.shared.caller.shutdown().trigger();
        drop(self.shared.running.lock().take());
        // Nothing is ever sent: this is the end of the last task.
        let _ = self.ended.lock().await.recv().await;
    }
}
