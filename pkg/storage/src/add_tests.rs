//! Resources come and go while others write.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures::FutureExt as _;
use kedge_kv::{Embedded, Event, Kv, Observer, Snapshot};
use serde_json::{Value, json};

use super::*;
use crate::watch::{EventKind, Next};
use crate::{Matcher, With};

const PREFIX: &str = "x.org/as";

fn config() -> ResourceConfig {
    ResourceConfig::new(PREFIX, "as.x.org")
}

async fn opened() -> (Arc<Embedded>, Storage) {
    let kv = Arc::new(Embedded::memory(kedge_base::system_clock()).unwrap());
    let pods = [ResourceConfig::new("pods", "pods")];
    let storage = Storage::open(kv.clone(), &pods, Arc::default(), kedge_base::system_clock()).await.unwrap();
    (kv, storage)
}

fn object(name: &str, count: u64) -> Value {
    json!({"apiVersion": "x.org/v1", "kind": "A", "metadata": {"name": name}, "count": count})
}

/// As another server writes.
async fn put(kv: &Embedded, name: &str, count: u64) -> u64 {
    let value = crate::Object::encode(None, &object(name, count)).unwrap();
    let put = Op::Put { key: format!("/registry/{PREFIX}/{name}").into(), value, lease: 0 };
    kv.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap().revision
}

/// On a thread that is not the test's.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn count(object: &crate::Object) -> u64 {
    object.to_value().unwrap()["count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_resource_is_added_with_what_the_store_holds_and_serves_like_any_other() {
    let (kv, storage) = opened().await;
    put(&kv, "old", 1).await;
    assert!(storage.resource(PREFIX).is_none());
    let store = storage.add(&config()).await.unwrap();
    assert_eq!(count(&store.get("old").unwrap().unwrap()), 1);
    let listed = store.list("", &Matcher::default(), 0).unwrap();
    let mut watcher = store.watch("", Matcher::default(), listed.revision).await.unwrap();
    store.create("new", &object("new", 2), With::default()).await.unwrap();
    assert!(matches!(watcher.next().await, Next::Event(EventKind::Added, event) if &*event.key == "new"));
    assert!(storage.resource(PREFIX).is_some());
    assert_eq!(storage.check().await.unwrap(), []);
    assert_eq!(storage.reseal("as.x.org").await.unwrap(), 0);
}

#[tokio::test]
async fn what_would_share_keys_is_refused() {
    let (_, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    for taken in [PREFIX, "x.org", "x.org/as/deep", "pods", "pods/deep"] {
        let refused = storage.add(&ResourceConfig::new(taken, "other")).await;
        assert!(matches!(refused, Err(Error::Overlap { .. })), "{taken}");
    }
    // Names may begin alike.
    storage.add(&ResourceConfig::new("x.org/ases", "ases.x.org")).await.unwrap();
    store.create("a", &object("a", 1), With::default()).await.unwrap();
    assert!(storage.resource(PREFIX).unwrap().get("a").unwrap().is_some());
}

#[tokio::test]
async fn one_that_is_not_filled_yet_is_nobodys_and_leaves_its_place_when_it_is_given_up() {
    let (kv, storage) = opened().await;
    for i in 0..PAGE + 1 {
        put(&kv, &format!("n{i:04}"), 1).await;
    }
    let config = config();
    {
        let adding = storage.add(&config);
        tokio::pin!(adding);
        assert!(futures::poll!(adding.as_mut()).is_pending(), "there is a second page");
        assert!(storage.resource(PREFIX).is_none(), "a list of it would lack what is there");
        assert_eq!(storage.check().await.unwrap(), []);
        assert!(matches!(storage.add(&config).await, Err(Error::Overlap { .. })));
    }
    let store = storage.add(&config).await.unwrap();
    assert_eq!(store.list("", &Matcher::default(), 0).unwrap().objects.len(), PAGE + 1);
}

/// Each key is written by one writer, which counts: whoever misses a write, or sees one twice, sees the count jump.
#[test]
fn nothing_is_lost_or_doubled_while_others_write() {
    let (kv, storage) = block_on(opened());
    block_on(async {
        for i in 0..2 * PAGE {
            put(&kv, &format!("still-{i:04}"), 0).await;
        }
    });
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (kv, ended) = (&kv, &ended);
            scope.spawn(move || {
                let name = format!("counted-{writer}");
                block_on(async {
                    for count in 1.. {
                        if ended.load(Ordering::SeqCst) {
                            break;
                        }
                        put(kv, &name, count).await;
                    }
                });
            });
        }
        let watching = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..25 {
                block_on(watch_a_while(&storage, round));
            }
        }));
        ended.store(true, Ordering::SeqCst);
        watching.unwrap();
    });
}

async fn watch_a_while(storage: &Storage, round: usize) {
    let store = storage.add(&config()).await.unwrap();
    let listed = store.list("", &Matcher::default(), 0).unwrap();
    assert!(listed.objects.len() >= 2 * PAGE);
    let mut seen: BTreeMap<String, u64> =
        listed.objects.iter().map(|(key, object)| (key.to_string(), count(object))).collect();
    let mut watcher = store.watch("", Matcher::default(), listed.revision).await.unwrap();
    for _ in 0..60 {
        let Next::Event(_, event) = watcher.next().await else { panic!("round {round}") };
        let now = count(event.object.as_ref().unwrap());
        let before = seen.insert(event.key.to_string(), now);
        assert_eq!(now, before.unwrap_or(0) + 1, "{} in round {round}", event.key);
    }
    assert!(storage.remove(&store).await);
    // What came until then is still told, and then that it is the end.
    loop {
        match watcher.next().await {
            Next::Event(_, event) => {
                let now = count(event.object.as_ref().unwrap());
                assert_eq!(seen.insert(event.key.to_string(), now).unwrap_or(0) + 1, now);
            }
            Next::Closed => break,
            Next::Failed(err) => panic!("{err}"),
        }
    }
}

#[tokio::test]
async fn who_still_has_a_removed_resource_is_told_so() {
    let (_, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    let made = store.create("a", &object("a", 1), With::default()).await.unwrap();
    let mut watcher = store.watch("", Matcher::default(), store.revision()).await.unwrap();
    assert!(storage.remove(&store).await && !storage.remove(&store).await);
    assert!(matches!(watcher.next().await, Next::Closed));
    assert!(storage.resource(PREFIX).is_none());
    assert!(store.is_removed() && matches!(store.get("a"), Err(Error::Removed)));
    assert!(matches!(store.current("a").await, Err(Error::Removed)));
    assert!(matches!(store.list("", &Matcher::default(), 0), Err(Error::Removed)));
    assert!(matches!(store.list_at("", "", &Matcher::default(), 0, made.revision).await, Err(Error::Removed)));
    assert!(matches!(store.watch("", Matcher::default(), made.revision).await, Err(Error::Removed)));
    assert!(matches!(store.watch_with_state("", Matcher::default()), Err(Error::Removed)));
    let with = With::default;
    assert!(matches!(store.create("b", &object("b", 1), with()).await, Err(Error::Removed)));
    assert!(matches!(store.update("a", &object("a", 2), made.revision, with()).await, Err(Error::Removed)));
    assert!(matches!(store.delete("a", made.revision, with()).await, Err(Error::Removed)));
    assert!(matches!(store.reseal("a").await, Err(Error::Removed)));
    // Added again it is another one, and stays when the former is removed once more.
    let again = storage.add(&config()).await.unwrap();
    assert!(!storage.remove(&store).await && storage.resource(PREFIX).is_some());
    assert_eq!(again.get("a").unwrap().unwrap().revision, made.revision);
}

#[tokio::test]
async fn watches_of_before_list_again_when_a_resource_is_added_again() {
    let (_, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    let made = store.create("a", &object("a", 1), With::default()).await.unwrap();
    let last = store.delete("a", made.revision, With::default()).await.unwrap();
    storage.remove(&store).await;
    storage.resource("pods").unwrap().create("p", &object("p", 1), With::default()).await.unwrap();
    let again = storage.add(&config()).await.unwrap();
    for old in [made.revision, last] {
        assert!(matches!(again.watch("", Matcher::default(), old).await, Err(Error::TooOld { .. })));
    }
    assert!(again.watch("", Matcher::default(), again.revision()).await.is_ok());
}

/// Holds up the store after it has committed a write of one key, before it answers the writer.
struct HoldUp {
    committed: mpsc::SyncSender<()>,
    go_on: parking_lot::Mutex<mpsc::Receiver<()>>,
}

impl Observer for HoldUp {
    fn committed(&self, events: &[Event]) {
        if events.iter().any(|event| event.key.ends_with(b"/late")) {
            self.committed.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
        }
    }

    fn reset(&self, _: Snapshot) {}
}

/// A write in flight was committed after its resource had gone, and nobody saw it until the resource was added again.
#[tokio::test]
async fn a_resource_goes_when_its_last_write_is_through() {
    let (kv, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    let mut watcher = store.watch("", Matcher::default(), store.revision()).await.unwrap();
    let ((committed, is_committed), (go_on, goes_on)) = (mpsc::sync_channel(1), mpsc::channel());
    let hold_up = HoldUp { committed, go_on: goes_on.into() };
    kv.observe(format!("/registry/{PREFIX}/").as_bytes(), Arc::new(hold_up)).await.unwrap();
    let writing = std::thread::spawn({
        let store = store.clone();
        move || block_on(store.create("late", &object("late", 1), With::default()))
    });
    is_committed.recv().unwrap();
    let removing = storage.remove(&store);
    tokio::pin!(removing);
    assert!(futures::poll!(removing.as_mut()).is_pending());
    assert!(matches!(store.create("b", &object("b", 1), With::default()).await, Err(Error::Removed)));
    assert!(store.get("late").unwrap().is_some(), "it can be read until it has gone");
    go_on.send(()).unwrap();
    writing.join().unwrap().unwrap();
    assert!(removing.await);
    assert!(matches!(watcher.next().await, Next::Event(EventKind::Added, event) if &*event.key == "late"));
    assert!(matches!(watcher.next().await, Next::Closed));
    assert!(kv.get(format!("/registry/{PREFIX}/b").as_bytes()).await.unwrap().is_none());
}

#[tokio::test]
async fn clearing_takes_what_was_written_last_and_watchers_see_it_go() {
    let (kv, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    for i in 0..PAGE + 3 {
        put(&kv, &format!("n{i:04}"), 1).await;
    }
    storage.fresh().await.unwrap();
    let (objects, mut watcher) = store.watch_with_state("", Matcher::default()).unwrap();
    assert_eq!(objects.len(), PAGE + 3);
    // Nobody waits for this one: it is handed to the store all the same.
    {
        let value = object("z", 1);
        let creating = store.create("z", &value, With::default());
        tokio::pin!(creating);
        let _ = futures::poll!(creating.as_mut());
    }
    storage.clear(&store).await.unwrap();
    assert!(store.list("", &Matcher::default(), 0).unwrap().objects.is_empty());
    assert!(storage.remove(&store).await);
    let mut gone = 0;
    loop {
        match watcher.next().await {
            Next::Event(EventKind::Deleted, _) => gone += 1,
            Next::Event(_, event) => assert_eq!(&*event.key, "z"),
            Next::Closed => break,
            Next::Failed(err) => panic!("{err}"),
        }
    }
    assert_eq!(gone, PAGE + 4);
    let again = storage.add(&config()).await.unwrap();
    assert!(again.list("", &Matcher::default(), 0).unwrap().objects.is_empty(), "nothing comes back");
}

#[tokio::test]
async fn what_comes_and_goes_a_thousand_times_leaves_nothing() {
    let (_, storage) = opened().await;
    let mut gone: Vec<Weak<Cache>> = Vec::new();
    for i in 0..1_000 {
        let store = storage.add(&config()).await.unwrap();
        gone.push(Arc::downgrade(&store.cache));
        let mut large = object("a", i);
        large["data"] = "x".repeat(4 << 10).into();
        let made = store.create("a", &large, With::default()).await.unwrap();
        store.delete("a", made.revision, With::default()).await.unwrap();
        assert!(storage.remove(&store).await);
    }
    assert_eq!(storage.hub.caches().len(), 1);
    assert_eq!(storage.budget.bytes(), 0);
    assert!(gone.iter().all(|cache| cache.strong_count() == 0));
}

#[tokio::test]
async fn the_events_of_one_that_was_removed_count_until_its_last_watcher_is_gone() {
    let (_, storage) = opened().await;
    let store = storage.add(&config()).await.unwrap();
    let mut watcher = store.watch("", Matcher::default(), store.revision()).await.unwrap();
    store.create("a", &object("a", 1), With::default()).await.unwrap();
    storage.remove(&store).await;
    drop(store);
    assert!(storage.budget.bytes() > 0);
    assert!(matches!(watcher.next().now_or_never(), Some(Next::Event(EventKind::Added, _))));
    assert!(matches!(watcher.next().now_or_never(), Some(Next::Closed)));
    drop(watcher);
    assert_eq!(storage.budget.bytes(), 0);
}
