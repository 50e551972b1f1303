//! Restores that are refused, cut off or repeated.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use kedge_base::{Shutdown, TaskGroup, system_clock};
use kedge_kv::{Embedded, KeyRange, KeyValue, Op, Options, Txn};

use super::*;
use crate::{Endpoint, Tls};

fn a_key(name: &str, revision: u64) -> KeyValue {
    KeyValue {
        key: name.to_owned().into(),
        value: "1".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn snapshot(dir: &Path, name: &str, revision: u64) -> PathBuf {
    let path = dir.join(name);
    let state = State { revision, kvs: vec![a_key("/registry/a", revision)], leases: Vec::new() };
    kedge_snapshot::write(&path, &state, &mut |_| {}).unwrap();
    path
}

fn run(layout: &Layout, snapshot: &Path) -> Result<Restored, Error> {
    restore(layout, snapshot, Timestamp::UNIX_EPOCH, &mut |_, _, _| {})
}

async fn start(layout: &Layout) -> Result<crate::Store, Error> {
    let tasks = TaskGroup::new("test", Shutdown::new());
    crate::open(&Endpoint::Embedded, &Tls::default(), layout, &system_clock(), &tasks).await
}

fn names(layout: &Layout) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(layout.db())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn revisions_that_were_given_out_are_neither_given_out_again_nor_watched() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let restored = run(&layout, &snapshot(dir.path(), "s", 50)).unwrap();
    assert_eq!((restored.revision, restored.next), (50, 1_000_000_050));
    let store = start(&layout).await.unwrap();
    // The object is what it was.
    assert_eq!(store.kv.get(b"/registry/a").await.unwrap().unwrap().mod_revision, 50);
    let put = Op::Put { key: "/registry/a".into(), value: "2".into(), lease: 0 };
    let written = store.kv.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    assert_eq!(written.revision, 1_000_000_051);
    // Who has seen something after the snapshot does not go on as if that had never been undone.
    let engine = store.embedded.unwrap();
    let history = |from| engine.history(&KeyRange::prefix(b"/"), from, 10);
    for from in [51, 70, 1_000_000_050] {
        assert!(matches!(history(from), Err(kedge_kv::Error::Compacted { .. })), "{from}");
    }
    assert_eq!(history(1_000_000_051).unwrap().0.len(), 1);
}

/// The second time, what the first one began has given out revisions too.
#[tokio::test]
async fn every_restore_goes_on_behind_everything_that_was_here() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let (newer, older) = (snapshot(dir.path(), "newer", 500), snapshot(dir.path(), "older", 50));
    let first = run(&layout, &newer).unwrap();
    let store = start(&layout).await.unwrap();
    let put = Op::Put { key: "/registry/a".into(), value: "2".into(), lease: 0 };
    let written = store.kv.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    assert_eq!(written.revision, first.next + 1);
    store.kv.close().await;
    drop(store);
    let second = run(&layout, &older).unwrap();
    assert_eq!((second.revision, second.next), (50, written.revision + 1_000_000_000));
    // Also when only what was put aside is left of it.
    std::fs::remove_dir_all(layout.store()).unwrap();
    assert_eq!(run(&layout, &older).unwrap().next, second.next);
}

#[tokio::test]
async fn no_empty_store_begins_where_a_restore_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let path = snapshot(dir.path(), "s", 50);
    run(&layout, &path).unwrap();
    std::fs::rename(layout.store(), layout.new_store()).unwrap();
    let file = std::fs::read_dir(layout.new_store()).unwrap().map(|e| e.unwrap().path());
    let checkpoint = file.into_iter().find(|path| path.extension().is_some_and(|e| e == "ckpt")).unwrap();
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&checkpoint, bytes).unwrap();
    let refused = start(&layout).await.err().unwrap();
    assert!(matches!(refused, Error::HalfRestored { .. }), "{refused}");
    // The way out that the message names.
    run(&layout, &path).unwrap();
    start(&layout).await.unwrap();
}

#[tokio::test]
async fn a_restore_that_a_server_refuses_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let store = start(&layout).await.unwrap();
    let refused = run(&layout, &snapshot(dir.path(), "s", 50)).unwrap_err();
    assert!(matches!(refused, Error::Kv(kedge_kv::Error::Locked { .. })), "{refused}");
    assert_eq!(names(&layout), ["kv"]);
    drop(store);
}

#[tokio::test]
async fn a_restore_that_fails_leaves_nothing_and_the_store_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    drop(start(&layout).await.unwrap());
    let failed = run(&layout, &snapshot(dir.path(), "s", i64::MAX as u64 - 1)).unwrap_err();
    assert!(matches!(failed, Error::Kv(kedge_kv::Error::Revisions(_))), "{failed}");
    assert!(run(&layout, &dir.path().join("none")).is_err());
    assert_eq!(names(&layout), ["kv"]);
    drop(start(&layout).await.unwrap());
}

#[tokio::test]
async fn what_a_killed_restore_left_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let leftovers = || {
        let contents = contents(State { revision: 50, kvs: vec![a_key("/registry/a", 50)], leases: Vec::new() });
        Embedded::restore(&files(), &layout.new_store(), &contents, 0).unwrap();
        std::fs::create_dir(layout.half_store()).unwrap();
        std::fs::write(layout.half_store().join("00000000000000000002.log"), "half").unwrap();
    };
    drop(start(&layout).await.unwrap());
    leftovers();
    let store = start(&layout).await.unwrap();
    assert!(store.kv.get(b"/registry/a").await.unwrap().is_none());
    assert_eq!(names(&layout), ["kv"]);
    drop(store);
    // Neither is an empty directory, nor half a store, once the store has been moved away.
    std::fs::rename(layout.store(), dir.path().join("moved")).unwrap();
    std::fs::create_dir(layout.new_store()).unwrap();
    assert!(matches!(Place::of_store(&layout), Err(Error::NoStore(_))));
    assert_eq!(names(&layout), Vec::<String>::new());
    leftovers();
    let checkpoint = std::fs::read_dir(layout.new_store()).unwrap().map(|e| e.unwrap().path());
    let checkpoint = checkpoint.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::write(checkpoint, "").unwrap();
    assert!(matches!(Place::of_store(&layout), Err(Error::NoStore(_))));
    // A whole one is, when the earlier store has been put aside.
    leftovers();
    let store = start(&layout).await.unwrap();
    assert!(store.kv.get(b"/registry/a").await.unwrap().is_some());
    assert_eq!(names(&layout), ["kv"]);
}

#[tokio::test]
async fn no_server_opens_a_store_that_is_being_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    drop(start(&layout).await.unwrap());
    let place = Place::take(&layout).unwrap();
    // As between the two renames.
    std::fs::rename(layout.store(), dir.path().join("moved")).unwrap();
    let Err(Error::Kv(kedge_kv::Error::Locked { path, .. })) = start(&layout).await else { panic!("it was opened") };
    assert_eq!(path, layout.db());
    assert!(!layout.store().exists());
    drop(place);
    drop(start(&layout).await.unwrap());
}

#[test]
fn only_the_user_can_look_into_a_restored_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let layout = Layout::new(&data_dir);
    run(&layout, &snapshot(dir.path(), "s", 50)).unwrap();
    for below in ["server", "server/db", "server/db/kv"] {
        let mode = std::fs::metadata(data_dir.join(below)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{below}");
    }
    let options = Options::new(layout.store(), system_clock());
    drop(Embedded::open(options).unwrap());
}
