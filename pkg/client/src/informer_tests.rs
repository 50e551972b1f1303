//! Handlers that panic are told again; the others never notice.
#![allow(clippy::unwrap_used)]

use super::*;
use kedge_base::Ledger;
use kedge_meta::resources;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

impl Keyed for Object {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

fn object(name: &str, version: u64) -> Object {
    let resource_version = version.to_string();
    Object { metadata: ObjectMeta { name: name.into(), resource_version, ..ObjectMeta::default() } }
}

/// What a handler was told: name, old version, new version.
type Told = Arc<Mutex<Vec<(String, String, String)>>>;

fn note(told: &Told, change: &Change<Object>) {
    let version = |o: &Option<Arc<Object>>| o.as_ref().map_or("-".into(), |o| o.metadata.resource_version.clone());
    told.lock().push((change.key().name, version(&change.old), version(&change.new)));
}

struct Setup {
    informer: Informer<Object>,
    ledger: Ledger,
    broken: Arc<AtomicBool>,
    fragile: Told,
    sturdy: Told,
}

fn setup() -> Setup {
    let ledger = Ledger::new(system_clock());
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
    let inner = Inner::new(&resources::PODS, Objects::default(), true, tasks);
    let informer = Informer { inner: Arc::new(inner) };
    let (broken, fragile, sturdy) = (Arc::new(AtomicBool::new(false)), Told::default(), Told::default());
    let (is_broken, told) = (broken.clone(), fragile.clone());
    informer.on_change(move |change| {
        assert!(!is_broken.load(Ordering::SeqCst), "on purpose");
        note(&told, change);
    });
    let told = sturdy.clone();
    informer.on_change(move |change| note(&told, change));
    Setup { informer, ledger, broken, fragile, sturdy }
}

fn entry(name: &str, old: &str, new: &str) -> (String, String, String) {
    (name.into(), old.into(), new.into())
}

#[test]
fn a_handler_that_panics_is_owed_one_change_from_what_it_knew_to_what_is() {
    let Setup { informer, ledger, broken, fragile, sturdy } = setup();
    let inner = &informer.inner;
    inner.set(object("a", 1), false);
    broken.store(true, Ordering::SeqCst);
    inner.set(object("a", 2), false);
    inner.set(object("b", 3), false);
    inner.set(object("c", 4), false);
    inner.set(object("c", 5), true);
    assert_eq!(ledger.panics_of(HANDLER), 4);
    assert!(!inner.settle(), "it still panics");
    broken.store(false, Ordering::SeqCst);
    inner.set(object("a", 6), false);
    assert!(inner.settle());
    let want = [entry("a", "-", "1"), entry("a", "1", "6"), entry("b", "-", "3"), entry("c", "5", "-")];
    assert_eq!(*fragile.lock(), want);
    assert_eq!(sturdy.lock().len(), 6, "told of everything, at once");
}

#[tokio::test]
async fn what_is_owed_is_told_without_another_change() {
    let Setup { informer, broken, fragile, .. } = setup();
    broken.store(true, Ordering::SeqCst);
    informer.inner.set(object("a", 1), false);
    broken.store(false, Ordering::SeqCst);
    tokio::select! {
        () = settle(&informer.inner) => {}
        () = async {
            while fragile.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    assert_eq!(*fragile.lock(), [entry("a", "-", "1")]);
}
