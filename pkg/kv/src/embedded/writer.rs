//! The writer: decides transactions, commits them in groups, applies and reports them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use kedge_base::SharedClock;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::format::{self, Record};
use super::group::{Answer, Decided, Group, Waiting};
use super::log::Log;
use super::{Options, Shared};
use crate::api::{Event, Lease, LeaseId, Txn, TxnResult};
use crate::error::Error;

/// Transactions in one group commit.
const GROUP: usize = 1_024;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 << 20;
/// A checkpoint is due when this many bytes, and as many as twice the live data, are not covered by one.
const CHECKPOINT_BYTES: u64 = 16 << 20;
/// Leases ended with one group.
const EXPIRE: usize = 64;
/// How long relaxed writes may wait for a sync.
const RELAXED: Duration = Duration::from_secs(60);

/// What the writer is asked for.
pub(super) enum Request {
    Txn { txn: Txn, answer: Answer<TxnResult> },
    Grant { id: Option<LeaseId>, seconds: u64, answer: Answer<Lease> },
    Revoke { id: LeaseId, answer: Answer<()> },
    Compact { revision: u64, answer: Answer<()> },
}

impl Request {
    fn refuse(self, err: Error) {
        match self {
            Self::Txn { answer, .. } => drop(answer.send(Err(err))),
            Self::Grant { answer, .. } => drop(answer.send(Err(err))),
            Self::Revoke { answer, .. } | Self::Compact { answer, .. } => drop(answer.send(Err(err))),
        }
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// None: the store is only in memory.
    log: Option<Log>,
    clock: SharedClock,
    history: u64,
    checkpoint: Option<JoinHandle<()>>,
    frame: BytesMut,
    /// When relaxed writes must be made durable.
    sync_due: Option<Duration>,
}

/// Why the writer woke up.
enum Woken {
    Requests,
    Timer,
    Closed,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, log: Option<Log>, options: &Options) -> Self {
        Self {
            shared,
            log,
            clock: options.clock.clone(),
            history: options.history,
            checkpoint: None,
            frame: BytesMut::new(),
            sync_due: None,
        }
    }

    /// Works until all senders are gone.
    pub(super) fn run(mut self, runtime: &Runtime, mut requests: mpsc::Receiver<Request>) {
        let mut taken = Vec::with_capacity(GROUP);
        let mut pending = VecDeque::new();
        loop {
            match runtime.block_on(self.wait(&mut requests, &mut taken)) {
                Woken::Requests => pending.extend(taken.drain(..)),
                Woken::Timer => {}
                Woken::Closed => break,
            }
            loop {
                let group = self.gather(&mut pending);
                self.commit(group);
                if pending.is_empty() {
                    break;
                }
            }
            self.sync_when_due();
        }
        self.finish();
    }

    async fn wait(&self, requests: &mut mpsc::Receiver<Request>, taken: &mut Vec<Request>) -> Woken {
        let woken = |n| if n > 0 { Woken::Requests } else { Woken::Closed };
        let Some(deadline) = self.deadline() else {
            return woken(requests.recv_many(taken, GROUP).await);
        };
        let now = self.clock.monotonic();
        let sleep = self.clock.sleep(deadline.saturating_sub(now));
        // A clock that is moved by hand may have moved before the sleep began, which would then end too late.
        if self.clock.monotonic() >= deadline {
            return Woken::Timer;
        }
        tokio::select! {
            biased;
            n = requests.recv_many(taken, GROUP) => woken(n),
            () = sleep => Woken::Timer,
        }
    }

    /// When there is something to do without being asked.
    fn deadline(&self) -> Option<Duration> {
        if self.shared.failed.get().is_some() {
            return None;
        }
        [self.sync_due, self.shared.leases.lock().next_expiry()].into_iter().flatten().min()
    }

    fn gather(&mut self, pending: &mut VecDeque<Request>) -> Group {
        let index = self.shared.index.read();
        let mut group = Group::on(index.revision());
        let failed = self.shared.failed.get();
        let now = self.clock.monotonic();
        let frame = &mut self.frame;
        format::begin_frame(frame);
        while let Some(request) = pending.pop_front() {
            if let Some(err) = failed {
                request.refuse(Error::Closed(err.to_string()));
                continue;
            }
            let leases = self.shared.leases.lock();
            match request {
                Request::Txn { txn, answer } => match group.txn(frame, &index, &leases, now, &txn) {
                    Ok(Decided::Result(result)) => group.waiting.push(Waiting::Txn(answer, result)),
                    Ok(Decided::Later) => {
                        pending.push_front(Request::Txn { txn, answer });
                        return group;
                    }
                    Err(err) => drop(answer.send(Err(err))),
                },
                Request::Grant { id, seconds, answer } => {
                    let free = |id: &LeaseId| *id != 0 && !group.lease_exists(&leases, *id);
                    let id = id.filter(|id| *id != 0);
                    if let Some(taken) = id.filter(|id| !free(id)) {
                        drop(answer.send(Err(Error::LeaseExists(taken))));
                        continue;
                    }
                    let id = id.unwrap_or_else(|| random_id(free));
                    group.grant(frame, id, seconds);
                    let lease = Lease { id, ttl: Duration::from_secs(seconds) };
                    group.waiting.push(Waiting::Granted(answer, lease));
                }
                Request::Revoke { id, answer } => {
                    if group.lease_exists(&leases, id) {
                        group.synced = true;
                        group.revoke(frame, &index, &leases, id, usize::MAX);
                        group.waiting.push(Waiting::Done(answer));
                    } else {
                        drop(answer.send(Err(Error::LeaseNotFound(id))));
                    }
                }
                Request::Compact { revision, answer } => match may_compact(&index, &group, revision) {
                    Ok(()) => {
                        group.compact(frame, revision);
                        group.waiting.push(Waiting::Done(answer));
                    }
                    Err(err) => drop(answer.send(Err(err))),
                },
            }
            if frame.len() > GROUP_BYTES {
                return group;
            }
        }
        if failed.is_none() {
            let leases = self.shared.leases.lock();
            for id in leases.expired(now, EXPIRE) {
                if group.lease_exists(&leases, id) {
                    group.revoke(frame, &index, &leases, id, 1);
                }
            }
        }
        group
    }

    fn commit(&mut self, group: Group) {
        let Group { records, waiting, synced, .. } = group;
        let outcome = self.write(&records, synced);
        if outcome.is_ok() {
            self.apply(records);
        }
        for waiting in waiting {
            waiting.answer(outcome.as_ref().copied());
        }
        if outcome.is_ok() {
            self.checkpoint_when_due();
        }
    }

    /// Hands the frame to the log, and makes it durable if that was promised.
    fn write(&mut self, records: &[Record], synced: bool) -> Result<(), Error> {
        let Some(log) = &mut self.log else { return Ok(()) };
        if records.is_empty() {
            return Ok(());
        }
        format::end_frame(&mut self.frame);
        let written = log.append(&self.frame).and_then(|()| if synced { log.sync() } else { Ok(()) });
        if let Err(err) = &written {
            self.fail(err);
            return written;
        }
        if synced {
            self.sync_due = None;
        } else {
            self.sync_due = self.sync_due.or_else(|| Some(self.clock.monotonic() + RELAXED));
        }
        Ok(())
    }

    /// What is on disk is unknown from now on: no more writes.
    fn fail(&self, err: &Error) {
        error!(error = %err, "a write failed; the store takes no more writes until the server is started again");
        // Only the first cause is kept.
        let _ = self.shared.failed.set(err.clone());
    }

    fn sync_when_due(&mut self) {
        if self.sync_due.is_some_and(|due| due <= self.clock.monotonic()) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        let Some(log) = &mut self.log else { return };
        if self.shared.failed.get().is_some() || self.sync_due.take().is_none() {
            return;
        }
        if let Err(err) = log.sync() {
            self.fail(&err);
        }
    }

    /// Applies and reports under the observers' lock, so that a new observer misses nothing.
    fn apply(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let now = self.clock.monotonic();
        let mut observers = self.shared.observers.lock();
        let mut events: Vec<Event> = Vec::with_capacity(records.len());
        {
            let mut index = self.shared.index.write();
            let mut leases = self.shared.leases.lock();
            for record in records {
                match record {
                    Record::Change(change) => {
                        let event = index.apply(change);
                        leases.follow(&event);
                        events.push(event);
                    }
                    Record::Grant { id, seconds } => leases.grant(id, seconds, now),
                    Record::Revoke { id } => leases.revoke(id),
                    Record::Compaction { revision } => index.compact(revision),
                }
            }
            let horizon = index.revision().saturating_sub(self.history);
            if horizon > index.compacted() {
                index.compact(horizon);
            }
        }
        observers.report(&events);
    }

    fn finish(&mut self) {
        self.sync();
        if let Some(checkpoint) = self.checkpoint.take() {
            // A panic has been logged by the panic hook; the log is kept then.
            let _ = checkpoint.join();
        }
        // The log goes, and with it the lock on the directory, before anybody is told that the store is closed.
        self.log = None;
        info!(revision = self.shared.index.read().revision(), "store closed");
    }

    fn checkpoint_when_due(&mut self) {
        let Some(log) = &mut self.log else { return };
        let (revision, live) = {
            let index = self.shared.index.read();
            (index.revision(), index.live_bytes())
        };
        let due = log.uncovered > CHECKPOINT_BYTES.max(2 * live);
        let may_checkpoint = due && self.checkpoint.as_ref().is_none_or(JoinHandle::is_finished);
        if !may_checkpoint && !log.wants_rotation() {
            return;
        }
        if let Err(err) = log.rotate(revision) {
            self.fail(&err);
            return;
        }
        self.sync_due = None;
        if may_checkpoint {
            self.start_checkpoint(revision);
        }
    }

    /// Writes a checkpoint on a thread of its own; the records share their bytes with the index.
    fn start_checkpoint(&mut self, revision: u64) {
        let Some(log) = &mut self.log else { return };
        let grants = self.shared.leases.lock().all();
        let grants = grants.into_iter().map(|(id, seconds)| Record::Grant { id, seconds });
        let changes = self.shared.index.read().changes();
        let records: Vec<Record> = grants.chain(changes.into_iter().map(Record::Change)).collect();
        let checkpointer = log.checkpointer();
        log.uncovered = 0;
        let work = move || match checkpointer.write(revision, &records) {
            Ok(()) => info!(revision, objects = records.len(), "checkpoint written"),
            Err(err) => warn!(revision, error = %err, "checkpoint not written; the log is kept"),
        };
        match std::thread::Builder::new().name("kv-checkpoint".into()).spawn(work) {
            Ok(thread) => self.checkpoint = Some(thread),
            Err(err) => warn!(error = %err, "cannot start a thread for the checkpoint; the log is kept"),
        }
    }
}

fn may_compact(index: &super::index::Index, group: &Group, revision: u64) -> Result<(), Error> {
    if revision > group.revision() {
        return Err(Error::FutureRevision { requested: revision, current: group.revision() });
    }
    let compacted = index.compacted();
    if revision <= compacted {
        return Err(Error::Compacted { requested: revision, compacted });
    }
    Ok(())
}

fn random_id(free: impl Fn(&LeaseId) -> bool) -> LeaseId {
    loop {
        // Positive, as etcd's are.
        let id = (kedge_base::random::u64() >> 1) as LeaseId;
        if free(&id) {
            return id;
        }
    }
}
