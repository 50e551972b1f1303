//! The loop against an API in memory: what panics is tried again.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kedge_base::{Ledger, Shutdown, system_clock};
use kedge_client::{Body, BoxError, Transport};
use serde_json::{Value, json};

use super::*;
use crate::framework::{Incoming, Plugin, PreFilter, View};

/// A node and two pods; bindings are counted, and the first one panics.
#[derive(Default)]
struct Api {
    bindings: Mutex<Vec<String>>,
    panicked: AtomicBool,
}

fn meta(name: &str) -> Value {
    json!({"name": name, "uid": name, "resourceVersion": "1"})
}

fn pod(name: &str) -> Value {
    let mut metadata = meta(name);
    metadata["namespace"] = json!("default");
    json!({"metadata": metadata, "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}]}, "status": {}})
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let path = request.uri().path();
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        if path.ends_with("/binding") && request.method() == Method::POST {
            assert!(self.panicked.swap(true, Ordering::SeqCst), "on purpose");
            self.bindings.lock().push(path.to_owned());
        }
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let items = match path {
            "/api/v1/nodes" => json!([{"metadata": meta("n"), "spec": {}, "status": {"allocatable": allocatable}}]),
            "/api/v1/pods" => json!([pod("a"), pod("b")]),
            _ => json!([]),
        };
        let answer =
            json!({"kind": "Status", "status": "Success", "metadata": {"resourceVersion": "1"}, "items": items});
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| -> BoxError { match never {} });
        Ok(Response::new(body.boxed_unsync()))
    }
}

/// Panics for the first pod that it is asked about.
#[derive(Default)]
struct Panicking(AtomicBool);

impl Plugin for Panicking {
    fn name(&self) -> &'static str {
        "Panicking"
    }

    fn pre_filter<'a>(&self, _incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        assert!(self.0.swap(true, Ordering::SeqCst), "on purpose");
        PreFilter::Skip
    }
}

#[tokio::test]
async fn a_pass_and_a_binding_that_panic_are_tried_again() {
    // The pod of a pass that had panicked was in flight for ever, and the loop was gone with it.
    let ledger = Ledger::new(system_clock());
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
    let api = Arc::new(Api::default());
    let profile = Profile::with(Box::new(Panicking::default()));
    start_with(profile, &Client::new(api.clone()), &system_clock(), &tasks, "default-scheduler");
    while api.bindings.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut bound = api.bindings.lock().clone();
    bound.sort();
    assert_eq!(bound, ["a", "b"].map(|name| format!("/api/v1/namespaces/default/pods/{name}/binding")));
    assert_eq!((ledger.panics_of(PASS), ledger.panics_of("bind")), (1, 1));
    assert!(tasks.join(Duration::from_secs(5)).await);
}

#[test]
fn a_rebuilt_cache_counts_what_a_trial_had_taken_out() {
    use crate::testing::{bound, cache, node, sized};
    let mut cache = cache([node("n", json!({}))], [bound("a", "n", "1")]);
    let n = cache.find("n").unwrap();
    cache.assume(sized("b", "2"), n);
    let requested = |cache: &Cache| {
        let info = cache.info(cache.find("n").unwrap());
        (info.pods.len(), info.requested.clone())
    };
    let whole = requested(&cache);
    let victim = cache.info(n).pods[0].clone();
    cache.vacate(&victim, n);
    assert_ne!(requested(&cache), whole);
    let rebuilt = cache.rebuilt();
    assert_eq!(requested(&rebuilt), whole);
    assert!(rebuilt.is_assumed("b") && !rebuilt.is_assumed("a"));
}
