//! Clients that do at random what clients do, and write down what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use kedge_base::{SharedClock, random, system_clock};
use kedge_kv::{Compare, Error, KeyRange, Kv, Op, OpResult, Range, Snapshot, Txn, TxnResult};

use crate::engines::PATIENCE;
use crate::model::{Action, Done, Outcome};
use crate::recorder::Recorder;
use crate::store::{found, when};

pub const PREFIX: &[u8] = b"/h/";
/// Few keys, so that clients meet.
const KEYS: u64 = 8;

/// An observer with what it began from.
pub struct Watching {
    pub prefix: Bytes,
    pub start: Snapshot,
    pub recorder: Arc<Recorder>,
}

impl Watching {
    pub async fn begin(kv: &dyn Kv, prefix: Bytes) -> Result<Self, Error> {
        let recorder = Recorder::new();
        let start = kv.observe(&prefix, recorder.clone()).await?;
        Ok(Self { prefix, start, recorder })
    }
}

/// What clients share.
pub struct Workload {
    clock: SharedClock,
    stop: AtomicBool,
    values: AtomicU64,
    /// Writes that were acknowledged.
    pub acknowledged: AtomicUsize,
    /// Whether the store may be unreachable at times.
    pub faults: bool,
}

impl Workload {
    pub fn new(faults: bool) -> Arc<Self> {
        let (clock, stop) = (system_clock(), AtomicBool::new(false));
        Arc::new(Self { clock, stop, values: AtomicU64::new(0), acknowledged: AtomicUsize::new(0), faults })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits until as many more writes have been acknowledged.
    pub async fn more(&self, writes: usize) {
        let goal = self.acknowledged.load(Ordering::Acquire) + writes;
        let waiting = async {
            while self.acknowledged.load(Ordering::Acquire) < goal {
                self.clock.sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("no writes are acknowledged");
    }

    /// One client, for so many operations or until it is told to stop.
    pub async fn client(self: Arc<Self>, kv: Arc<dyn Kv>, operations: usize) -> (Vec<Done>, Vec<Watching>) {
        let (mut done, mut watching) = (Vec::new(), Vec::new());
        for i in 0..operations {
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            let action = self.draw(&done);
            let start = self.clock.monotonic();
            let outcome = self.act(&*kv, &action).await;
            if matches!(outcome, Outcome::Wrote { .. }) {
                self.acknowledged.fetch_add(1, Ordering::AcqRel);
            }
            done.push(Done { start, end: self.clock.monotonic(), action, outcome });
            if i % 60 == 20 && watching.len() < 4 {
                let prefix = if i % 120 == 20 { Bytes::from_static(PREFIX) } else { key(random::u64()) };
                if let Ok(begun) = Watching::begin(&*kv, prefix).await {
                    watching.push(begun);
                }
            }
        }
        (done, watching)
    }

    fn draw(&self, done: &[Done]) -> Action {
        let (chance, key) = (random::u64() % 100, key(random::u64()));
        if chance < 6 {
            return Action::Barrier;
        }
        if chance < 15 {
            return Action::Read { prefix: if chance < 10 { Bytes::from_static(PREFIX) } else { key } };
        }
        if chance < 27 {
            return Action::Delete { key };
        }
        let value = Bytes::from(format!("value {}", self.values.fetch_add(1, Ordering::AcqRel)));
        if chance < 60 {
            // The revision that this client saw last, which may be old.
            let seen = done.iter().rev().find_map(|done| seen(done, &key)).unwrap_or(0);
            return Action::Put { keys: vec![key], value, expected: Some(seen) };
        }
        let mut keys = vec![key];
        if chance < 75 {
            keys.push(Bytes::from_static(b"/h/shared"));
        }
        Action::Put { keys, value, expected: None }
    }

    async fn act(&self, kv: &dyn Kv, action: &Action) -> Outcome {
        let outcome = match action {
            Action::Read { prefix } => kv
                .range(Range::prefix(prefix))
                .await
                .map(|page| Outcome::Read { revision: page.revision, kvs: page.kvs }),
            Action::Barrier => kv.barrier().await.map(|revision| Outcome::Barrier { revision }),
            Action::Delete { key } => kv.txn(delete(key)).await.map(deleted),
            Action::Put { keys, value, expected } => kv.txn(put(keys, value, *expected)).await.map(written),
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                assert!(self.faults && error.is_retriable(), "{action:?}: {error}");
                let wrote = !matches!(action, Action::Read { .. } | Action::Barrier);
                if wrote && error.is_outcome_unknown() { Outcome::Unknown } else { Outcome::Failed }
            }
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/h/{}", number % KEYS))
}

/// The revision of a key in what a client was answered.
fn seen(done: &Done, wanted: &Bytes) -> Option<u64> {
    match (&done.action, &done.outcome) {
        (Action::Put { keys, .. }, Outcome::Wrote { revision, .. }) if keys.contains(wanted) => Some(*revision),
        (Action::Put { keys, .. }, Outcome::Refused { current, .. }) if keys.contains(wanted) => {
            Some(current.as_ref().map_or(0, |kv| kv.mod_revision))
        }
        (_, Outcome::Read { kvs, .. }) => kvs.iter().find(|kv| kv.key == wanted).map(|kv| kv.mod_revision),
        (Action::Delete { key }, Outcome::Wrote { .. }) if key == wanted => Some(0),
        _ => None,
    }
}

fn put(keys: &[Bytes], value: &Bytes, expected: Option<u64>) -> Txn {
    let compare = expected.map(|revision| Compare::mod_revision(keys[0].clone(), revision)).into_iter().collect();
    let puts = keys.iter().map(|key| Op::Put { key: key.clone(), value: value.clone(), lease: 0 }).collect();
    when(compare, puts, vec![Op::Range(Range::key(keys[0].clone()))])
}

fn delete(key: &Bytes) -> Txn {
    when(vec![], vec![Op::Delete(KeyRange::key(key.clone()))], vec![])
}

fn written(result: TxnResult) -> Outcome {
    if !result.succeeded {
        return Outcome::Refused { revision: result.revision, current: found(&result, 0).pop() };
    }
    let previous = result.results.into_iter().map(|result| match result {
        OpResult::Put { previous } => previous,
        other => panic!("no put: {other:?}"),
    });
    Outcome::Wrote { revision: result.revision, previous: previous.collect() }
}

fn deleted(mut result: TxnResult) -> Outcome {
    match result.results.remove(0) {
        OpResult::Delete { previous } => {
            Outcome::Wrote { revision: result.revision, previous: previous.into_iter().map(Some).collect() }
        }
        other => panic!("no deletion: {other:?}"),
    }
}
