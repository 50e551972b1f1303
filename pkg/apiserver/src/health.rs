//! `/healthz`, `/livez`, `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use kedge_base::{Ledger, Trouble};
use parking_lot::RwLock;
use tracing::{error, info, warn};

use crate::body::Body;
use crate::input::request_info::RequestInfo;
use crate::output::respond;
use crate::server::ApiServer;

/// How long the store may take to say that it is well.
const STORE: Duration = Duration::from_secs(3);

/// The check that fails while a task of the server panics again and again.
pub const TASKS: &str = "tasks";

/// Named conditions that must all hold for the server to be ready.
#[derive(Clone)]
pub struct Readiness {
    checks: Arc<RwLock<BTreeMap<&'static str, bool>>>,
    ledger: Ledger,
    /// Whether the tasks were well when they were last looked at, so that a change is logged once.
    tasks_were_well: Arc<AtomicBool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::over(Ledger::process())
    }
}

impl Readiness {
    /// With the tasks that `ledger` knows of.
    pub fn over(ledger: Ledger) -> Self {
        Self { checks: Arc::default(), ledger, tasks_were_well: Arc::new(AtomicBool::new(true)) }
    }

    /// Declares a condition, or says whether it holds.
    pub fn set(&self, check: &'static str, holds: bool) {
        self.checks.write().insert(check, holds);
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.checks.read().values().all(|holds| *holds) && self.tasks().is_ok()
    }

    /// Where panics of requests are counted as well.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Why tasks do not do their work, if so: those that panicked too often of late.
    fn tasks(&self) -> Result<(), String> {
        let troubles = self.ledger.troubles();
        let well = troubles.is_empty();
        let text = |t: &Trouble| format!("{}/{} panicked {} times of late: {}", t.group, t.task, t.panics, t.message);
        let reason = troubles.iter().map(text).collect::<Vec<_>>().join("; ");
        match (self.tasks_were_well.swap(well, Ordering::Relaxed), well) {
            (true, false) => error!(reason, "the server is not ready: tasks panic again and again"),
            (false, true) => info!("tasks have been quiet for a while: the server is ready again"),
            _ => {}
        }
        if well { Ok(()) } else { Err(reason) }
    }
}

/// Whether a path is one of these.
pub(crate) fn is_health_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz")
}

/// A check and why it fails, for those who may know.
struct Check {
    name: &'static str,
    failure: Option<String>,
}

impl Check {
    fn of(name: &'static str, holds: bool) -> Self {
        Self { name, failure: (!holds).then(String::new) }
    }
}

/// The answer for one of these paths. `trusted` callers are told the reasons.
pub(crate) async fn handle(server: &ApiServer, info: &RequestInfo, trusted: bool) -> Response<Body> {
    let mut segments = info.path.trim_matches('/').split('/');
    let endpoint = segments.next().unwrap_or_default();
    // As upstream, the store counts for all three.
    let mut checks = vec![Check::of("ping", true), Check { name: "etcd", failure: store(server).await.err() }];
    if endpoint == "readyz" {
        checks.extend(server.readiness.checks.read().iter().map(|(name, holds)| Check::of(name, *holds)));
        checks.push(Check { name: TASKS, failure: server.readiness.tasks().err() });
        checks.push(Check::of("shutdown", !server.shutdown.is_requested()));
    }
    if let Some(only) = segments.next() {
        checks.retain(|check| check.name == only);
        if checks.is_empty() {
            return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    let excluded = |name: &str| info.query.iter().any(|(k, v)| k == "exclude" && v == name);
    checks.retain(|check| !excluded(check.name));
    let healthy = checks.iter().all(|check| check.failure.is_none());
    if healthy && !info.query.iter().any(|(k, _)| k == "verbose") {
        return respond::text(StatusCode::OK, "ok");
    }
    let mut report = String::new();
    for Check { name, failure } in checks {
        report.push_str(&match failure {
            None => format!("[+]{name} ok\n"),
            Some(reason) if trusted && !reason.is_empty() => format!("[-]{name} failed: {reason}\n"),
            Some(_) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    report.push_str(&format!("{endpoint} check {}\n", if healthy { "passed" } else { "failed" }));
    respond::text(if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, report)
}

async fn store(server: &ApiServer) -> Result<(), String> {
    let reason = match kedge_base::time::timeout(STORE, server.registry.health()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(err)) => err.to_string(),
        Err(_) => "it did not answer in time".to_owned(),
    };
    warn!(reason, "the store is not healthy");
    Err(reason)
}
