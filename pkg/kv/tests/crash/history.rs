//! A long random life of a store: transactions, leases, compactions, checkpoints, restarts, kills.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::VirtualClock;
use kedge_kv::{Durability, Embedded, Error, KeyRange, Kv as _, LeaseId, Op, Options, Txn};

use crate::disk::{Disk, Done, Fault, Mark, SyncSite};
use crate::model::{Entry, Model};
use crate::rng::Rng;

/// What was done to the disk, and what was shown when.
pub struct History {
    pub log: Vec<Done>,
    pub entries: Vec<Entry>,
}

fn touches(txn: &Txn, key: &Bytes) -> bool {
    txn.success.iter().any(|op| match op {
        Op::Put { key: put, .. } => put == key,
        Op::Delete(range) => range.contains(key),
        _ => false,
    })
}

/// How a store is opened in these tests: everything small, so that much happens.
pub fn options(disk: &Disk, clock: &VirtualClock) -> Options {
    let mut options = Options::new(PathBuf::from("/store"), Arc::new(clock.clone()));
    options.files = Arc::new(disk.clone());
    options.segment_bytes = 8 << 10;
    options.checkpoint_bytes = 24 << 10;
    options.room = 4 << 10;
    options
}

pub struct Driver {
    pub disk: Disk,
    pub model: Arc<Model>,
    pub rng: Rng,
    clock: VirtualClock,
    kv: Option<Embedded>,
    leases: Vec<LeaseId>,
    /// Writes of which it is not known whether they happened.
    unknown: Vec<Txn>,
    /// Writes that the end of the process may undo, with their revisions: none behind them was to outlive it.
    deferred: Vec<(u64, Txn)>,
    /// Whether the process is killed now and then.
    pub kills: bool,
}

impl Driver {
    pub fn new(seed: u64, ignored: Option<SyncSite>) -> Self {
        let disk = Disk::default();
        disk.ignore(ignored);
        let model = Arc::new(Model::new(disk.clone()));
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        Self {
            disk,
            model,
            rng: Rng(seed),
            clock,
            kv: None,
            leases: Vec::new(),
            unknown: Vec::new(),
            deferred: Vec::new(),
            kills: true,
        }
    }

    /// Opens the store, and compares it with the model.
    pub async fn open(&mut self) -> Result<(), Error> {
        let kv = Embedded::open(options(&self.disk, &self.clock))?;
        let snapshot = kv.observe(b"", self.model.clone()).await?;
        let before = self.model.kvs();
        let now = snapshot.kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect();
        if before != now {
            assert!(!self.unknown.is_empty(), "a restart changed something");
            let differing = before.keys().chain(now.keys()).filter(|key| before.get(*key) != now.get(*key));
            for key in differing {
                let touched = self.unknown.iter().any(|txn| touches(txn, key));
                let expired = !now.contains_key(key) && before[key].lease != 0;
                assert!(touched || expired, "{key:?} changed for no reason");
            }
            let mut lost = false;
            for (i, txn) in self.unknown.iter().enumerate() {
                // What one put, a later one may have changed, or the end of a lease.
                let last = |key: &Bytes| !self.unknown[i + 1..].iter().any(|later| touches(later, key));
                let ended = |key: &Bytes, lease: LeaseId| lease != 0 && !now.contains_key(key);
                let put = |op: &Op| match op {
                    Op::Put { key, value, lease } if last(key) && !ended(key, *lease) => {
                        Some(now.get(key).is_some_and(|kv| kv.value == *value))
                    }
                    _ => None,
                };
                let puts: Vec<bool> = txn.success.iter().filter_map(put).collect();
                assert!(puts.iter().all(|put| *put == puts[0]), "a transaction happened in part");
                assert!(!(lost && puts.contains(&true)), "a transaction outlived one before it");
                lost |= puts.contains(&false);
            }
        }
        self.model.adopt(kv.revision(), &snapshot.kvs);
        self.disk.mark(Mark::Shown(kv.revision()));
        self.unknown.clear();
        self.deferred.clear();
        self.kv = Some(kv);
        Ok(())
    }

    /// Lives through `steps` steps. Errors are those of a fault that was injected.
    pub async fn live(&mut self, steps: usize) -> Result<(), Error> {
        for _ in 0..steps {
            let Some(kv) = &self.kv else {
                self.open().await?;
                continue;
            };
            match self.rng.below(100) {
                0..4 => {
                    kv.close().await;
                    self.kv = None;
                    if self.disk.has_failed() {
                        self.deferred_may_be_lost();
                    }
                    self.open().await?;
                    self.disk.mark(Mark::Promised(self.model.last()));
                }
                4..8 if self.kills => self.kill().await?,
                8..14 => {
                    let ttl = Duration::from_secs(60 + self.rng.below(300));
                    let lease = kv.grant(None, ttl).await?;
                    self.leases.push(lease.id);
                }
                14..17 => self.revoke().await?,
                17..20 => {
                    let revision = kv.revision();
                    match kv.compact(revision - self.rng.below(20).min(revision)).await {
                        Err(Error::Compacted { .. }) => {}
                        other => other?,
                    }
                }
                20..25 => self.clock.advance(Duration::from_secs(self.rng.below(120))),
                25..32 => {
                    let (a, b, c) = (self.txn(), self.txn(), self.txn());
                    self.commit(vec![a, b, c]).await?;
                }
                _ => {
                    let txn = self.txn();
                    self.commit(vec![txn]).await?;
                }
            }
        }
        Ok(())
    }

    fn key(&mut self) -> String {
        format!("/key/{:02}", self.rng.below(25))
    }

    fn txn(&mut self) -> Txn {
        let mut success = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let key = self.key();
            let so_far = Txn { success: success.clone(), ..Txn::default() };
            if touches(&so_far, &Bytes::from(key.clone())) {
                continue;
            }
            if self.rng.below(5) == 0 {
                success.push(Op::Delete(KeyRange::key(key)));
                continue;
            }
            let len = if self.rng.below(4) == 0 { 1_500 } else { 80 };
            // Now and then with whole sectors of zeroes, which look unwritten.
            let zero = self.rng.below(6) == 0;
            let byte = |rng: &mut Rng| if zero { 0 } else { rng.below(256) as u8 };
            let value: Vec<u8> = (0..=self.rng.below(len)).map(|_| byte(&mut self.rng)).collect();
            let lease = match self.leases.len() {
                0 => 0,
                n if self.rng.below(3) == 0 => self.leases[self.rng.below(n as u64) as usize],
                _ => 0,
            };
            success.push(Op::Put { key: key.into(), value: value.into(), lease });
        }
        let durability = match self.rng.below(5) {
            0 => Durability::Deferred,
            1 => Durability::Relaxed,
            _ => Durability::Synced,
        };
        Txn { success, durability, ..Txn::default() }
    }

    async fn commit(&mut self, txns: Vec<Txn>) -> Result<(), Error> {
        let Some(kv) = &self.kv else { return Ok(()) };
        let before = kv.revision();
        let results = futures::future::join_all(txns.iter().map(|txn| kv.txn(txn.clone()))).await;
        let mut failed = None;
        for (txn, result) in txns.into_iter().zip(results) {
            if let Ok(result) = &result {
                self.note_deferred(&txn, result.revision);
            }
            match result {
                Ok(result) if txn.durability == Durability::Synced && result.revision > before => {
                    // Without changes it has the revision of a neighbour, which may be relaxed.
                    let wrote = self.model.kvs().values().any(|kv| kv.mod_revision == result.revision);
                    let single = txn.success.iter().any(|op| matches!(op, Op::Put { .. }));
                    if wrote && single {
                        self.disk.mark(Mark::Promised(self.model.number_of(result.revision)));
                    }
                }
                Ok(_) => {}
                Err(Error::LeaseNotFound(id)) => self.leases.retain(|lease| *lease != id),
                Err(err) => {
                    if err.is_outcome_unknown() {
                        self.unknown.push(txn);
                    }
                    failed = Some(err);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What is written less carelessly takes along everything before it. A later write of a key hides whether an earlier
    /// one is there.
    fn note_deferred(&mut self, txn: &Txn, revision: u64) {
        // Deletions alone may change nothing, and then nothing is written.
        let puts = txn.success.iter().any(|op| matches!(op, Op::Put { .. }));
        match txn.durability {
            Durability::Deferred => self.deferred.push((revision, txn.clone())),
            _ if puts => self.deferred.retain(|(earlier, _)| *earlier > revision),
            _ => {}
        }
    }

    async fn revoke(&mut self) -> Result<(), Error> {
        let (Some(kv), Some(id)) = (&self.kv, self.leases.pop()) else { return Ok(()) };
        match kv.revoke(id).await {
            Ok(()) => self.disk.mark(Mark::Promised(self.model.last())),
            Err(Error::LeaseNotFound(_)) => {}
            Err(err) => {
                self.unknown.push(Txn::default());
                return Err(err);
            }
        }
        Ok(())
    }

    /// Kills the process in the middle of something, and starts it again.
    async fn kill(&mut self) -> Result<(), Error> {
        let fault = match self.rng.below(3) {
            0 => Fault::KilledBefore(SyncSite::ALL[self.rng.below(8) as usize]),
            _ => Fault::KilledAt(self.rng.below(10) as usize),
        };
        self.disk.set_fault(Some(fault));
        let mut steps = 0;
        while steps < 60 && self.kv.is_some() {
            steps += 1;
            let txn = self.txn();
            if self.commit(vec![txn]).await.is_err() {
                break;
            }
        }
        // Killed in any case: the store does not get to say that it is closed.
        self.disk.set_fault(Some(Fault::KilledAt(0)));
        self.restart().await
    }

    /// Whether the store takes no more writes.
    pub async fn has_failed(&self) -> bool {
        match &self.kv {
            Some(kv) => kv.health().await.is_err(),
            None => true,
        }
    }

    /// Starts the process again, on a disk that works.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.kv = None;
        self.disk.set_fault(None);
        self.deferred_may_be_lost();
        self.unknown.push(Txn::default());
        self.open().await
    }

    fn deferred_may_be_lost(&mut self) {
        let deferred = std::mem::take(&mut self.deferred).into_iter().map(|(_, txn)| txn);
        self.unknown.splice(0..0, deferred);
    }

    /// Writes something that takes along all that was not durable.
    pub async fn settle(&mut self) {
        let txn = Txn { durability: Durability::Synced, ..self.txn() };
        self.commit(vec![txn]).await.unwrap();
    }

    /// Ends the life without closing the store in order.
    pub fn end(mut self) -> History {
        let (log, entries) = (self.disk.log(), self.model.entries());
        self.kv = None;
        History { log, entries }
    }

    /// Ends it in order.
    pub async fn close(mut self) -> Disk {
        if let Some(kv) = self.kv.take() {
            kv.close().await;
        }
        self.disk
    }
}
