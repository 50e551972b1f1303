//! The store as a whole: contents, restoring, inspecting, observing from the past.

use super::*;
use crate::files::RealFiles;

#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl Observer for Events {
    fn committed(&self, events: &[Event]) {
        self.0.lock().extend_from_slice(events);
    }
    fn reset(&self, _: Snapshot) {
        panic!("the embedded engine loses nothing");
    }
}

#[tokio::test]
async fn the_history_is_what_an_observer_got_then() {
    let kv = Embedded::memory(system_clock()).unwrap();
    commit(&kv, "/before", "1").await;
    let live = Arc::new(Events::default());
    kv.observe(b"/", live.clone()).await.unwrap();
    let from = kv.revision() + 1;
    commit(&kv, "/a", "1").await;
    commit(&kv, "/a", "2").await;
    delete(&kv, "/a").await;
    commit(&kv, "/a", "3").await;
    kv.txn(txn(vec![put("/b", "1"), put("/c", "1"), Op::Delete(KeyRange::key("/a"))])).await.unwrap();
    // Both in one transaction, as etcd has it.
    let inner = |op| Op::Txn(txn(vec![op]));
    kv.txn(txn(vec![inner(put("/d", "1")), inner(Op::Delete(KeyRange::key("/d")))])).await.unwrap();
    commit(&kv, "other", "1").await;
    let live = live.0.lock().clone();
    assert_eq!(live.len(), 9);
    let all = KeyRange::prefix(b"/");
    assert_eq!(kv.history(&all, from, usize::MAX).unwrap(), (live.clone(), kv.revision()));
    // In pieces, which end between revisions.
    let (mut pieces, mut next) = (Vec::new(), from);
    while next <= kv.revision() {
        let (piece, until) = kv.history(&all, next, 1).unwrap();
        assert!(piece.iter().all(|event| event.revision == piece[0].revision));
        assert!(until >= next && piece.last().is_none_or(|event| event.revision <= until));
        pieces.extend(piece);
        next = until + 1;
    }
    assert_eq!(pieces, live);
    kv.compact(from).await.unwrap();
    let refused = kv.history(&all, from, 1);
    let Err(Error::Compacted { compacted, .. }) = refused else { panic!("{refused:?}") };
    assert!(kv.history(&all, compacted, 1).is_ok(), "from there on everything is known");
    let future = kv.revision() + 2;
    assert_eq!(kv.history(&all, future, 1).unwrap(), (Vec::new(), future - 1));
}

#[tokio::test]
async fn a_restored_store_is_the_one_that_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(&dir.path().join("old")).unwrap();
    let lease = kv.grant(Some(7), Duration::from_secs(600)).await.unwrap().id;
    for i in 0..600 {
        kv.txn(txn(vec![leased(&format!("/{i}"), "1", if i % 2 == 0 { lease } else { 0 })])).await.unwrap();
    }
    commit(&kv, "/1", "2").await;
    let contents = kv.contents();
    commit(&kv, "/1", "3").await;
    assert_eq!((contents.kvs.len(), contents.revision + 1), (600, kv.revision()));
    kv.close().await;
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let old = Embedded::read(&*files, &dir.path().join("old")).unwrap();
    assert_eq!((old.kvs.len(), old.revision, &old.leases), (600, contents.revision + 1, &contents.leases));
    let new = dir.path().join("new");
    // An attempt that was interrupted does not matter.
    std::fs::create_dir(dir.path().join("new.restoring")).unwrap();
    std::fs::write(dir.path().join("new.restoring/00000000000000000002.log"), "half").unwrap();
    Embedded::restore(&files, &new, &contents, 1_000).unwrap();
    assert!(matches!(Embedded::restore(&files, &new, &contents, 0), Err(Error::Locked { .. })));
    let read = Embedded::read(&*files, &new).unwrap();
    assert_eq!((read.revision, &read.kvs, &read.leases), (contents.revision + 1_000, &contents.kvs, &contents.leases));
    let kv = open(&new).unwrap();
    let one = kv.get(b"/1").await.unwrap().unwrap();
    assert_eq!((&one.value[..], one.version), (&b"2"[..], 2));
    assert_eq!(kv.lease(lease).await.unwrap().keys.len(), 300);
    assert_eq!(commit(&kv, "/1", "4").await, contents.revision + 1_001);
    kv.close().await;
    drop(kv);
    assert_eq!(value(&open(&new).unwrap(), "/1").await.unwrap(), "4");
}

/// [`RealFiles`], up to the moment before a store is put in place.
enum Until {
    /// The disk is full when all but the directory has been written.
    Full,
    /// The thread ends right before the rename, as a process that is killed.
    Killed,
}

impl Files for Until {
    fn create_dir(&self, path: &Path) -> std::io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn lock(&self, dir: &Path) -> Result<Box<dyn std::any::Any + Send>, Error> {
        RealFiles.lock(dir)
    }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        RealFiles.list(dir)
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn crate::files::ReadFile>> {
        RealFiles.open(path)
    }
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn crate::files::WriteFile>> {
        RealFiles.create(path)
    }
    fn open_write(&self, path: &Path) -> std::io::Result<Box<dyn crate::files::WriteFile>> {
        RealFiles.open_write(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        match self {
            _ if !from.is_dir() => RealFiles.rename(from, to),
            Self::Full => Err(std::io::ErrorKind::StorageFull.into()),
            Self::Killed => panic!("killed"),
        }
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        RealFiles.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> std::io::Result<()> {
        RealFiles.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        RealFiles.sync_dir(dir)
    }
    fn free_space(&self, dir: &Path) -> std::io::Result<u64> {
        RealFiles.free_space(dir)
    }
}

#[test]
fn a_restore_that_was_killed_leaves_nothing_that_looks_like_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let contents = Contents { revision: 9, compacted: 9, kvs: Vec::new(), leases: Vec::new() };
    let files: Arc<dyn Files> = Arc::new(Until::Killed);
    let (path, held) = (new.clone(), contents.clone());
    assert!(std::thread::spawn(move || Embedded::restore(&files, &path, &held, 0)).join().is_err());
    assert!(!new.exists(), "an empty directory is an empty store");
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    Embedded::restore(&files, &new, &contents, 0).unwrap();
    assert_eq!(Embedded::read(&RealFiles, &new).unwrap().revision, 9);
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let contents = Contents { revision: 9, compacted: 9, kvs: Vec::new(), leases: Vec::new() };
    let files: Arc<dyn Files> = Arc::new(Until::Full);
    assert!(Embedded::restore(&files, &dir.path().join("new"), &contents, 0).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn no_revision_is_given_out_beyond_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let last = i64::MAX as u64;
    let mut contents = Contents { revision: last, compacted: last, kvs: Vec::new(), leases: Vec::new() };
    for revision in [last, u64::MAX] {
        contents.revision = revision;
        let refused = Embedded::restore(&files, &dir.path().join("new"), &contents, 1);
        assert!(matches!(refused, Err(Error::Revisions(_))), "{refused:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn inspecting_finds_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path().to_owned(), system_clock());
    (options.segment_bytes, options.checkpoint_bytes) = (4 << 10, 64 << 10);
    let kv = Embedded::open(options).unwrap();
    for _ in 0..100 {
        commit(&kv, "/a", &"x".repeat(1_000)).await;
    }
    kv.close().await;
    let names = RealFiles.list(dir.path()).unwrap();
    let damaged = |dir: &Path| inspect(&RealFiles, dir, &mut |_| {}).unwrap().damaged;
    assert_eq!(damaged(dir.path()), 0);
    let mut segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
    segments.sort_unstable();
    let checkpoint = names.iter().find(|name| name.ends_with(".ckpt")).unwrap();
    for missing in [checkpoint, segments[0], segments[segments.len() - 1]] {
        let copy = tempfile::tempdir().unwrap();
        for name in names.iter().filter(|name| *name != missing) {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        assert!(open(copy.path()).is_err(), "{missing}");
        assert!(damaged(copy.path()) > 0, "{missing}");
    }
}

#[tokio::test]
async fn inspecting_shows_every_record_of_a_store_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    delete(&kv, "/a").await;
    kv.grant(Some(5), Duration::from_secs(60)).await.unwrap();
    let look = || {
        let mut all = Vec::new();
        let summary = inspect(&RealFiles, dir.path(), &mut |found| all.push(found)).unwrap();
        (summary, all)
    };
    let (summary, all) = look();
    assert_eq!((summary.files, summary.records, summary.damaged), (1, 3, 0));
    assert!(matches!(&all[0], Found::File { checkpoint: false, number: 1, .. }));
    assert!(matches!(&all[2], Found::Put { revision: 2, key, .. } if key == "/a"), "{all:?}");
    assert!(matches!(&all[4], Found::Delete { revision: 3, .. }) && matches!(&all[6], Found::Grant { lease: 5, .. }));
    assert!(matches!(all.last(), Some(Found::End { .. })));
    kv.close().await;
    assert!(look().1.iter().any(|found| matches!(found, Found::Closed { revision: 3 })));
    let segment = only_segment(dir.path());
    let mut data = std::fs::read(&segment).unwrap();
    data[format::HEADER + format::FRAME_HEADER + 3] ^= 1;
    std::fs::write(&segment, data).unwrap();
    let (summary, all) = look();
    assert_eq!(summary.damaged, 1);
    assert!(matches!(all.last(), Some(Found::Damaged(Error::Corrupt { path, .. })) if *path == segment), "{all:?}");
}
