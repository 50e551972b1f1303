//! Tests of the recorder against a server that remembers what it was sent.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::transport::{Body, BoxError, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kedge_base::{Ledger, Shutdown, VirtualClock, system_clock};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Events by path, and the requests so far.
#[derive(Default)]
struct Server {
    events: Mutex<BTreeMap<String, Value>>,
    /// Requests that get no answer.
    deaf: Mutex<usize>,
    /// The request about the object of this name panics.
    poison: Mutex<Option<&'static str>>,
    requests: watch::Sender<usize>,
}

impl Server {
    fn answer(&self, request: &Request<Bytes>) -> Option<(StatusCode, Value)> {
        let mut deaf = self.deaf.lock();
        if *deaf > 0 {
            *deaf -= 1;
            return None;
        }
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        let poison = *self.poison.lock();
        assert!(poison.is_none_or(|name| sent["involvedObject"]["name"] != name), "on purpose");
        let mut events = self.events.lock();
        let path = request.uri().path().to_owned();
        if request.method() == Method::POST {
            let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
            assert!(events.insert(path, sent.clone()).is_none(), "a name of its own: {sent}");
            return Some((StatusCode::CREATED, sent));
        }
        let Some(event) = events.get_mut(&path) else {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
            return Some((StatusCode::NOT_FOUND, status));
        };
        event.as_object_mut().unwrap().extend(sent.as_object().unwrap().clone());
        Some((StatusCode::OK, event.clone()))
    }

    fn all(&self) -> Vec<Value> {
        self.events.lock().values().cloned().collect()
    }
}

struct InProcess(Arc<Server>);

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let answer = self.0.answer(&request);
        self.0.requests.send_modify(|n| *n += 1);
        let (status, value) = answer.ok_or("nobody listens")?;
        let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder().status(status).body(body)?)
    }
}

struct Recording {
    server: Arc<Server>,
    clock: Arc<VirtualClock>,
    recorder: EventRecorder,
    tasks: TaskGroup,
}

fn start() -> Recording {
    let server = Arc::<Server>::default();
    let clock = Arc::new(VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), Ledger::new(system_clock()));
    let client = Client::new(Arc::new(InProcess(server.clone())));
    let recorder = EventRecorder::new(&client, clock.clone(), &tasks, "kubelet", "n1");
    Recording { server, clock, recorder, tasks }
}

impl Recording {
    fn record(&self, name: &str, message: &str) {
        let object = ObjectReference { kind: "Pod".into(), name: name.into(), ..ObjectReference::default() };
        self.recorder.event(&object, EventType::Warning, "Failed", message);
    }

    async fn requests(&self, count: usize) {
        self.server.requests.subscribe().wait_for(|n| *n >= count).await.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_event_is_patched_and_one_that_is_gone_begins_again() {
    let r = start();
    r.record("p", "m");
    r.requests(1).await;
    r.clock.advance(Duration::from_secs(7));
    r.record("p", "m");
    r.requests(2).await;
    let all = r.server.all();
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["count"], &all[0]["firstTimestamp"]), (&json!(2), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(all[0]["lastTimestamp"], "2026-01-01T00:00:07Z");
    r.server.events.lock().clear();
    r.record("p", "m");
    r.requests(4).await;
    assert_eq!(r.server.all()[0]["count"], 3);
    r.tasks.shutdown().trigger();
}

/// Regression: a recorder wrote one event after the other, and whatever came meanwhile was lost beyond its queue.
#[tokio::test]
async fn a_burst_about_many_objects_loses_nothing() {
    const MANY: usize = 2_000;
    let r = start();
    for i in 0..MANY {
        r.record(&format!("p{i}"), "m");
    }
    r.requests(MANY).await;
    assert_eq!(r.server.all().len(), MANY);
    r.tasks.shutdown().trigger();
}

#[tokio::test]
async fn an_event_waits_for_a_server_that_does_not_answer() {
    let r = start();
    *r.server.deaf.lock() = 2;
    r.record("p", "m");
    for tries in 1..=2 {
        r.requests(tries).await;
        while r.clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        r.clock.advance(BETWEEN_TRIES);
    }
    r.requests(3).await;
    assert_eq!(r.server.all().len(), 1);
    r.tasks.shutdown().trigger();
}

#[tokio::test]
async fn an_event_that_panics_is_counted_and_those_behind_it_are_written() {
    let r = start();
    // With more objects than there are writers, the one that panics has others behind it.
    *r.server.poison.lock() = Some("poison");
    r.record("poison", "m");
    for i in 0..4 * LANES {
        r.record(&format!("p{i}"), "m");
    }
    r.requests(4 * LANES).await;
    assert_eq!((r.server.all().len(), r.tasks.ledger().panics_of(TASK)), (4 * LANES, 1));
    // Its object is not cut off: what is recorded of it later is written.
    *r.server.poison.lock() = None;
    r.record("poison", "another");
    r.requests(4 * LANES + 1).await;
    assert_eq!((r.server.all().len(), r.tasks.len()), (4 * LANES + 1, LANES), "every writer still runs");
    assert!(r.tasks.join(Duration::from_secs(5)).await);
}
