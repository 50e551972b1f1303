//! `/healthz`, `/livez`, `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use parking_lot::RwLock;
use tracing::warn;

use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::respond;
use crate::server::ApiServer;

/// How long the store may take to say that it is well.
const STORE: Duration = Duration::from_secs(3);

/// Named conditions that must all hold for the server to be ready.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<RwLock<BTreeMap<&'static str, bool>>>,
}

impl Readiness {
    /// Declares a condition, or says whether it holds.
    pub fn set(&self, check: &'static str, holds: bool) {
        self.checks.write().insert(check, holds);
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.checks.read().values().all(|holds| *holds)
    }
}

/// Whether a path is one of these.
pub(crate) fn is_health_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz")
}

/// The answer for one of these paths.
pub(crate) async fn handle(server: &ApiServer, info: &RequestInfo) -> Response<Body> {
    let mut segments = info.path.trim_matches('/').split('/');
    let endpoint = segments.next().unwrap_or_default();
    let mut checks = vec![("ping", true)];
    // As upstream, the store counts for all three.
    let answered = kedge_base::time::timeout(STORE, server.registry.health()).await;
    let healthy = match answered {
        Ok(Ok(())) => true,
        Ok(Err(err)) => {
            warn!(error = %err, "the store is not healthy");
            false
        }
        Err(_) => {
            warn!("the store did not answer in time");
            false
        }
    };
    checks.push(("etcd", healthy));
    if endpoint == "readyz" {
        checks.extend(server.readiness.checks.read().iter().map(|(name, holds)| (*name, *holds)));
        checks.push(("shutdown", !server.shutdown.is_requested()));
    }
    if let Some(only) = segments.next() {
        checks.retain(|(name, _)| *name == only);
        if checks.is_empty() {
            return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    let excluded = |name: &str| info.query.iter().any(|(k, v)| k == "exclude" && v == name);
    checks.retain(|(name, _)| !excluded(name));
    let healthy = checks.iter().all(|(_, holds)| *holds);
    if healthy && !info.query.iter().any(|(k, _)| k == "verbose") {
        return respond::text(StatusCode::OK, "ok");
    }
    let mut report = String::new();
    for (name, holds) in checks {
        report.push_str(&if holds {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        });
    }
    report.push_str(&format!("{endpoint} check {}\n", if healthy { "passed" } else { "failed" }));
    respond::text(if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, report)
}
