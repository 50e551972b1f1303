//! What the kubelet says of itself: its health, its configuration, and what runs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::StatusCode;
use kedge_cri::v1;
use serde_json::{Value, json};

use super::Server;
use super::query::Query;
use super::reply::{self, Reply};
use crate::runtime::labels;

/// Upstream waits twice as long as its loop may take.
const LATE: Duration = Duration::from_secs(120);

/// `/healthz`, or one of its checks.
pub(super) fn health(server: &Server, only: Option<&str>, query: &Query) -> Reply {
    let all = [("ping", Ok(())), ("log", Ok(())), ("syncloop", sync_loop(server))];
    let checks: Vec<_> = all.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if checks.is_empty() {
        return reply::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let failed = checks.iter().any(|(_, result)| result.is_err());
    if let (Some(name), false) = (only, failed) {
        let _ = name;
        return reply::text(StatusCode::OK, "ok");
    }
    let line = |(name, result): &(&str, Result<(), String>)| match result {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(why) if only.is_some() => format!("internal server error: {why}\n"),
        Err(_) => format!("[-]{name} failed: reason withheld\n"),
    };
    let told: String = checks.iter().map(line).collect();
    match (failed, only, query.flag("verbose")) {
        (true, None, _) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{told}healthz check failed\n")),
        (true, Some(_), _) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, told),
        (false, _, true) => reply::text(StatusCode::OK, format!("{told}healthz check passed\n")),
        (false, ..) => reply::text(StatusCode::OK, "ok"),
    }
}

/// Pods are looked at as long as the runtime is listed.
fn sync_loop(server: &Server) -> Result<(), String> {
    match server.kubelet.pleg.age() {
        Some(age) if age > LATE => Err("sync Loop took longer than expected".into()),
        _ => Ok(()),
    }
}

/// `/runningpods/`: what the runtime runs, whoever asked for it.
pub(super) async fn running(server: &Server) -> Reply {
    let containers = match server.kubelet.runtime.list_containers(HashMap::new()).await {
        Ok(containers) => containers,
        Err(error) => return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    reply::json(running_pods(&containers).to_string())
}

fn running_pods(containers: &[v1::Container]) -> Value {
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    let running = v1::ContainerState::ContainerRunning as i32;
    for container in containers.iter().filter(|container| container.state == running) {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let key = (label(labels::POD_NAMESPACE), label(labels::POD_NAME), label(labels::POD_UID));
        let image = container.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        pods.entry(key).or_default().push(json!({
            "name": label(labels::CONTAINER_NAME), "image": image, "resources": {}}));
    }
    let pod = |((namespace, name, uid), containers): ((String, String, String), Vec<Value>)| {
        json!({"metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"containers": containers}, "status": {}})
    };
    let items: Vec<Value> = pods.into_iter().filter(|((_, name, _), _)| !name.is_empty()).map(pod).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// `/configz`.
pub(super) fn configuration(server: &Server) -> Reply {
    reply::json(json!({ "kubeletconfig": server.kubelet.config.document() }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_by_pod() {
        let container = |name: &str, state: v1::ContainerState| v1::Container {
            state: state as i32,
            image: Some(v1::ImageSpec { image: "i:1".into(), ..Default::default() }),
            labels: HashMap::from([
                (labels::POD_NAMESPACE.to_owned(), "ns".to_owned()),
                (labels::POD_NAME.to_owned(), "p".to_owned()),
                (labels::POD_UID.to_owned(), "u".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), name.to_owned()),
            ]),
            ..Default::default()
        };
        let (running, exited) = (v1::ContainerState::ContainerRunning, v1::ContainerState::ContainerExited);
        let list = running_pods(&[container("a", running), container("b", exited), v1::Container::default()]);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(list["items"][0]["metadata"], json!({"name": "p", "namespace": "ns", "uid": "u"}));
        assert_eq!(list["items"][0]["spec"]["containers"], json!([{"name": "a", "image": "i:1", "resources": {}}]));
    }
}
