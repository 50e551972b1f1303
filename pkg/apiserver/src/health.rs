//! `/healthz`, `/livez`, `/readyz`: whether the server is well, for everybody; single checks and why they fail, for those who may.

use std::time::Duration;

use http::{Response, StatusCode};
use tracing::{debug, warn};

use crate::body::Body;
use crate::input::request_info::RequestInfo;
use crate::output::respond;
use crate::readiness::TASKS;
use crate::server::ApiServer;

/// How long the store may take to say that it is well.
const STORE: Duration = Duration::from_secs(3);
const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];
/// A condition of being ready alone.
const INFORMERS: &str = "informer-sync";
/// What a condition that has been declared and does not hold is, in upstream's words.
const NOT_FINISHED: &str = "not finished";

/// What a path is of the server's health: the endpoint, and the single check if it names one.
pub(crate) fn asked(path: &str) -> Option<(&'static str, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let (first, check) = path.split_once('/').map_or((path, None), |(first, check)| (first, Some(check)));
    ENDPOINTS.into_iter().find(|endpoint| *endpoint == first).map(|endpoint| (endpoint, check))
}

/// A check and why it fails.
struct Check {
    name: &'static str,
    failure: Option<String>,
}

/// The checks of an endpoint, in upstream's order. As upstream, the store and what is done at start count for all three.
async fn checks(server: &ApiServer, endpoint: &str) -> Vec<Check> {
    let ready = endpoint == "readyz";
    let store = store(server).await.err();
    let mut checks = vec![Check { name: "ping", failure: None }, Check { name: "etcd", failure: store.clone() }];
    if ready {
        checks.push(Check { name: "etcd-readiness", failure: store });
    }
    let failing = |holds: bool| (!holds).then(|| NOT_FINISHED.to_owned());
    let declared = server.readiness.checks().into_iter().filter(|(name, _)| ready || *name != INFORMERS);
    checks.extend(declared.map(|(name, holds)| Check { name, failure: failing(holds) }));
    if ready {
        checks.push(Check { name: TASKS, failure: server.readiness.tasks().err() });
        let ending = server.shutdown.is_requested();
        checks.push(Check { name: "shutdown", failure: ending.then(|| "process is shutting down".to_owned()) });
    }
    checks
}

/// The paths of all checks, for the list of paths.
pub(crate) fn paths(server: &ApiServer) -> Vec<String> {
    let declared: Vec<_> = server.readiness.checks().into_iter().map(|(name, _)| name).collect();
    let path = |endpoint: &str, check: &str| format!("/{endpoint}/{check}");
    let of = |endpoint: &'static str| {
        let own: &[&str] = if endpoint == "readyz" {
            &["ping", "etcd", "etcd-readiness", TASKS, "shutdown"]
        } else {
            &["ping", "etcd"]
        };
        let declared = declared.iter().filter(move |name| endpoint == "readyz" || **name != INFORMERS);
        own.iter()
            .chain(declared)
            .map(|check| path(endpoint, check))
            .chain([format!("/{endpoint}")])
            .collect::<Vec<_>>()
    };
    ENDPOINTS.into_iter().flat_map(of).collect()
}

/// The answer of an endpoint: of a single check, or of all but those that the client leaves out.
pub(crate) async fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    (endpoint, single): (&'static str, Option<&str>),
) -> Response<Body> {
    let checks = checks(server, endpoint).await;
    if let Some(single) = single {
        return match checks.into_iter().find(|check| check.name == single) {
            None => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Some(Check { failure: None, .. }) => respond::page(StatusCode::OK, "ok"),
            Some(Check { failure: Some(why), .. }) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        };
    }
    let mut excluded: Vec<&str> = info.params("exclude").collect();
    excluded.sort_unstable();
    excluded.dedup();
    let (mut report, mut healthy) = (String::new(), true);
    for Check { name, failure } in checks {
        if let Some(at) = excluded.iter().position(|excluded| *excluded == name) {
            excluded.remove(at);
            report.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        server.indicators.count(name, endpoint, failure.is_none());
        match failure {
            None => report.push_str(&format!("[+]{name} ok\n")),
            Some(why) => {
                debug!(endpoint, check = name, why, "a check of the server's health fails");
                healthy = false;
                report.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if !excluded.is_empty() {
        let quoted: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = quoted.join(", ");
        report.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if !healthy {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{endpoint} check failed\n"));
    }
    let verbose = info.query.iter().any(|(name, _)| name == "verbose");
    respond::text(StatusCode::OK, if verbose { format!("{report}{endpoint} check passed\n") } else { "ok".to_owned() })
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
