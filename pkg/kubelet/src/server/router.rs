//! From a request's path to its handler.

use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tracing::{debug, warn};

use super::access::Identity;
use super::query::Query;
use super::reply::{self, Reply};
use super::{Server, about, checkpoint, host_logs, local_volumes, logs, metrics, streams};
use crate::pod::RawPod;
use crate::stats::{self, AllGroups, Snapshot};

/// A container or pod named by a path.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Empty when the path does not say.
    pub(super) uid: String,
    pub(super) container: String,
}

/// Serves one request.
pub(super) async fn handle(server: &Server, identity: Option<&Identity>, request: Request<Incoming>) -> Reply {
    let (client, node) = (&server.kubelet.config.client, &server.kubelet.config.node_name);
    let by_token;
    let identity = match identity {
        Some(identity) => identity,
        None => match server.tokens.identify(client, request.headers()).await {
            Ok(Some(identity)) => {
                by_token = identity;
                &by_token
            }
            Ok(None) => return reply::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(error) => {
                warn!(error, "cannot find out whose token came with a request to the kubelet");
                return reply::text(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
        },
    };
    let path = request.uri().path().to_string();
    if let Err(refusal) = server.decisions.authorize(client, node, identity, request.method(), &path).await {
        debug!(user = identity.name, path, "request to the kubelet refused");
        return reply::text(StatusCode::FORBIDDEN, refusal);
    }
    let decoded: Vec<String> =
        path.split('/').skip(1).map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned()).collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query());
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let stream = get || *request.method() == Method::POST;
    match parts.as_slice() {
        ["healthz"] | ["healthz", ""] if get => about::health(server, None, &query),
        ["healthz", check] if get => about::health(server, Some(check), &query),
        ["configz"] if get => about::configuration(server),
        ["pods"] | ["pods", ""] if get => pods(server),
        ["runningpods"] | ["runningpods", ""] if get => about::running(server).await,
        ["stats", "summary"] if get => summary(server, query.flag("only_cpu_and_memory")).await,
        ["metrics"] if get => metrics::own(server).await,
        ["metrics", "probes"] if get => metrics::probes(server),
        ["metrics", "cadvisor"] if get => cadvisor(server).await,
        ["logs", rest @ ..] if get => host_logs::serve(server, rest).await,
        ["checkpoint", namespace, pod, container] if *request.method() == Method::POST => {
            checkpoint::serve(server, &place(namespace, pod, "", container), &query).await
        }
        ["run", rest @ ..] if *request.method() == Method::POST => match pod_place(rest, true) {
            Some(place) => streams::run(server, &place, &query).await,
            None => not_found(),
        },
        ["metrics", "resource"] if get => resource_metrics(server).await,
        ["containerLogs", namespace, pod, container] if get => {
            logs::serve(server, &place(namespace, pod, "", container), &query).await
        }
        ["kedge", "v1", "local-volumes"] => local_volumes::serve(server, request.method(), &query).await,
        ["exec", rest @ ..] if stream => match pod_place(rest, true) {
            Some(place) => streams::exec(server, place, &query, request).await,
            None => not_found(),
        },
        ["attach", rest @ ..] if stream => match pod_place(rest, true) {
            Some(place) => streams::attach(server, place, &query, request).await,
            None => not_found(),
        },
        ["portForward", rest @ ..] if stream => match pod_place(rest, false) {
            Some(place) => streams::port_forward(server, place, request).await,
            None => not_found(),
        },
        _ => not_found(),
    }
}

/// The part of a path that is counted: not what names something.
pub(super) fn known(path: &str) -> &'static str {
    const METRICS: [&str; 4] = ["metrics/cadvisor", "metrics/probes", "metrics/resource", "metrics"];
    const FIRST: [&str; 14] = [
        "attach",
        "checkpoint",
        "configz",
        "containerLogs",
        "debug",
        "exec",
        "healthz",
        "logs",
        "pods",
        "portForward",
        "run",
        "runningpods",
        "stats",
        "statusz",
    ];
    let path = path.trim_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    let exact = METRICS.into_iter().find(|known| *known == path);
    exact.or_else(|| FIRST.into_iter().find(|known| *known == first)).unwrap_or("other")
}

fn not_found() -> Reply {
    reply::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn place(namespace: &str, pod: &str, uid: &str, container: &str) -> Place {
    Place { namespace: namespace.into(), pod: pod.into(), uid: uid.into(), container: container.into() }
}

/// `<namespace>/<pod>[/<uid>][/<container>]`.
fn pod_place(parts: &[&str], with_container: bool) -> Option<Place> {
    match (parts, with_container) {
        ([namespace, pod, container], true) => Some(place(namespace, pod, "", container)),
        ([namespace, pod, uid, container], true) => Some(place(namespace, pod, uid, container)),
        ([namespace, pod], false) => Some(place(namespace, pod, "", "")),
        ([namespace, pod, uid], false) => Some(place(namespace, pod, uid, "")),
        _ => None,
    }
}

/// The summary, and how long the time is that its rates are about.
async fn summary(server: &Server, short: bool) -> Reply {
    let kubelet = &server.kubelet;
    match server.rates.measure(|| Snapshot::read(kubelet)).await {
        Ok((snapshot, rates)) => {
            let mut summary = stats::summary(&kubelet.config.node_name, &snapshot, &rates);
            if !short && let Err(error) = stats::complete(kubelet, &mut summary).await {
                return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
            }
            let mut reply = reply::json(summary.to_string());
            if let Ok(window) = HeaderValue::from_str(&rates.window.as_nanos().to_string()) {
                reply.headers_mut().insert(kedge_meta::USAGE_WINDOW, window);
            }
            reply
        }
        Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn resource_metrics(server: &Server) -> Reply {
    let kubelet = &server.kubelet;
    let read = Snapshot::read(kubelet).await.inspect_err(|error| warn!(%error, "resource metrics are incomplete"));
    reply::metrics(stats::exposition(read.ok().as_ref()))
}

async fn cadvisor(server: &Server) -> Reply {
    let kubelet = &server.kubelet;
    let read = AllGroups::read(kubelet).await.inspect_err(|error| warn!(%error, "containers' metrics are incomplete"));
    reply::metrics(stats::cadvisor(read.ok().as_ref(), &server.machine, &kubelet.config.version))
}

fn pods(server: &Server) -> Reply {
    let items: Vec<String> = server.kubelet.pods.list().iter().map(|pod| with_status(server, pod)).collect();
    reply::json(format!(
        "{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"items\":[{}]}}",
        items.join(",")
    ))
}

/// The pod as the API has it; of a static one nobody else may know how it is.
fn with_status(server: &Server, pod: &RawPod) -> String {
    let known = || {
        let status = server.kubelet.statuses.get(&pod.metadata.uid).filter(|_| pod.is_static())?;
        let mut value: Value = serde_json::from_str(pod.json()).ok()?;
        value["status"] = kedge_types::encode_pod_status(&status).ok()?;
        Some(value.to_string())
    };
    known().unwrap_or_else(|| pod.json().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_uid_may_be_left_out() {
        let with = pod_place(&["n", "p", "u", "c"], true).unwrap();
        assert_eq!((with.uid.as_str(), with.container.as_str()), ("u", "c"));
        let without = pod_place(&["n", "p", "c"], true).unwrap();
        assert_eq!((without.uid.as_str(), without.container.as_str()), ("", "c"));
        assert_eq!(pod_place(&["n", "p"], false).unwrap().pod, "p");
        assert!(pod_place(&["n"], true).is_none());
    }
}
