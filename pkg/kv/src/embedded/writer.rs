//! The writer: decides transactions, commits them in groups, applies and reports them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use kedge_base::SharedClock;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::format::{self, Record};
use super::log::Log;
use super::{Options, Shared};
use crate::api::{Compare, Event, KeyValue, TxnOutcome, Write};
use crate::error::Error;

/// Transactions in one group commit.
const GROUP: usize = 1_024;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 << 20;
/// A checkpoint is due when this many bytes, and as many as twice the live data, are not covered by one.
const CHECKPOINT_BYTES: u64 = 16 << 20;
/// Expired keys deleted with one group.
const EXPIRE: usize = 256;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Request {
    Txn { key: Bytes, compare: Option<Compare>, write: Write, answer: Answer<TxnOutcome> },
    Compact { revision: u64, answer: Answer<()> },
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    clock: SharedClock,
    history: u64,
    /// Set once a write has failed: what is on disk is unknown from then on.
    failed: Option<Error>,
    checkpointing: Arc<AtomicBool>,
    frame: BytesMut,
}

/// A group being put together.
#[derive(Default)]
struct Group {
    records: Vec<Record>,
    /// What keys hold after the records so far.
    pending: HashMap<Bytes, Option<KeyValue>>,
    answers: Vec<(Answer<TxnOutcome>, TxnOutcome)>,
    compactions: Vec<(Answer<()>, u64)>,
    revision: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, log: Log, options: &Options) -> Self {
        Self {
            shared,
            log,
            clock: options.clock.clone(),
            history: options.history,
            failed: None,
            checkpointing: Arc::default(),
            frame: BytesMut::new(),
        }
    }

    /// Works until all senders are gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut taken = Vec::with_capacity(GROUP);
        while requests.blocking_recv_many(&mut taken, GROUP) > 0 {
            let mut pending = taken.drain(..).peekable();
            while pending.peek().is_some() {
                let group = self.gather(&mut pending);
                self.commit(group);
            }
        }
        info!(revision = self.shared.index.read().revision(), "store closed");
    }

    fn gather(&mut self, requests: &mut impl Iterator<Item = Request>) -> Group {
        let mut group = Group { revision: self.shared.index.read().revision(), ..Group::default() };
        format::begin_frame(&mut self.frame);
        for request in requests {
            match request {
                Request::Txn { key, compare, write, answer } => {
                    let outcome = self.decide(&mut group, key, compare, write);
                    group.answers.push((answer, outcome));
                }
                Request::Compact { revision, answer } => group.compactions.push((answer, revision)),
            }
            if self.frame.len() > GROUP_BYTES {
                break;
            }
        }
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let expired = self.shared.index.read().expired(now, EXPIRE);
        for key in expired {
            if !group.pending.contains_key(&key) {
                self.decide(&mut group, key, None, Write::Delete);
            }
        }
        group
    }

    fn decide(&mut self, group: &mut Group, key: Bytes, compare: Option<Compare>, write: Write) -> TxnOutcome {
        let current = match group.pending.get(&key) {
            Some(pending) => pending.clone(),
            None => self.shared.index.read().get(&key),
        };
        let holds = match compare {
            None => true,
            Some(Compare::Absent) => current.is_none(),
            Some(Compare::ModRevision(want)) => current.as_ref().is_some_and(|kv| kv.mod_revision == want),
        };
        let nothing_to_delete = write == Write::Delete && current.is_none();
        if !holds || nothing_to_delete {
            return TxnOutcome::Mismatch { current, revision: group.revision };
        }
        group.revision += 1;
        let revision = group.revision;
        let (value, expires) = match write {
            Write::Put { value, expires } => (Some(value), expires),
            Write::Delete => (None, None),
        };
        let create_revision = current.as_ref().map_or(revision, |kv| kv.create_revision);
        let version = current.map_or(1, |kv| kv.version + 1);
        let after = value.clone().map(|value| KeyValue {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            version,
        });
        group.pending.insert(key.clone(), after);
        let record = Record { key, value, revision, create_revision, version, expires };
        format::put_record(&mut self.frame, &record);
        group.records.push(record);
        TxnOutcome::Committed { revision }
    }

    fn commit(&mut self, group: Group) {
        let Group { records, answers, compactions, .. } = group;
        if let Err(err) = self.make_durable(&records) {
            for (answer, outcome) in answers {
                let refused = match outcome {
                    TxnOutcome::Committed { .. } => Err(err.clone()),
                    mismatch @ TxnOutcome::Mismatch { .. } => Ok(mismatch),
                };
                // Whoever no longer listens does not need the answer.
                let _ = answer.send(refused);
            }
            for (answer, _) in compactions {
                let _ = answer.send(Err(err.clone()));
            }
            return;
        }
        self.apply(records);
        for (answer, outcome) in answers {
            let _ = answer.send(Ok(outcome));
        }
        for (answer, revision) in compactions {
            let _ = answer.send(self.compact(revision));
        }
        self.checkpoint_when_due();
    }

    fn make_durable(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(err) = &self.failed {
            return Err(Error::Closed(err.to_string()));
        }
        format::end_frame(&mut self.frame);
        self.log.commit(&self.frame).inspect_err(|err| {
            error!(error = %err, "a write failed; the store takes no more writes until the server is started again");
            self.failed = Some(err.clone());
        })
    }

    /// Applies and reports under the observers' lock, so that a new observer misses nothing.
    fn apply(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let observers = self.shared.observers.lock();
        let events: Vec<Event> = {
            let mut index = self.shared.index.write();
            let events = records.into_iter().map(|record| index.apply(record)).collect();
            let horizon = index.revision().saturating_sub(self.history);
            if horizon > index.compacted() {
                index.compact(horizon);
            }
            events
        };
        for (prefix, observer) in observers.iter() {
            let matching: Vec<Event> = events.iter().filter(|e| e.key.starts_with(prefix)).cloned().collect();
            if !matching.is_empty() {
                observer.committed(&matching);
            }
        }
    }

    fn compact(&self, revision: u64) -> Result<(), Error> {
        let mut index = self.shared.index.write();
        let current = index.revision();
        if revision > current {
            return Err(Error::FutureRevision { requested: revision, current });
        }
        index.compact(revision);
        Ok(())
    }

    fn checkpoint_when_due(&mut self) {
        let (revision, live) = {
            let index = self.shared.index.read();
            (index.revision(), index.live_bytes())
        };
        let due = self.log.uncovered > CHECKPOINT_BYTES.max(2 * live);
        let may_checkpoint = due && !self.checkpointing.load(Ordering::Acquire);
        if !may_checkpoint && !self.log.wants_rotation() {
            return;
        }
        if let Err(err) = self.log.rotate(revision) {
            error!(error = %err, "cannot start a new segment; the store takes no more writes until the server is started again");
            self.failed = Some(err);
            return;
        }
        if may_checkpoint {
            self.start_checkpoint(revision);
        }
    }

    /// Writes a checkpoint on a thread of its own; the records share their bytes with the index.
    fn start_checkpoint(&mut self, revision: u64) {
        let records = self.shared.index.read().live();
        let checkpointer = self.log.checkpointer();
        self.log.uncovered = 0;
        self.checkpointing.store(true, Ordering::Release);
        let running = self.checkpointing.clone();
        let work = move || {
            match checkpointer.write(revision, &records) {
                Ok(()) => info!(revision, objects = records.len(), "checkpoint written"),
                Err(err) => warn!(revision, error = %err, "checkpoint not written; the log is kept"),
            }
            running.store(false, Ordering::Release);
        };
        if let Err(err) = std::thread::Builder::new().name("kv-checkpoint".into()).spawn(work) {
            self.checkpointing.store(false, Ordering::Release);
            warn!(error = %err, "cannot start a thread for the checkpoint; the log is kept");
        }
    }
}
