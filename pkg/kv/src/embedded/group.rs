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

/// What came of a transaction.
pub(super) enum Decided {
    Result(TxnResult),
    /// It reads a past state that is not committed yet: the group has to be committed first.
    Later,
}

/// The group.
pub(super) struct Group {
    pub records: Vec<Record>,
    pub waiting: Vec<Waiting>,
    /// Whether somebody is promised that it is durable.
    pub synced: bool,
    overlay: Overlay,
    granted: HashMap<LeaseId, u64>,
    revoked: HashSet<LeaseId>,
}

impl Group {
    /// An empty group on the state at `revision`.
    pub(super) fn on(revision: u64) -> Self {
        Self {
            records: Vec::new(),
            waiting: Vec::new(),
            synced: false,
            overlay: Overlay::on(revision),
            granted: HashMap::new(),
            revoked: HashSet::new(),
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.overlay.revision()
    }

    /// Decides a transaction and takes its changes in; an error leaves no trace.
    pub(super) fn txn(
        &mut self,
        frame: &mut BytesMut,
        index: &Index,
        leases: &Leases,
        now: Duration,
        txn: &Txn,
    ) -> Result<Decided, Error> {
        let view = View { index, overlay: &self.overlay };
        let path = view.path(txn);
        let mut later = false;
        path.try_each(txn, &mut |op| match op {
            Op::Put { lease, .. } if *lease != 0 && !self.has_lease(leases, *lease, now) => {
                Err(Error::LeaseNotFound(*lease))
            }
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
            _ => Ok(()),
        })?;
        if later {
            return Ok(Decided::Later);
        }
        let mut execution = Execution::new(index, &mut self.overlay);
        let result = execution.run(txn, &path)?;
        let changes = execution.changes;
        self.synced |= !changes.is_empty() && txn.durability == Durability::Synced;
        self.take(frame, changes);
        Ok(Decided::Result(result))
    }

    fn take(&mut self, frame: &mut BytesMut, changes: Vec<Change>) {
        for change in changes {
            format::put_change(frame, &change);
            self.records.push(Record::Change(change));
        }
    }

    fn record(&mut self, frame: &mut BytesMut, record: Record) {
        format::put_record(frame, &record);
        self.records.push(record);
    }

    fn has_lease(&self, leases: &Leases, id: LeaseId, now: Duration) -> bool {
        self.granted.contains_key(&id) || (leases.is_alive(id, now) && !self.revoked.contains(&id))
    }

    /// Whether a lease has this id, be it alive or not.
    pub(super) fn lease_exists(&self, leases: &Leases, id: LeaseId) -> bool {
        self.granted.contains_key(&id) || (leases.exists(id) && !self.revoked.contains(&id))
    }

    pub(super) fn grant(&mut self, frame: &mut BytesMut, id: LeaseId, seconds: u64) {
        self.granted.insert(id, seconds);
        self.record(frame, Record::Grant { id, seconds });
    }

    pub(super) fn compact(&mut self, frame: &mut BytesMut, revision: u64) {
        self.record(frame, Record::Compaction { revision });
    }

    /// Deletes the keys of a lease and then the lease; with `batches` limited, only so many transactions of keys, and the
    /// lease when none is left. Returns whether it is gone.
    pub(super) fn revoke(
        &mut self,
        frame: &mut BytesMut,
        index: &Index,
        leases: &Leases,
        id: LeaseId,
        batches: usize,
    ) -> bool {
        let mut keys = self.lease_keys(leases, id);
        let gone = keys.len() <= LEASE_KEYS.saturating_mul(batches);
        keys.truncate(LEASE_KEYS.saturating_mul(batches));
        for batch in keys.chunks(LEASE_KEYS) {
            let mut execution = Execution::new(index, &mut self.overlay);
            execution.delete_keys(batch);
            let changes = execution.changes;
            self.take(frame, changes);
        }
        if gone {
            self.granted.remove(&id);
            self.revoked.insert(id);
            self.record(frame, Record::Revoke { id });
        }
        gone
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
