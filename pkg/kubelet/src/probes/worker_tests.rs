//! The state machine of a probe, against a status that the test sets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kedge_base::{Clock, Shutdown, TaskGroup, VirtualClock};
use kedge_client::{Body, BoxError, Client, EventRecorder, Transport};
use kedge_cri::fake::FakeRuntime;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::pod::testing::{pod, pod_with};

struct Nowhere;

#[async_trait::async_trait]
impl Transport for Nowhere {
    async fn send(&self, _request: http::Request<bytes::Bytes>) -> Result<http::Response<Body>, BoxError> {
        Err("nobody listens".into())
    }
}

struct Bench {
    worker: Worker,
    runtime: Arc<FakeRuntime>,
    status: Arc<Mutex<Option<PodStatus>>>,
    changes: Arc<Mutex<Vec<bool>>>,
    results: Arc<Results>,
    clock: VirtualClock,
}

fn bench(kind: ProbeKind, probe: Value) -> Bench {
    let clock = VirtualClock::new("2026-01-01T00:01:00Z".parse().unwrap());
    let tasks = TaskGroup::new("test", Shutdown::new());
    let shared: kedge_base::SharedClock = Arc::new(clock.clone());
    let runtime = Arc::new(FakeRuntime::default());
    let status: Arc<Mutex<Option<PodStatus>>> = Arc::default();
    let changes: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (told, seen) = (changes.clone(), status.clone());
    let client = Client::new(Arc::new(Nowhere));
    let context = ProbeContext {
        recorder: EventRecorder::new(&client, shared.clone(), &tasks, "test", ""),
        clock: shared,
        runtime: runtime.clone(),
        status: Arc::new(move |_| seen.lock().clone()),
        changed: Arc::new(move |change| told.lock().push(change.success)),
    };
    let pod = pod(json!({"containers": [{"name": "a", "livenessProbe": probe}]}));
    let container = pod.container("a").unwrap();
    let results: Arc<Results> = Arc::default();
    let probe = container.liveness_probe.clone().unwrap();
    let worker = Worker::new(Arc::new(context), results.clone(), &pod, &container, kind, &probe);
    Bench { worker, runtime, status, changes, results, clock }
}

fn set_status(bench: &Bench, id: &str, state: Value, started: bool) {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": state, "ready": false,
        "image": "", "imageID": "", "restartCount": 0, "containerID": format!("c://{id}"), "started": started}]});
    *bench.status.lock() = pod_with(json!({}), json!({"containers": []}), status).status;
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

#[tokio::test]
async fn liveness_fails_after_enough_failures_and_holds_until_a_new_container() {
    let mut bench =
        bench(ProbeKind::Liveness, json!({"tcpSocket": {"port": 1, "host": "127.0.0.1"}, "failureThreshold": 2}));
    assert!(bench.worker.round().await, "no status yet");
    set_status(&bench, "1", running(), true);
    assert!(bench.worker.round().await);
    assert_eq!(bench.results.get(ProbeKind::Liveness, "1"), Some(true), "good until it is known better");
    assert!(bench.worker.round().await);
    assert_eq!(bench.results.get(ProbeKind::Liveness, "1"), Some(false));
    assert!(bench.worker.round().await);
    assert_eq!(*bench.changes.lock(), [false], "told once, then on hold");
    set_status(&bench, "2", running(), true);
    assert!(bench.worker.round().await);
    assert_eq!(bench.results.get(ProbeKind::Liveness, "2"), Some(true));
    assert_eq!(bench.results.get(ProbeKind::Liveness, "1"), None);
}

#[tokio::test]
async fn readiness_waits_for_the_start_and_the_delay() {
    let probe = json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 90});
    let mut bench = bench(ProbeKind::Readiness, probe);
    set_status(&bench, "1", running(), false);
    bench.worker.round().await;
    bench.clock.advance(Duration::from_secs(60));
    bench.worker.round().await;
    assert_eq!(bench.results.get(ProbeKind::Readiness, "1"), Some(false), "not started");
    set_status(&bench, "1", running(), true);
    bench.worker.round().await;
    assert_eq!(bench.results.get(ProbeKind::Readiness, "1"), Some(true));
    set_status(&bench, "1", json!({"waiting": {}}), false);
    bench.worker.round().await;
    assert_eq!(*bench.changes.lock(), [true, false], "what does not run is not ready");
}

#[tokio::test]
async fn startup_succeeds_once() {
    let mut bench = bench(ProbeKind::Startup, json!({"exec": {"command": ["true"]}}));
    set_status(&bench, "1", running(), false);
    bench.worker.round().await;
    assert_eq!(*bench.changes.lock(), [true]);
    bench.runtime.fail("ExecSync", "broken");
    let before = bench.runtime.calls().len();
    bench.worker.round().await;
    assert_eq!(bench.runtime.calls().len(), before, "on hold");
}

#[tokio::test]
async fn a_probe_that_cannot_be_run_changes_nothing_and_the_end_ends_it() {
    let mut bench = bench(ProbeKind::Liveness, json!({"exec": {"command": ["true"]}, "failureThreshold": 1}));
    bench.runtime.fail("ExecSync", "broken");
    set_status(&bench, "1", running(), true);
    assert!(bench.worker.round().await);
    assert_eq!(bench.runtime.calls().len(), ATTEMPTS);
    assert!(bench.changes.lock().is_empty());
    bench.status.lock().as_mut().unwrap().phase = Some("Failed".into());
    assert!(!bench.worker.round().await);
    let _ = bench.clock.now();
}

#[test]
fn thresholds_count_in_a_row() {
    let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
    let mut counter = Counter::default();
    let got: Vec<Option<bool>> =
        [true, true, false, false, true, false, false, false].map(|r| counter.count(r, &probe)).into();
    let want = [None, Some(true), None, None, None, None, None, Some(false)];
    assert_eq!(got, want);
}
