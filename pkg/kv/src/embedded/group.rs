//! A group commit being put together: decided transactions that are neither durable nor applied yet.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::format::{self, Change, Record};
use super::index::Index;
use super::leases::Leases;
use super::view::{Execution, Overlay, View};
use crate::api::{Durability, KeyValue, Lease, LeaseId, Op, Txn, TxnResult};
use crate::error::Error;

/// Keys of a lease that one transaction deletes. A lease with more needs several.
const LEASE_KEYS: usize = 10_000;

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// When space is short a value may still be replaced by one that is larger by so much: objects are marked for deletion,
/// and lose finalizers, by such writes.
const GROWTH: usize = 1_024;

fn grows(index: &Index, key: &[u8], value: &Bytes) -> bool {
    index.get(key).is_none_or(|current| value.len() > current.value.len() + GROWTH)
}

/// An answer that waits for its group to be committed. Whoever no longer listens does not need it.
pub(super) enum Waiting {
    Txn(Answer<TxnResult>, TxnResult),
    Granted(Answer<Lease>, Lease),
    Done(Answer<()>),
}

impl Waiting {
    pub(super) fn answer(self, outcome: Result<(), &Error>) {
        match (self, outcome) {
            (Self::Txn(answer, result), Ok(())) => drop(answer.send(Ok(result))),
            (Self::Granted(answer, lease), Ok(())) => drop(answer.send(Ok(lease))),
            (Self::Done(answer), Ok(())) => drop(answer.send(Ok(()))),
            (Self::Txn(answer, _), Err(err)) => drop(answer.send(Err(err.clone()))),
            (Self::Granted(answer, _), Err(err)) => drop(answer.send(Err(err.clone()))),
            (Self::Done(answer), Err(err)) => drop(answer.send(Err(err.clone()))),
        }
    }
}

/// What the writer is asked for.
pub(super) enum Request {
    Txn { txn: Txn, answer: Answer<TxnResult> },
    Grant { id: Option<LeaseId>, seconds: u64, answer: Answer<Lease> },
    Revoke { id: LeaseId, answer: Answer<()> },
    Compact { revision: u64, answer: Answer<()> },
}

impl Request {
    pub(super) fn refuse(self, err: &Error) {
        match self {
            Self::Txn { answer, .. } => drop(answer.send(Err(err.clone()))),
            Self::Grant { answer, .. } => drop(answer.send(Err(err.clone()))),
            Self::Revoke { answer, .. } | Self::Compact { answer, .. } => drop(answer.send(Err(err.clone()))),
        }
    }
}

/// What requests are judged by.
pub(super) struct Context<'a> {
    pub index: &'a Index,
    pub leases: &'a Leases,
    pub now: Duration,
    /// Why values that need more space are refused at the moment.
    pub no_space: Option<&'a Error>,
}

/// What came of a transaction.
enum Decided {
    Result(TxnResult),
    /// It reads a past state that is not committed yet: the group has to be committed first.
    Later,
}

/// The group.
pub(super) struct Group {
    pub records: Vec<Record>,
    pub waiting: Vec<Waiting>,
    /// The most that somebody is promised.
    pub durability: Durability,
    overlay: Overlay,
    granted: HashSet<LeaseId>,
    revoked: HashSet<LeaseId>,
}

impl Group {
    /// An empty group on the state at `revision`.
    pub(super) fn on(revision: u64) -> Self {
        Self {
            records: Vec::new(),
            waiting: Vec::new(),
            durability: Durability::Deferred,
            overlay: Overlay::on(revision),
            granted: HashSet::new(),
            revoked: HashSet::new(),
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.overlay.revision()
    }

    /// Takes a request in, or refuses it. Gives it back when the group has to be committed before.
    pub(super) fn request(&mut self, frame: &mut BytesMut, cx: &Context<'_>, request: Request) -> Option<Request> {
        match request {
            Request::Txn { txn, answer } => match self.txn(frame, cx, &txn) {
                Ok(Decided::Result(result)) => self.waiting.push(Waiting::Txn(answer, result)),
                Ok(Decided::Later) => return Some(Request::Txn { txn, answer }),
                Err(err) => drop(answer.send(Err(err))),
            },
            Request::Grant { id, seconds, answer } => match self.grant(frame, cx, id, seconds) {
                Ok(lease) => self.waiting.push(Waiting::Granted(answer, lease)),
                Err(err) => drop(answer.send(Err(err))),
            },
            Request::Revoke { id, answer } => {
                if self.lease_exists(cx.leases, id) {
                    self.promise(Durability::Synced);
                    self.revoke(frame, cx, id, usize::MAX);
                    self.waiting.push(Waiting::Done(answer));
                } else {
                    drop(answer.send(Err(Error::LeaseNotFound(id))));
                }
            }
            Request::Compact { revision, answer } => match self.compact(frame, cx, revision) {
                Ok(()) => self.waiting.push(Waiting::Done(answer)),
                Err(err) => drop(answer.send(Err(err))),
            },
        }
        None
    }

    /// Decides a transaction and takes its changes in; an error leaves no trace.
    fn txn(&mut self, frame: &mut BytesMut, cx: &Context<'_>, txn: &Txn) -> Result<Decided, Error> {
        let index = cx.index;
        let path = View { index, overlay: &self.overlay }.path(txn);
        let mut later = false;
        path.try_each(txn, &mut |op| match op {
            Op::Put { lease, .. } if *lease != 0 && !self.has_lease(cx, *lease) => Err(Error::LeaseNotFound(*lease)),
            Op::Put { key, value, .. } => match cx.no_space {
                Some(err) if grows(index, key, value) => Err(err.clone()),
                _ => Ok(()),
            },
            Op::Range(range) => match range.revision {
                Some(revision) if revision > index.revision() && revision <= self.revision() => {
                    later = true;
                    Ok(())
                }
                Some(requested) if requested > self.revision() => {
                    Err(Error::FutureRevision { requested, current: self.revision() })
                }
                Some(revision) => index.readable(revision),
                None => Ok(()),
            },
            Op::Delete(_) | Op::Txn(_) => Ok(()),
        })?;
        if later {
            return Ok(Decided::Later);
        }
        let mut execution = Execution::new(index, &mut self.overlay);
        let result = execution.run(txn, &path)?;
        let changes = execution.changes;
        if !changes.is_empty() {
            self.promise(txn.durability);
        }
        self.take(frame, changes);
        Ok(Decided::Result(result))
    }

    pub(super) fn promise(&mut self, durability: Durability) {
        self.durability = self.durability.max(durability);
    }

    fn take(&mut self, frame: &mut BytesMut, changes: Vec<Change>) {
        for change in changes {
            format::put_change(frame, &change);
            self.records.push(Record::Change(change));
        }
    }

    /// Adds a record that changes no key.
    pub(super) fn record(&mut self, frame: &mut BytesMut, record: Record) {
        self.promise(Durability::Relaxed);
        format::put_record(frame, &record);
        self.records.push(record);
    }

    fn has_lease(&self, cx: &Context<'_>, id: LeaseId) -> bool {
        self.granted.contains(&id) || (cx.leases.is_alive(id, cx.now) && !self.revoked.contains(&id))
    }

    /// Whether a lease has this id, be it alive or not.
    fn lease_exists(&self, leases: &Leases, id: LeaseId) -> bool {
        self.granted.contains(&id) || (leases.exists(id) && !self.revoked.contains(&id))
    }

    fn grant(
        &mut self,
        frame: &mut BytesMut,
        cx: &Context<'_>,
        id: Option<LeaseId>,
        seconds: u64,
    ) -> Result<Lease, Error> {
        let id = match id.filter(|id| *id != 0) {
            Some(id) if self.lease_exists(cx.leases, id) => return Err(Error::LeaseExists(id)),
            Some(id) => id,
            None => loop {
                // Positive, as etcd's are.
                let id = (kedge_base::random::u64() >> 1) as LeaseId;
                if id != 0 && !self.lease_exists(cx.leases, id) {
                    break id;
                }
            },
        };
        self.granted.insert(id);
        self.record(frame, Record::Grant { id, seconds });
        Ok(Lease { id, ttl: Duration::from_secs(seconds) })
    }

    fn compact(&mut self, frame: &mut BytesMut, cx: &Context<'_>, revision: u64) -> Result<(), Error> {
        if revision > self.revision() {
            return Err(Error::FutureRevision { requested: revision, current: self.revision() });
        }
        let compacted = cx.index.compacted();
        if revision <= compacted {
            return Err(Error::Compacted { requested: revision, compacted });
        }
        self.record(frame, Record::Compaction { revision });
        Ok(())
    }

    /// Deletes the keys of leases that have run out, and the leases.
    pub(super) fn expire(&mut self, frame: &mut BytesMut, cx: &Context<'_>, limit: usize) {
        for id in cx.leases.expired(cx.now, limit) {
            if self.lease_exists(cx.leases, id) {
                self.revoke(frame, cx, id, 1);
            }
        }
    }

    /// Deletes the keys of a lease and then the lease. With `batches` limited, only so many transactions of keys; the
    /// lease goes when no key is left.
    fn revoke(&mut self, frame: &mut BytesMut, cx: &Context<'_>, id: LeaseId, batches: usize) {
        self.promise(Durability::Relaxed);
        let mut keys = self.lease_keys(cx.leases, id);
        let limit = LEASE_KEYS.saturating_mul(batches);
        let all = keys.len() <= limit;
        keys.truncate(limit);
        for batch in keys.chunks(LEASE_KEYS) {
            let mut execution = Execution::new(cx.index, &mut self.overlay);
            execution.delete_keys(batch);
            let changes = execution.changes;
            self.take(frame, changes);
        }
        if all {
            self.granted.remove(&id);
            self.revoked.insert(id);
            self.record(frame, Record::Revoke { id });
        }
    }

    fn lease_keys(&self, leases: &Leases, id: LeaseId) -> Vec<Bytes> {
        let here = |kv: Option<&KeyValue>| kv.is_some_and(|kv| kv.lease == id);
        let changed: HashMap<&Bytes, bool> = self.overlay.changed().map(|(key, kv)| (key, here(kv))).collect();
        let mut keys: Vec<Bytes> = leases.keys(id).filter(|key| !changed.contains_key(*key)).cloned().collect();
        keys.extend(changed.iter().filter(|(_, here)| **here).map(|(key, _)| (*key).clone()));
        keys.sort_unstable();
        keys
    }
}
