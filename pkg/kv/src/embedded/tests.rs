//! Tests of the embedded engine on a real directory.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::Path;

use super::*;
use kedge_base::{VirtualClock, system_clock};

fn open(dir: &Path) -> Result<Embedded, Error> {
    Embedded::open(Options::new(dir.to_owned(), system_clock()))
}

fn put(value: &str) -> Write {
    Write::Put { value: Bytes::copy_from_slice(value.as_bytes()), expires: None }
}

fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn commit(kv: &Embedded, name: &'static str, value: &str) -> u64 {
    match kv.txn(key(name), None, put(value)).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        other => panic!("{other:?}"),
    }
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
    let deleted = kv.txn(key("/b"), None, Write::Delete).await.unwrap();
    kv.close().await;
    drop(kv);
    let kv = open(dir.path()).unwrap();
    let a = kv.get(b"/a").await.unwrap().unwrap();
    assert_eq!((&a.value[..], a.create_revision, a.mod_revision, a.version), (&b"2"[..], first, second, 2));
    assert!(kv.get(b"/b").await.unwrap().is_none());
    assert_eq!(TxnOutcome::Committed { revision: kv.revision() }, deleted);
}

#[tokio::test]
async fn a_comparison_decides() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    let revision = commit(&kv, "/a", "1").await;
    let taken = kv.txn(key("/a"), Some(Compare::Absent), put("x")).await.unwrap();
    assert!(matches!(taken, TxnOutcome::Mismatch { current: Some(kv), .. } if kv.mod_revision == revision));
    let stale = kv.txn(key("/a"), Some(Compare::ModRevision(revision + 7)), Write::Delete).await.unwrap();
    assert!(matches!(stale, TxnOutcome::Mismatch { .. }));
    let fits = kv.txn(key("/a"), Some(Compare::ModRevision(revision)), put("2")).await.unwrap();
    assert_eq!(fits, TxnOutcome::Committed { revision: revision + 1 });
    let nothing = kv.txn(key("/none"), None, Write::Delete).await.unwrap();
    assert!(matches!(nothing, TxnOutcome::Mismatch { current: None, .. }));
}

#[tokio::test]
async fn old_revisions_are_readable_until_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    let first = commit(&kv, "/a", "1").await;
    commit(&kv, "/a", "2").await;
    kv.txn(key("/a"), None, Write::Delete).await.unwrap();
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
    assert_eq!((page.kvs.len(), page.remaining), (2, 1));
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
    // The checkpoint is written beside the log and may end after the store was closed.
    let complete = |dir: &Path| {
        std::fs::read_dir(dir).unwrap().any(|e| e.unwrap().path().extension().is_some_and(|x| x == "ckpt"))
    };
    while !complete(dir.path()) {
        std::thread::yield_now();
    }
    let kv = open(dir.path()).unwrap();
    assert_eq!(kv.revision(), revision);
    assert_eq!(kv.get(b"/big").await.unwrap().unwrap().version, 80);
    assert!(kv.get(b"/small").await.unwrap().is_some());
}

#[tokio::test]
async fn expired_keys_go_with_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let kv = Embedded::open(Options::new(dir.path().to_owned(), Arc::new(clock.clone()))).unwrap();
    let at = kedge_base::Clock::now(&clock).as_second() as u64 + 60;
    kv.txn(key("/e"), None, Write::Put { value: key("v"), expires: Some(at) }).await.unwrap();
    commit(&kv, "/a", "1").await;
    assert!(kv.get(b"/e").await.unwrap().is_some());
    clock.advance(std::time::Duration::from_secs(61));
    commit(&kv, "/a", "2").await;
    assert!(kv.get(b"/e").await.unwrap().is_none());
}

struct Recorder(Mutex<Vec<u64>>);

impl Observer for Recorder {
    fn committed(&self, events: &[crate::api::Event]) {
        self.0.lock().extend(events.iter().map(|e| e.revision));
    }
}

#[tokio::test]
async fn an_observer_sees_everything_before_the_writer_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    let recorder = Arc::new(Recorder(Mutex::default()));
    let snapshot = kv.observe(b"/", recorder.clone()).await.unwrap();
    assert_eq!(snapshot.kvs.len(), 1);
    for _ in 0..10 {
        let revision = commit(&kv, "/b", "1").await;
        assert_eq!(recorder.0.lock().last(), Some(&revision));
    }
    assert_eq!(recorder.0.lock().len(), 10);
}
