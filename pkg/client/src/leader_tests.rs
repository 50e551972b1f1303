//! At most one leads, also while the API hangs; time is virtual.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kedge_base::{Shutdown, VirtualClock};
use parking_lot::Mutex;

use super::*;
use crate::{Body, BoxError, Transport};

/// An API with one lease.
#[derive(Default)]
struct Api {
    lease: Mutex<Option<(u64, Value)>>,
}

/// A way to it that can be cut.
struct Link {
    api: Arc<Api>,
    cut: Arc<AtomicBool>,
    /// Whoever asks panics.
    broken: Arc<AtomicBool>,
}

#[async_trait]
impl Transport for Link {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.broken.load(Ordering::SeqCst), "on purpose");
        let mut lease = self.api.lease.lock();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let failure = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason}))
        };
        let (code, answer) = match (request.method(), lease.as_mut()) {
            (&Method::GET, Some((_, lease))) => (200, lease.clone()),
            (&Method::GET, None) => failure(404, "NotFound"),
            (&Method::POST, Some(_)) => failure(409, "AlreadyExists"),
            (&Method::POST, None) => (201, put(&mut lease, 1, body)),
            (_, Some((version, _))) if body["metadata"]["resourceVersion"].as_str() != Some(&*version.to_string()) => {
                failure(409, "Conflict")
            }
            (_, Some((version, _))) => {
                let next = *version + 1;
                (200, put(&mut lease, next, body))
            }
            _ => failure(404, "NotFound"),
        };
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| -> BoxError { match never {} });
        Ok(Response::builder().status(code).body(body.boxed_unsync()).unwrap())
    }
}

fn put(lease: &mut Option<(u64, Value)>, version: u64, mut body: Value) -> Value {
    body["metadata"]["resourceVersion"] = json!(version.to_string());
    *lease = Some((version, body.clone()));
    body
}

struct Host {
    leading: Arc<AtomicBool>,
    terms: Arc<AtomicUsize>,
    cut: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    tasks: TaskGroup,
}

fn host(name: &str, api: &Arc<Api>, clock: &VirtualClock) -> Host {
    let cut = Arc::new(AtomicBool::new(false));
    let broken = Arc::new(AtomicBool::new(false));
    let client = Client::new(Arc::new(Link { api: api.clone(), cut: cut.clone(), broken: broken.clone() }));
    let candidate = Candidate::new(client, Arc::new(clock.clone()), "kube-scheduler", name);
    let ledger = kedge_base::Ledger::new(Arc::new(clock.clone()));
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger);
    let (leading, terms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let host = Host { leading: leading.clone(), terms: terms.clone(), cut, broken, tasks: tasks.clone() };
    let run = candidate.run(tasks.clone(), move |group| {
        leading.store(true, Ordering::SeqCst);
        terms.fetch_add(1, Ordering::SeqCst);
        let (leading, shutdown) = (leading.clone(), group.shutdown().clone());
        group.spawn("work", async move {
            shutdown.requested().await;
            leading.store(false, Ordering::SeqCst);
        });
    });
    tasks.spawn("candidate", run);
    host
}

impl Host {
    fn leads(&self) -> bool {
        self.leading.load(Ordering::SeqCst)
    }
}

/// Lets tasks do what they can, then moves time by small steps; `check` holds all the time.
async fn pass(clock: &VirtualClock, seconds: u64, mut check: impl FnMut()) {
    for _ in 0..seconds * 4 {
        clock.advance(Duration::from_millis(250));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        check();
    }
}

#[tokio::test]
async fn one_leads_and_another_takes_over_when_it_falls_silent() {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let api = Arc::new(Api::default());
    let (a, b) = (host("a", &api, &clock), host("b", &api, &clock));
    let never_both = || assert!(!(a.leads() && b.leads()), "two lead");
    pass(&clock, 60, never_both).await;
    assert!(a.leads() || b.leads());
    let (first, second) = if a.leads() { (&a, &b) } else { (&b, &a) };
    // Its requests hang from now on: it stops by itself before the other may start.
    first.cut.store(true, Ordering::SeqCst);
    pass(&clock, 11, never_both).await;
    assert!(!first.leads(), "a leader that cannot renew has stopped within the renew deadline");
    pass(&clock, 20, never_both).await;
    assert!(second.leads());
    // The first one comes back and waits its turn.
    first.cut.store(false, Ordering::SeqCst);
    pass(&clock, 60, never_both).await;
    assert!(second.leads() && !first.leads());
    assert_eq!(first.terms.load(Ordering::SeqCst) + second.terms.load(Ordering::SeqCst), 2);
    let lease = api.lease.lock().clone().unwrap().1;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_panic_of_the_election_stops_the_work_and_the_candidate_stands_again() {
    // A candidate that panicked once was gone, and its work went on without a lease.
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let api = Arc::new(Api::default());
    let a = host("a", &api, &clock);
    pass(&clock, 5, || {}).await;
    assert!(a.leads());
    a.broken.store(true, Ordering::SeqCst);
    pass(&clock, 5, || {}).await;
    assert!(!a.leads() && a.tasks.ledger().panics_of(TASK) >= 1);
    a.broken.store(false, Ordering::SeqCst);
    pass(&clock, 10, || {}).await;
    assert!(a.leads());
    assert_eq!(a.terms.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_soon() {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let api = Arc::new(Api::default());
    let a = host("a", &api, &clock);
    pass(&clock, 5, || {}).await;
    assert!(a.leads());
    let b = host("b", &api, &clock);
    a.tasks.shutdown().trigger();
    pass(&clock, 6, || assert!(!(a.leads() && b.leads()))).await;
    assert!(b.leads() && !a.leads());
}

#[tokio::test]
async fn nobody_follows_while_the_work_still_ends() {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let api = Arc::new(Api::default());
    let link = Link { api: api.clone(), cut: Arc::default(), broken: Arc::default() };
    let candidate = Candidate::new(Client::new(Arc::new(link)), Arc::new(clock.clone()), "kube-scheduler", "a");
    let tasks = TaskGroup::new("test", Shutdown::new());
    let (working, last_step) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
    let (started, step) = (working.clone(), last_step.clone());
    let run = candidate.run(tasks.clone(), move |group| {
        started.store(true, Ordering::SeqCst);
        let (working, step, shutdown) = (started.clone(), step.clone(), group.shutdown().clone());
        group.spawn("work", async move {
            shutdown.requested().await;
            step.notified().await;
            working.store(false, Ordering::SeqCst);
        });
    });
    tasks.spawn("candidate", run);
    pass(&clock, 5, || {}).await;
    assert!(working.load(Ordering::SeqCst));
    tasks.shutdown().trigger();
    let holder = || api.lease.lock().clone().unwrap().1["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    pass(&clock, 1, || assert!(!holder().is_empty(), "given back while its work goes on")).await;
    last_step.notify_one();
    assert!(tasks.join(Duration::from_secs(60)).await);
    assert!(!working.load(Ordering::SeqCst));
}
