//! `/healthz`, `/livez`, `/readyz`.

use std::time::Duration;

use http::{Response, StatusCode};
use tracing::warn;

use crate::body::Body;
use crate::input::request_info::RequestInfo;
use crate::output::respond;
use crate::readiness::TASKS;
use crate::server::ApiServer;

/// How long the store may take to say that it is well.
const STORE: Duration = Duration::from_secs(3);

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
        checks.extend(server.readiness.checks().into_iter().map(|(name, holds)| Check::of(name, holds)));
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
