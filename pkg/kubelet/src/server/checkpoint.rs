//! `/checkpoint`: a container written to a file as it is at the moment, where the runtime can.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::Server;
use super::query::Query;
use super::reply::{self, Reply};
use super::router::Place;
use crate::pod::PodExt;

/// Checkpoints are kept below the kubelet's directory, as upstream has it.
const DIRECTORY: &str = "checkpoints";

pub(super) async fn serve(server: &Server, place: &Place, query: &Query) -> Reply {
    let kubelet = &server.kubelet;
    let Some(pod) = kubelet.pods.get(&place.namespace, &place.pod).and_then(|raw| raw.decode().ok()) else {
        return reply::text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let name = &place.container;
    if !pod.has_container(name) {
        return reply::text(StatusCode::NOT_FOUND, format!("container {name} does not exist"));
    }
    let timeout = match query.all("timeout").last().map(|text| text.parse::<u64>()) {
        None => Duration::ZERO,
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) => return reply::text(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter"),
    };
    let failed = |why: String| {
        let place = format!("{}/{}/{name}", place.namespace, place.pod);
        reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("checkpointing of {place} failed ({why})"))
    };
    let id = match kubelet.observe(pod.uid()).await {
        Ok(runtime) => runtime.running().find(|run| run.name == *name).map(|run| run.id.clone()),
        Err(error) => return failed(error.to_string()),
    };
    let Some(id) = id else { return failed(format!("container {name:?} not found in pod {:?}", pod.name())) };
    let directory = kubelet.config.root_dir.join(DIRECTORY);
    let time = kedge_base::time::rfc3339(kubelet.clock.now());
    let file = directory.join(format!("checkpoint-{}_{}-{name}-{time}.tar", pod.name(), pod.namespace()));
    let make = {
        let directory = directory.clone();
        move || std::fs::create_dir_all(directory)
    };
    match kubelet.files.of_path("make", &directory, make).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return failed(error.to_string()),
        Err(error) => return failed(error.to_string()),
    }
    let location = file.display().to_string();
    match kubelet.runtime.checkpoint_container(&id, &location, timeout).await {
        Ok(()) => reply::json(json!({ "items": [location] }).to_string()),
        Err(error) => failed(error.to_string()),
    }
}
