//! Handlers that panic are told again; the others never notice.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::transport::{Body, BoxError, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use kedge_base::Ledger;
use kedge_meta::resources;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    inner.settle();
    assert!(inner.owes(), "it still panics");
    broken.store(false, Ordering::SeqCst);
    inner.set(object("a", 6), false);
    inner.settle();
    assert!(!inner.owes());
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

/// The first list and the first watch panic, the watch when it is told to; the lists that follow grow, later watches hold.
#[derive(Default)]
struct Panicking {
    lists: AtomicUsize,
    watches: AtomicUsize,
    go: Notify,
}

struct InProcess(Arc<Panicking>);

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
        let api = &self.0;
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            if api.watches.fetch_add(1, Ordering::SeqCst) == 0 {
                api.go.notified().await;
                panic!("on purpose");
            }
            std::future::pending::<()>().await;
        }
        let lists = api.lists.fetch_add(1, Ordering::SeqCst);
        assert!(lists > 0, "on purpose");
        let item = |i: usize| json!({"metadata": {"name": i.to_string(), "resourceVersion": i.to_string()}});
        let items: Vec<_> = (1..=lists).map(item).collect();
        let list = json!({"metadata": {"resourceVersion": lists.to_string()}, "items": items}).to_string();
        let body = Full::new(Bytes::from(list)).map_err(|never| -> BoxError { match never {} });
        Ok(http::Response::new(body.boxed_unsync()))
    }
}

/// What a handler was owed when its informer panicked was told with the object's next change only.
#[tokio::test]
async fn an_informer_that_panics_lists_again_and_tells_what_it_owed() {
    let ledger = Ledger::new(system_clock());
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
    let api = Arc::<Panicking>::default();
    let client = Client::new(Arc::new(InProcess(api.clone())));
    let informer = Informer::<Object>::start(&client, &tasks, &resources::PODS, ListParams::default());
    let (broken, told) = (Arc::new(AtomicBool::new(true)), Told::default());
    let (is_broken, fragile) = (broken.clone(), told.clone());
    informer.on_change(move |change| {
        assert!(!is_broken.load(Ordering::SeqCst), "on purpose");
        note(&fragile, change);
    });
    let watching = async {
        while api.watches.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The task, which was woken for it, sees that something is owed, and panics before it has told that again.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), watching).await.unwrap();
    assert!(ledger.panics_of(HANDLER) > 0);
    broken.store(false, Ordering::SeqCst);
    api.go.notify_one();
    let all = async {
        while told.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    let mut told = told.lock().clone();
    told.sort();
    assert_eq!(told, [entry("1", "-", "1"), entry("2", "-", "2")]);
    assert_eq!((ledger.panics_of("informer"), informer.list().len()), (2, 2));
    assert!(tasks.join(Duration::from_secs(5)).await);
}
