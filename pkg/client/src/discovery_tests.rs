//! What a server has, as it changes.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use kedge_base::Shutdown;
use parking_lot::Mutex as Lock;
use serde_json::{Value, json};

use super::*;
use crate::transport::{Body, BoxError, Transport};

/// A server whose groups change.
struct Server {
    groups: Lock<Value>,
    generation: watch::Sender<u64>,
    sent: AtomicUsize,
}

impl Server {
    fn new(groups: Value) -> Arc<Self> {
        Arc::new(Self { groups: Lock::new(groups), generation: watch::Sender::new(0), sent: AtomicUsize::new(0) })
    }

    fn set(&self, groups: Value) {
        *self.groups.lock() = groups;
        self.generation.send_modify(|n| *n += 1);
    }
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        assert_eq!(request.headers()[header::ACCEPT], ACCEPT);
        let groups = if request.uri() == "/api" { json!([]) } else { self.groups.lock().clone() };
        let text = json!({"kind": "APIGroupDiscoveryList", "items": groups}).to_string();
        let tag = format!("\"{}\"", text.len());
        let same = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| *known == *tag);
        let answer = Response::builder().header(header::ETAG, tag);
        let (code, text) = if same { (304, String::new()) } else { (200, text) };
        self.sent.fetch_add(usize::from(!same), Ordering::SeqCst);
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        Ok(answer.status(code).body(body)?)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.generation.subscribe())
    }
}

fn group(name: &str, versions: Value) -> Value {
    json!({"metadata": {"name": name}, "versions": versions})
}

fn api(plural: &str, kind: &str) -> Value {
    json!({"resource": plural, "scope": "Namespaced", "verbs": ["list"],
        "responseKind": {"group": "", "version": "", "kind": kind}})
}

fn names(found: &Found) -> Vec<(&str, &str)> {
    found.resources.iter().map(|d| (d.resource.plural.as_str(), d.resource.version.as_str())).collect()
}

#[tokio::test]
async fn the_first_version_wins_and_what_is_stale_is_told() {
    let server = Server::new(json!([group(
        "g",
        json!([
            {"version": "v1", "freshness": "Current", "resources": [api("a", "A"), {"resource": "bare", "verbs": []}]},
            {"version": "v1beta1", "freshness": "Stale", "resources": [api("a", "A"), api("b", "B")]},
        ])
    )]));
    let tasks = TaskGroup::new("test", Shutdown::new());
    let discovery = Discovery::start(&Client::new(server), &tasks);
    let found = discovery.refresh().await.unwrap();
    assert_eq!(names(&found), [("a", "v1"), ("b", "v1beta1")]);
    assert_eq!(found.failures, ["g/v1beta1: stale GroupVersion discovery"]);
    assert!(found.resources[0].can("list") && !found.resources[0].can("delete"));
    tasks.shutdown().trigger();
}

#[tokio::test]
async fn changes_are_told_and_what_is_known_is_not_sent_again() {
    let one = group("g", json!([{"version": "v1", "resources": [api("a", "A")]}]));
    let server = Server::new(json!([one]));
    let tasks = TaskGroup::new("test", Shutdown::new());
    let discovery = Discovery::start(&Client::new(server.clone()), &tasks);
    let mut changes = discovery.changes();
    changes.wait_for(Option::is_some).await.unwrap();
    let (before, sent) = (discovery.current().unwrap(), server.sent.load(Ordering::SeqCst));
    let again = discovery.refresh().await.unwrap();
    assert!(Arc::ptr_eq(&before, &again), "nothing has changed");
    assert_eq!(server.sent.load(Ordering::SeqCst), sent);
    server.set(json!([one, group("other", json!([{"version": "v1", "resources": [api("things", "Thing")]}]))]));
    let has = |found: &Option<Arc<Found>>| found.as_ref().is_some_and(|found| found.resources.len() == 2);
    changes.wait_for(has).await.unwrap();
    server.set(json!([one]));
    changes.wait_for(|found| found.as_ref().is_some_and(|found| names(found) == [("a", "v1")])).await.unwrap();
    tasks.shutdown().trigger();
}
