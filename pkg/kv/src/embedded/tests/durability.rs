//! Relaxed writes, the history window, free space, formats.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::files::{ReadFile, RealFiles, WriteFile};

/// The real file system with a free space that the test sets, and syncs that fail when it says so.
#[derive(Default)]
struct Faulty {
    free: AtomicU64,
    syncs: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    /// The next rename panics.
    panics: AtomicBool,
}

struct FaultyFile {
    file: Box<dyn WriteFile>,
    syncs: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

impl WriteFile for FaultyFile {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            // As much as there is room for.
            self.file.write_at(offset, &data[..data.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(offset, data)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("broken on purpose"));
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync()
    }
}

impl Faulty {
    fn wrap(&self, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        let (syncs, broken, full) = (self.syncs.clone(), self.broken.clone(), self.full.clone());
        Box::new(FaultyFile { file, syncs, broken, full })
    }
}

impl Files for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn lock(&self, dir: &Path) -> Result<Box<dyn Any + Send>, Error> {
        RealFiles.lock(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        RealFiles.open(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        RealFiles.create(path).map(|file| self.wrap(file))
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        RealFiles.open_write(path).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "on purpose");
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFiles.sync_dir(dir)
    }
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
}

fn faulty(dir: &Path, clock: &VirtualClock) -> (Arc<Faulty>, Options) {
    let files = Arc::new(Faulty { free: AtomicU64::new(1 << 30), ..Faulty::default() });
    let mut options = Options::new(dir.to_owned(), Arc::new(clock.clone()));
    options.files = files.clone();
    (files, options)
}

fn relaxed(ops: Vec<Op>) -> Txn {
    Txn { durability: Durability::Relaxed, ..txn(ops) }
}

#[tokio::test]
async fn relaxed_writes_are_synced_together_and_in_time() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    kv.txn(relaxed(vec![put("/a", "0")])).await.unwrap();
    let reserved = files.syncs.load(Ordering::SeqCst);
    for i in 0..20 {
        kv.txn(relaxed(vec![put("/a", &i.to_string())])).await.unwrap();
        kv.grant(Some(i + 1), Duration::from_secs(3_600)).await.unwrap();
    }
    assert_eq!(files.syncs.load(Ordering::SeqCst), reserved, "relaxed writes wait");
    clock.advance(Duration::from_secs(60));
    until("they are synced", async || files.syncs.load(Ordering::SeqCst) == reserved + 1).await;
    commit(&kv, "/b", "1").await;
    assert_eq!(files.syncs.load(Ordering::SeqCst), reserved + 2);
}

/// Copies what the operating system has while the store is open, as the end of the process leaves it.
fn killed(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// … as a power cut leaves it, without the last of it.
fn power_cut(from: &Path, lose: &str) -> tempfile::TempDir {
    let dir = killed(from);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut data = std::fs::read(&path).unwrap();
        let frame = data.windows(lose.len()).position(|window| window == lose.as_bytes());
        if let Some(at) = frame {
            let start = data[..at].windows(4).rposition(|window| window == 0x4b56_f5a3u32.to_le_bytes()).unwrap();
            data[start..].fill(0);
            std::fs::write(&path, data).unwrap();
        }
    }
    dir
}

#[tokio::test]
async fn the_revision_of_a_lost_relaxed_write_is_not_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    kv.txn(relaxed(vec![put("/a", "2")])).await.unwrap();
    let shown = kv.txn(relaxed(vec![put("/a", "gets lost")])).await.unwrap().revision;
    let after = power_cut(dir.path(), "gets lost");
    let kv = open(after.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "2");
    assert!(kv.revision() >= shown, "{} < {shown}", kv.revision());
    let next = commit(&kv, "/a", "3").await;
    assert!(next > shown);
    kv.close().await;
    drop(kv);
    let kv = open(after.path()).unwrap();
    assert_eq!(kv.revision(), next, "after closing in order nothing is skipped");
}

#[tokio::test]
async fn history_has_a_length_an_age_and_a_size() {
    let clock = virtual_clock();
    let mut options = Options::new(PathBuf::new(), Arc::new(clock.clone()));
    options.history = History { revisions: 10, age: Duration::from_secs(300), bytes: 1 << 20, settled_bytes: 1 << 20 };
    let kv = Embedded::start(options, None, Index::at(1, 0), Leases::default(), 0).unwrap();
    let at = |revision| Range { revision: Some(revision), ..Range::prefix(b"/") };
    for i in 0..20 {
        commit(&kv, "/a", &i.to_string()).await;
    }
    let now = kv.revision();
    assert_eq!(&kv.range(at(now - 10)).await.unwrap().kvs[0].value[..], b"9");
    assert!(matches!(kv.range(at(now - 11)).await, Err(Error::Compacted { compacted, .. }) if compacted == now - 10));
    clock.advance(Duration::from_secs(320));
    until("old values are forgotten", async || kv.range(at(now - 1)).await.is_err()).await;
    let now = commit(&kv, "/big", &"x".repeat(600 << 10)).await;
    commit(&kv, "/big", "").await;
    kv.range(at(now)).await.unwrap();
    commit(&kv, "/big", &"x".repeat(600 << 10)).await;
    commit(&kv, "/big", "").await;
    assert!(matches!(kv.range(at(now)).await, Err(Error::Compacted { .. })));
    assert!(kv.range(at(now + 2)).await.is_ok());
}

#[tokio::test]
async fn a_nearly_full_disk_takes_what_needs_no_more_space() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    let lease = kv.grant(None, Duration::from_secs(600)).await.unwrap().id;
    kv.txn(txn(vec![put("/a", "1"), put("/b", "1"), leased("/c", "1", lease)])).await.unwrap();
    files.free.store(63 << 20, Ordering::SeqCst);
    clock.advance(Duration::from_secs(1));
    let large = "x".repeat(2_000);
    for growing in [put("/new", "1"), put("/a", &large)] {
        let refused = kv.txn(txn(vec![growing])).await.unwrap_err();
        assert!(matches!(&refused, Error::NoSpace(_)) && refused.is_retriable(), "{refused}");
        assert!(refused.to_string().contains("63 MiB are free"), "{refused}");
    }
    assert!(kv.is_short_of_space());
    // An object is marked for deletion by such a write.
    commit(&kv, "/a", "2, to be deleted").await;
    delete(&kv, "/b").await;
    kv.revoke(lease).await.unwrap();
    assert!(value(&kv, "/c").await.is_none());
    files.free.store(1 << 20, Ordering::SeqCst);
    clock.advance(Duration::from_secs(1));
    let refused = kv.txn(txn(vec![Op::Delete(KeyRange::key("/a"))])).await;
    assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
    files.free.store(1 << 30, Ordering::SeqCst);
    clock.advance(Duration::from_secs(1));
    commit(&kv, "/a", &large).await;
    assert!(!kv.is_short_of_space());
}

#[tokio::test]
async fn a_writer_that_panics_is_noticed() {
    struct Panics;
    impl Observer for Panics {
        fn committed(&self, _: &[Event]) {
            panic!("on purpose");
        }
        fn reset(&self, _: crate::api::Snapshot) {}
    }
    let kv = Embedded::memory(system_clock()).unwrap();
    kv.observe(b"/", Arc::new(Panics)).await.unwrap();
    kv.health().await.unwrap();
    assert!(kv.txn(txn(vec![put("/a", "1")])).await.is_err());
    until("it is not healthy", async || kv.health().await.is_err()).await;
}

/// What a checkpoint reads is kept for it, and one that panicked must not leave that behind: the history would only grow.
#[tokio::test]
async fn a_checkpoint_that_panics_is_counted_and_gives_back_what_was_kept_for_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, mut options) = faulty(dir.path(), &clock);
    (options.segment_bytes, options.checkpoint_bytes) = (4 << 10, 16 << 10);
    let kv = Embedded::open(options.clone()).unwrap();
    let counted = || kedge_base::Ledger::process().panics_of("kv-checkpoint");
    let named = |end: &str| RealFiles.list(dir.path()).unwrap().iter().any(|name| name.ends_with(end));
    let value_of_a = "x".repeat(1_000);
    let before = counted();
    files.panics.store(true, Ordering::SeqCst);
    until("it panics", async || {
        commit(&kv, "/a", &value_of_a).await;
        counted() > before
    })
    .await;
    kv.health().await.unwrap();
    until("nothing is kept", async || {
        let now = commit(&kv, "/a", &value_of_a).await;
        kv.compact(now).await.unwrap();
        kv.shared.index.read().sizes().iter().any(|(part, size)| *part == "history" && size.entries == 0)
    })
    .await;
    // The log still covers all, and the next checkpoint takes away what this one left.
    until("the next one is written", async || {
        commit(&kv, "/a", &value_of_a).await;
        named(".ckpt") && !named(".tmp")
    })
    .await;
    let last = commit(&kv, "/a", "last").await;
    assert_eq!(counted(), before + 1);
    kv.close().await;
    drop(kv);
    let kv = Embedded::open(options).unwrap();
    let a = kv.get(b"/a").await.unwrap().unwrap();
    assert_eq!((&a.value[..], a.mod_revision), (&b"last"[..], last));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_any_more() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    commit(&kv, "/a", "1").await;
    kv.health().await.unwrap();
    files.broken.store(true, Ordering::SeqCst);
    let failed = kv.txn(txn(vec![put("/a", "2")])).await.unwrap_err();
    assert!(matches!(&failed, Error::Io { .. }) && failed.is_outcome_unknown(), "{failed}");
    files.broken.store(false, Ordering::SeqCst);
    let refused = kv.txn(txn(vec![put("/a", "3")])).await.unwrap_err();
    assert!(matches!(&refused, Error::Closed(why) if why.contains("broken on purpose")), "{refused}");
    assert!(matches!(kv.health().await, Err(Error::Closed(_))));
    assert_eq!(value(&kv, "/a").await.unwrap(), "1", "reads go on");
}

#[tokio::test]
async fn another_format_is_refused() {
    for version in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(dir.path()).unwrap();
        kv.close().await;
        drop(kv);
        let segment = only_segment(dir.path());
        let mut data = std::fs::read(&segment).unwrap();
        data[8] = version;
        std::fs::write(&segment, data).unwrap();
        let refused = open(dir.path()).err().unwrap();
        assert!(
            matches!(&refused, Error::Version { found, supported: 2, .. } if *found == u32::from(version)),
            "{refused}"
        );
    }
}

/// The writer once turned in circles: a lease had run out, and its keys could not be deleted for want of space.
#[tokio::test]
async fn a_lease_that_runs_out_on_a_full_disk_waits_for_space() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    let lease = kv.grant(None, Duration::from_secs(60)).await.unwrap().id;
    kv.txn(txn(vec![leased("/a", "1", lease)])).await.unwrap();
    files.free.store(0, Ordering::SeqCst);
    clock.advance(Duration::from_secs(61));
    assert!(matches!(kv.txn(txn(vec![put("/b", "1")])).await, Err(Error::NoSpace(_))));
    assert!(value(&kv, "/a").await.is_some());
    until("the writer sleeps", async || clock.sleepers() > 0).await;
    files.free.store(1 << 30, Ordering::SeqCst);
    clock.advance(Duration::from_secs(2));
    until("the key is gone", async || value(&kv, "/a").await.is_none()).await;
}

/// A segment whose creation was not finished is removed when the store is opened; a power cut can undo that. Meanwhile
/// the segment before it was gone on with, and its end may be torn.
#[tokio::test]
async fn an_unfinished_segment_that_comes_back_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    kv.txn(relaxed(vec![put("/a", "gets lost")])).await.unwrap();
    kv.txn(relaxed(vec![put("/a", "later")])).await.unwrap();
    let after = power_cut(dir.path(), "gets lost");
    std::fs::write(after.path().join(format::FileKind::Segment.name(2)), [0; 100]).unwrap();
    let kv = open(after.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "1");
    commit(&kv, "/a", "2").await;
    kv.close().await;
}

/// Grants show no revision, so they reserve none: that would cost a sync each time a node starts.
#[tokio::test]
async fn a_grant_waits_for_no_sync() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    let before = files.syncs.load(Ordering::SeqCst);
    kv.grant(None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(files.syncs.load(Ordering::SeqCst), before);
}

fn deferred(ops: Vec<Op>) -> Txn {
    Txn { durability: Durability::Deferred, ..txn(ops) }
}

#[tokio::test]
async fn deferred_writes_go_to_the_file_with_the_next_write_or_in_time() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, options) = faulty(dir.path(), &clock);
    let kv = Embedded::open(options).unwrap();
    let holds = |text: &str| {
        let data = std::fs::read(only_segment(dir.path())).unwrap();
        data.windows(text.len()).any(|window| window == text.as_bytes())
    };
    // The first one reserves revisions, durably.
    kv.txn(deferred(vec![put("/a", "reserves")])).await.unwrap();
    let syncs = files.syncs.load(Ordering::SeqCst);
    kv.txn(deferred(vec![put("/a", "first-held")])).await.unwrap();
    kv.txn(deferred(vec![put("/a", "second-held")])).await.unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "second-held");
    assert!(!holds("first-held") && !holds("second-held"), "they are held back");
    kv.txn(relaxed(vec![put("/b", "takes-them-along")])).await.unwrap();
    assert!(holds("first-held") && holds("second-held") && holds("takes-them-along"));
    kv.txn(deferred(vec![put("/a", "third-held")])).await.unwrap();
    assert!(!holds("third-held"));
    assert_eq!(files.syncs.load(Ordering::SeqCst), syncs);
    clock.advance(Duration::from_secs(60));
    until("they are synced", async || files.syncs.load(Ordering::SeqCst) == syncs + 1).await;
    assert!(holds("third-held"));
    // Many of them are not gathered without end.
    kv.txn(deferred(vec![put("/a", "fourth-held")])).await.unwrap();
    for _ in 0..3 {
        kv.txn(deferred(vec![put("/c", &"x".repeat(30_000))])).await.unwrap();
    }
    assert!(holds("fourth-held"));
    kv.txn(deferred(vec![put("/a", "last-held")])).await.unwrap();
    kv.close().await;
    drop(kv);
    let kv = open(dir.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "last-held", "closing the store loses nothing");
}

#[tokio::test]
async fn a_deferred_write_that_the_end_of_the_process_lost_leaves_its_revision_unused() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    commit(&kv, "/a", "1").await;
    kv.txn(deferred(vec![put("/a", "2")])).await.unwrap();
    let shown = kv.txn(deferred(vec![put("/a", "gets lost")])).await.unwrap().revision;
    let killed = killed(dir.path());
    kv.close().await;
    let kv = open(killed.path()).unwrap();
    assert_eq!(value(&kv, "/a").await.unwrap(), "2");
    // Who goes on from there is told that something is missing.
    let told = kv.history(&KeyRange::key("/a"), shown + 1, 10);
    assert!(matches!(told, Err(Error::Compacted { .. })), "{told:?}");
    assert!(commit(&kv, "/a", "3").await > shown);
}

/// A frame with a sector of zeroes would pass for one that a power cut tore, and be cut off, if a bit in it flipped.
#[tokio::test]
async fn damage_to_the_last_write_is_found_even_if_it_holds_zeroes() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path()).unwrap();
    let value = format!("zeroes:{}", "\0".repeat(2_000));
    commit(&kv, "/a", &value).await;
    let killed = killed(dir.path());
    kv.close().await;
    let path = only_segment(killed.path());
    let sound = std::fs::read(&path).unwrap();
    let at = sound.windows(7).position(|window| window == b"zeroes:").unwrap();
    for byte in [at - 60, at, at + 500, at + 2_000] {
        let mut flipped = sound.clone();
        flipped[byte] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(matches!(open(killed.path()), Err(Error::Corrupt { .. })), "byte {byte}");
    }
    std::fs::write(&path, &sound).unwrap();
    open(killed.path()).unwrap();
}

/// What the guard over free space did not see coming is refused as well, and does not outlast the lack of space.
#[tokio::test]
async fn a_disk_that_is_full_for_a_while_does_no_harm() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), virtual_clock());
    let (files, mut options) = faulty(dir.path(), &clock);
    (options.segment_bytes, options.room) = (300_000, 4 << 10);
    let kv = Embedded::open(options).unwrap();
    let large = "x".repeat(100_000);
    for round in 0..5 {
        commit(&kv, "/a", &format!("{round}{large}")).await;
        kv.txn(deferred(vec![put("/held", &round.to_string())])).await.unwrap();
        files.full.store(true, Ordering::SeqCst);
        for value in [&large[..], "small"] {
            let refused = kv.txn(txn(vec![put("/refused", value)])).await;
            assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
        }
        files.full.store(false, Ordering::SeqCst);
        kv.health().await.unwrap();
    }
    commit(&kv, "/b", "1").await;
    let killed = killed(dir.path());
    kv.close().await;
    let kv = open(killed.path()).unwrap();
    assert!(value(&kv, "/refused").await.is_none());
    assert_eq!(value(&kv, "/a").await.unwrap(), format!("4{large}"));
    assert_eq!(value(&kv, "/held").await.unwrap(), "4");
    assert_eq!(value(&kv, "/b").await.unwrap(), "1");
}
