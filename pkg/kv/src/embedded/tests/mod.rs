//! Tests of the embedded engine on a real directory.
#![allow(clippy::unwrap_used)]

mod durability;
mod view;
mod whole;

use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::api::{Compare, Durability, Event, KeyRange, Op, OpResult, Order, Target};
use bytes::Bytes;
use kedge_base::{VirtualClock, system_clock};

fn open(dir: &Path) -> Result<Embedded, Error> {
    Embedded::open(Options::new(dir.to_owned(), system_clock()))
}

fn put(key: &str, value: &str) -> Op {
    leased(key, value, 0)
}

fn leased(key: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease }
}

fn txn(success: Vec<Op>) -> Txn {
    Txn { success, ..Txn::default() }
}

async fn commit(kv: &Embedded, name: &str, value: &str) -> u64 {
    kv.txn(txn(vec![put(name, value)])).await.unwrap().revision
}

async fn delete(kv: &Embedded, name: &str) -> u64 {
    kv.txn(txn(vec![Op::Delete(KeyRange::key(name.to_owned()))])).await.unwrap().revision
}

async fn value(kv: &Embedded, name: &str) -> Option<Bytes> {
    kv.get(name.as_bytes()).await.unwrap().map(|kv| kv.value)
}

fn virtual_clock() -> VirtualClock {
    VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap())
}

/// Lets the writer work until a condition holds.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .unwrap_or_else(|_| panic!("not within two minutes: {what}"));
}

fn only_segment(dir: &Path) -> PathBuf {
    let mut logs = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"));
    logs.next().unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    let first = commit(&kv, "/a", "1").await;
    let second = commit(&kv, "/a", "2").await;
    commit(&kv, "/b", "1").await;
    let deleted = delete(&kv, "/b").await;
    kv.close().await;
    drop(kv);
    let kv = open(dir.path()).unwrap();
    let a = kv.get(b"/a").await.unwrap().unwrap();
    assert_eq!((&a.value[..], a.create_revision, a.mod_revision, a.version), (&b"2"[..], first, second, 2));
    assert!(kv.get(b"/b").await.unwrap().is_none());
    assert_eq!(kv.revision(), deleted);
}

#[tokio::test]
async fn old_revisions_are_readable_until_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    let first = commit(&kv, "/a", "1").await;
    commit(&kv, "/a", "2").await;
    delete(&kv, "/a").await;
    let last = commit(&kv, "/b", "1").await;
    let at = |revision| Range { revision: Some(revision), ..Range::prefix(b"/") };
    assert_eq!(&kv.range(at(first)).await.unwrap().kvs[0].value[..], b"1");
    assert!(matches!(kv.range(at(last + 1)).await, Err(Error::FutureRevision { .. })));
    kv.compact(last - 1).await.unwrap();
    assert!(matches!(kv.range(at(first)).await, Err(Error::Compacted { .. })));
    assert_eq!(kv.range(at(last)).await.unwrap().kvs.len(), 1);
}

#[tokio::test]
async fn a_page_says_what_remains() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    for name in ["/a", "/b", "/c"] {
        commit(&kv, name, "1").await;
    }
    let page = kv.range(Range { limit: 2, ..Range::prefix(b"/") }).await.unwrap();
    assert_eq!((page.kvs.len(), page.remaining()), (2, 1));
}

/// A key that was written several times within one compacted span is named several times in the list of what is
/// superseded. The second time there was nothing left to forget, and the writer fell over it, under load only.
#[tokio::test]
async fn a_key_written_often_is_compacted_once() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    for i in 0..5 {
        commit(&kv, "/a", &i.to_string()).await;
    }
    let last = commit(&kv, "/b", "1").await;
    kv.compact(last).await.unwrap();
    assert_eq!(&kv.get(b"/a").await.unwrap().unwrap().value[..], b"4");
    commit(&kv, "/a", "5").await;
}

/// A write that was torn by a power cut was never acknowledged: the store opens without it.
#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    kv.close().await;
    drop(kv);
    let segment = only_segment(dir.path());
    std::fs::OpenOptions::new()
        .append(true)
        .open(&segment)
        .unwrap()
        .write_all(&[0xa3, 0xf5, 0x56, 0x4b, 9, 0, 0])
        .unwrap();
    let kv = open(dir.path()).unwrap();
    assert!(kv.get(b"/a").await.unwrap().is_some());
    commit(&kv, "/b", "1").await;
    kv.close().await;
    drop(kv);
    assert!(open(dir.path()).unwrap().get(b"/b").await.unwrap().is_some());
}

/// A flipped bit before the end is no torn write: to open without what follows would lose acknowledged writes.
#[tokio::test]
async fn damage_in_the_middle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    commit(&kv, "/b", "1").await;
    kv.close().await;
    drop(kv);
    let segment = only_segment(dir.path());
    let mut data = std::fs::read(&segment).unwrap();
    data[format::HEADER + 20] ^= 1;
    std::fs::write(&segment, data).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Corrupt { path, .. }) if path == segment));
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _kv = open(dir.path()).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(&refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())));
}

#[tokio::test]
async fn a_checkpoint_replaces_segments_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path().to_owned(), system_clock());
    options.segment_bytes = 1 << 20;
    let kv = Embedded::open(options).unwrap();
    let big = "x".repeat(256 << 10);
    for _ in 0..80 {
        commit(&kv, "/big", &big).await;
    }
    commit(&kv, "/small", "1").await;
    let revision = kv.revision();
    kv.close().await;
    drop(kv);
    assert!(std::fs::read_dir(dir.path()).unwrap().any(|e| e.unwrap().path().extension().is_some_and(|x| x == "ckpt")));
    let kv = open(dir.path()).unwrap();
    assert_eq!(kv.revision(), revision);
    assert_eq!(kv.get(b"/big").await.unwrap().unwrap().version, 80);
    assert!(kv.get(b"/small").await.unwrap().is_some());
}

#[tokio::test]
async fn keys_go_with_their_lease() {
    let dir = tempfile::tempdir().unwrap();
    let clock = virtual_clock();
    let open = || Embedded::open(Options::new(dir.path().to_owned(), Arc::new(clock.clone()))).unwrap();
    let kv = open();
    let lease = kv.grant(None, Duration::from_secs(60)).await.unwrap().id;
    kv.txn(txn(vec![leased("/e", "1", lease), leased("/f", "1", lease), put("/g", "1")])).await.unwrap();
    kv.txn(txn(vec![put("/f", "2")])).await.unwrap();
    assert_eq!(kv.lease(lease).await.unwrap().keys, [Bytes::from("/e")]);
    clock.advance(Duration::from_secs(40));
    kv.keep_alive(lease).await.unwrap();
    clock.advance(Duration::from_secs(59));
    assert_eq!(kv.lease(lease).await.unwrap().remaining, Duration::from_secs(1));
    kv.close().await;
    drop(kv);
    // The time of all leases begins anew with the process, and nobody has to write anything for them to end.
    let kv = open();
    assert_eq!(kv.lease(lease).await.unwrap().remaining, Duration::from_secs(60));
    assert_eq!(kv.lease(lease).await.unwrap().keys, [Bytes::from("/e")]);
    clock.advance(Duration::from_secs(60));
    assert!(matches!(kv.keep_alive(lease).await, Err(Error::LeaseNotFound(id)) if id == lease));
    until("the key of the lease is gone", async || value(&kv, "/e").await.is_none()).await;
    until("the lease is gone", async || kv.leases().await.unwrap().is_empty()).await;
    assert!(value(&kv, "/f").await.is_some() && value(&kv, "/g").await.is_some());
    kv.close().await;
    drop(kv);
    let kv = open();
    assert!(value(&kv, "/e").await.is_none() && kv.leases().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_set_ends_no_lease() {
    let wall = virtual_clock();
    /// Its wall time jumps, its monotonic time stands.
    struct Jumping(VirtualClock);
    impl kedge_base::Clock for Jumping {
        fn now(&self) -> jiff::Timestamp {
            kedge_base::Clock::now(&self.0)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(1)
        }
        fn sleep(&self, duration: Duration) -> kedge_base::BoxFuture<'static, ()> {
            self.0.sleep(duration)
        }
    }
    let kv = Embedded::memory(Arc::new(Jumping(wall.clone()))).unwrap();
    let lease = kv.grant(None, Duration::from_secs(60)).await.unwrap().id;
    wall.advance(Duration::from_secs(86_400));
    commit(&kv, "/a", "1").await;
    assert!(kv.lease(lease).await.is_ok());
}

#[tokio::test]
async fn an_unknown_lease_stops_the_whole_transaction() {
    let kv = Embedded::memory(system_clock()).unwrap();
    let refused = kv.txn(txn(vec![put("/a", "1"), leased("/b", "1", 77)])).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound(77))), "{refused:?}");
    assert!(value(&kv, "/a").await.is_none());
    assert_eq!(kv.revision(), 1);
    assert!(matches!(kv.revoke(77).await, Err(Error::LeaseNotFound(77))));
    kv.grant(Some(77), Duration::from_secs(60)).await.unwrap();
    assert!(matches!(kv.grant(Some(77), Duration::from_secs(60)).await, Err(Error::LeaseExists(77))));
    kv.txn(txn(vec![put("/a", "1"), leased("/b", "1", 77)])).await.unwrap();
    kv.revoke(77).await.unwrap();
    assert!(value(&kv, "/b").await.is_none());
    assert_eq!(kv.revision(), 3);
}

/// Requests that come together are one group, and see one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_at_once_count_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(dir.path()).unwrap());
    commit(&kv, "/counter", "0").await;
    let count = |kv: Arc<Embedded>| async move {
        for _ in 0..25 {
            loop {
                let now = kv.get(b"/counter").await.unwrap().unwrap();
                let next: u64 = std::str::from_utf8(&now.value).unwrap().parse::<u64>().unwrap() + 1;
                let compare = vec![Compare::mod_revision("/counter", now.mod_revision)];
                let success = vec![put("/counter", &next.to_string())];
                if kv.txn(Txn { compare, success, ..Txn::default() }).await.unwrap().succeeded {
                    break;
                }
            }
        }
    };
    let clients: Vec<_> = (0..8).map(|_| count(kv.clone())).collect();
    let mut set = tokio::task::JoinSet::new();
    clients.into_iter().for_each(|client| drop(set.spawn(client)));
    set.join_all().await;
    assert_eq!(value(&kv, "/counter").await.unwrap(), "200");
    assert_eq!(kv.get(b"/counter").await.unwrap().unwrap().version, 201);
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_and_judges_what_was_before() {
    let kv = Embedded::memory(system_clock()).unwrap();
    commit(&kv, "/a", "1").await;
    let inner =
        Txn { compare: vec![Compare::absent("/b")], success: vec![Op::Range(Range::prefix(b"/"))], ..Txn::default() };
    let mut all = txn(vec![put("/b", "1"), Op::Txn(inner), Op::Delete(KeyRange::prefix(b"/a"))]);
    all.compare = vec![Compare { keys: KeyRange::prefix(b"/a"), order: Order::Greater, target: Target::Version(0) }];
    let result = kv.txn(all).await.unwrap();
    assert!(result.succeeded);
    assert_eq!(result.revision, 3);
    let OpResult::Txn(inner) = &result.results[1] else { panic!("{result:?}") };
    let OpResult::Range(seen) = &inner.results[0] else { panic!("{inner:?}") };
    assert!(inner.succeeded, "the condition is judged before the put of the outer transaction");
    assert_eq!((seen.count, seen.revision), (2, 3));
    let OpResult::Delete { previous } = &result.results[2] else { panic!("{result:?}") };
    assert_eq!(previous[0].key, "/a");
    assert_eq!(kv.range(Range::prefix(b"/")).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_relaxed_write_is_there_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    kv.txn(Txn { durability: Durability::Relaxed, ..txn(vec![put("/a", "1")]) }).await.unwrap();
    kv.close().await;
    assert!(matches!(kv.txn(txn(vec![put("/a", "2")])).await, Err(Error::Closed(_))));
    assert!(kv.health().await.is_err());
    assert_eq!(value(&kv, "/a").await.unwrap(), "1");
    let kv = open(dir.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "1");
}

#[tokio::test]
async fn what_was_compacted_cannot_be_compacted_again() {
    let kv = Embedded::memory(system_clock()).unwrap();
    commit(&kv, "/a", "1").await;
    kv.compact(2).await.unwrap();
    assert!(matches!(kv.compact(2).await, Err(Error::Compacted { requested: 2, compacted: 2 })));
    assert!(matches!(kv.compact(3).await, Err(Error::FutureRevision { requested: 3, current: 2 })));
}

#[derive(Default)]
struct Recorder {
    revisions: Mutex<Vec<u64>>,
    progress: Mutex<u64>,
}

impl Observer for Recorder {
    fn committed(&self, events: &[Event]) {
        self.revisions.lock().extend(events.iter().map(|e| e.revision));
    }

    fn progress(&self, revision: u64) {
        *self.progress.lock() = revision;
    }

    fn reset(&self, _: Snapshot) {
        panic!("the embedded engine loses nothing");
    }
}

#[tokio::test]
async fn an_observer_sees_everything_before_the_writer_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    let recorder = Arc::new(Recorder::default());
    let snapshot = kv.observe(b"/", recorder.clone()).await.unwrap();
    assert_eq!(snapshot.kvs.len(), 1);
    for _ in 0..10 {
        let revision = commit(&kv, "/b", "1").await;
        assert_eq!(recorder.revisions.lock().last(), Some(&revision));
    }
    assert_eq!(recorder.revisions.lock().len(), 10);
    let elsewhere = commit(&kv, "else", "1").await;
    assert_eq!(kv.observe(b"/", recorder.clone()).await.unwrap().revision, elsewhere);
    assert_eq!(kv.barrier().await.unwrap(), elsewhere);
    assert_eq!(*recorder.progress.lock(), elsewhere);
}

/// One whose code is broken.
struct Panicking;

impl Observer for Panicking {
    fn committed(&self, _: &[Event]) {
        panic!("on purpose");
    }

    fn reset(&self, _: Snapshot) {}
}

#[tokio::test]
async fn a_writer_that_panics_fails_writes_and_the_health_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(dir.path()).unwrap());
    commit(&kv, "/a", "1").await;
    kv.health().await.unwrap();
    kv.observe(b"/", Arc::new(Panicking)).await.unwrap();
    let before = kedge_base::Ledger::process().panics_of("kv-writer");
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..16 {
        let kv = kv.clone();
        writes.spawn(async move { kv.txn(txn(vec![put(&format!("/b{n}"), "1")])).await });
    }
    let outcomes = writes.join_all();
    for outcome in tokio::time::timeout(Duration::from_secs(120), outcomes).await.unwrap() {
        assert!(outcome.unwrap_err().is_outcome_unknown());
    }
    assert!(matches!(kv.txn(txn(vec![put("/c", "1")])).await, Err(Error::Closed(_))));
    assert!(matches!(kv.health().await, Err(Error::Closed(why)) if why.contains("ended unexpectedly")));
    // It is counted when its stack has been unwound, which is after everybody has been answered.
    let counted = async {
        while kedge_base::Ledger::process().panics_of("kv-writer") == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), counted).await.unwrap();
    kv.close().await;
    drop(kv);
    // What was acknowledged is there when the server is started again.
    let kv = open(dir.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "1");
}
