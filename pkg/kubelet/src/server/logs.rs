//! `/containerLogs`: which attempt of a container is meant, and its log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};
use kedge_base::{BoxFuture, time};
use kedge_cri::v1;
use tokio::sync::mpsc;
use tracing::debug;

use super::Server;
use super::query::Query;
use super::reply::{self, Reply};
use super::router::Place;
use crate::logs::{LogOptions, LogStreams, follow_log};
use crate::pod::PodExt;

/// Parts of a log that wait for a slow reader.
const WAITING: usize = 64;

pub(super) async fn serve(server: &Server, place: &Place, query: &Query) -> Reply {
    match open(server, place, query).await {
        Ok(receiver) => reply::streamed(receiver),
        Err((status, message)) => reply::text(status, message),
    }
}

type Refusal = (StatusCode, String);

async fn open(server: &Server, place: &Place, query: &Query) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let kubelet = &server.kubelet;
    let options = options(query, kubelet.clock.now())?;
    let missing = || (StatusCode::NOT_FOUND, format!("pod {:?} does not exist", place.pod));
    let raw = kubelet.pods.get(&place.namespace, &place.pod).ok_or_else(missing)?;
    let pod = raw.decode().map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    if !pod.has_container(&place.container) {
        let message = format!("container {:?} not found in pod {:?}", place.container, place.pod);
        return Err((StatusCode::NOT_FOUND, message));
    }
    let status = kubelet.statuses.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
    let id = container_id(&place.pod, &status, &place.container, query.flag("previous"))
        .map_err(|message| (StatusCode::BAD_REQUEST, message))?;
    let path = log_path(server, &id).await?;
    if !tokio::fs::try_exists(&path).await.unwrap_or_default() {
        let message =
            format!("failed to try resolving symlinks in path {:?}: no such file", path.display().to_string());
        return Err((StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    let (runtime, clock) = (kubelet.runtime.clone(), kubelet.clock.clone());
    server.tasks.spawn_until_shutdown("container-log", async move {
        let asked = Arc::new((runtime, id));
        let running = move || -> BoxFuture<'static, bool> {
            let asked = asked.clone();
            Box::pin(async move {
                let answer = asked.0.container_status(&asked.1, false).await;
                let state = answer.ok().and_then(|a| a.status).map(|s| s.state);
                state == Some(v1::ContainerState::ContainerRunning as i32)
            })
        };
        if let Err(error) = follow_log(&path, &options, &clock, &running, &sender).await {
            debug!(path = %path.display(), %error, "log ended early");
        }
    });
    Ok(receiver)
}

async fn log_path(server: &Server, id: &str) -> Result<PathBuf, Refusal> {
    let fail = |message: String| (StatusCode::INTERNAL_SERVER_ERROR, message);
    let answer = server.kubelet.runtime.container_status(id, false).await;
    let answer = answer.map_err(|error| match error.is_not_found() {
        true => fail(format!("unable to retrieve container logs for containerd://{id}")),
        false => fail(format!("failed to get container status {id:?}: {error}")),
    })?;
    Ok(PathBuf::from(answer.status.unwrap_or_default().log_path))
}

fn options(query: &Query, now: jiff::Timestamp) -> Result<LogOptions, Refusal> {
    let bad = || (StatusCode::BAD_REQUEST, "{\"message\": \"Unable to decode query.\"}".to_string());
    let invalid = || (StatusCode::UNPROCESSABLE_ENTITY, "{\"message\": \"Invalid request.\"}".to_string());
    let unsigned = |name: &str, least: i64| -> Result<Option<u64>, Refusal> {
        match query.number(name).map_err(|_| bad())? {
            Some(number) if number < least => Err(invalid()),
            number => Ok(number.and_then(|n| u64::try_from(n).ok())),
        }
    };
    let tail = match query.get("tail") {
        Some("all") => None,
        Some(_) => unsigned("tail", 0)?,
        None => unsigned("tailLines", 0)?,
    };
    let seconds = unsigned("sinceSeconds", 1)?;
    let at = query.get("sinceTime").map(time::parse).transpose().map_err(|_| bad())?;
    if seconds.is_some() && at.is_some() {
        return Err(invalid());
    }
    let ago = seconds.and_then(|s| now.checked_sub(Duration::from_secs(s)).ok());
    let streams = match query.get("stream") {
        None | Some("All") => LogStreams::All,
        Some("Stdout") => LogStreams::Stdout,
        Some("Stderr") => LogStreams::Stderr,
        Some(other) => return Err((StatusCode::BAD_REQUEST, format!("invalid stream type {other:?}"))),
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        tail_lines: tail,
        since: at.or(ago),
        limit_bytes: unsigned("limitBytes", 1)?,
        streams,
    })
}

/// The id of the attempt whose log is meant, without the runtime's name.
fn container_id(pod: &str, status: &PodStatus, name: &str, previous: bool) -> Result<String, String> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let place = format!("container {name:?} in pod {pod:?}");
    let found = lists.into_iter().flatten().flatten().find(|s| s.name == name);
    let found: &ContainerStatus = found.ok_or_else(|| format!("{place} is not available"))?;
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.clone());
    let id = |id: Option<String>| id.filter(|id| !id.is_empty());
    let last = ended(&found.last_state);
    let last_id = last.as_ref().and_then(|l| id(l.container_id.clone()));
    let gone = || format!("{place} is terminated");
    let state = found.state.clone().unwrap_or_default();
    let chosen = if previous {
        last_id.ok_or_else(|| format!("previous terminated {place} not found"))?
    } else if state.running.is_some() {
        id(found.container_id.clone()).ok_or_else(|| format!("{place} is waiting to start - no logs yet"))?
    } else if let Some(terminated) = state.terminated {
        id(terminated.container_id).or(last_id).ok_or_else(gone)?
    } else if last.is_some() {
        last_id.ok_or_else(gone)?
    } else {
        let why = match state.waiting.and_then(|w| w.reason).as_deref() {
            Some("ErrImagePull") => ": image can't be pulled".to_string(),
            Some("ImagePullBackOff") => ": trying and failing to pull image".to_string(),
            Some(reason) => format!(": {reason}"),
            None => " - no logs yet".to_string(),
        };
        return Err(format!("{place} is waiting to start{why}"));
    };
    Ok(chosen.split_once("://").map_or(chosen.clone(), |(_, id)| id.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::{Value, json};

    fn of(state: Value, last: Value, previous: bool) -> Result<String, String> {
        let status = json!({"containerStatuses": [{"name": "c", "state": state, "lastState": last, "ready": false,
            "image": "", "imageID": "", "restartCount": 0, "containerID": "containerd://now"}]});
        let pod = pod_with(json!({}), json!({"containers": []}), status);
        container_id("p", pod.status(), "c", previous)
    }

    #[test]
    fn which_attempt_and_upstreams_words_when_there_is_none() {
        let last = || json!({"terminated": {"exitCode": 1, "containerID": "containerd://before"}});
        assert_eq!(of(json!({"running": {}}), json!({}), false).unwrap(), "now");
        assert_eq!(of(json!({"running": {}}), last(), true).unwrap(), "before");
        assert_eq!(of(json!({"waiting": {"reason": "CrashLoopBackOff"}}), last(), false).unwrap(), "before");
        assert_eq!(
            of(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), false),
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating".into())
        );
        assert_eq!(
            of(json!({"running": {}}), json!({}), true),
            Err("previous terminated container \"c\" in pod \"p\" not found".into())
        );
    }

    #[test]
    fn options_are_checked() {
        let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let of = |text: &str| options(&Query::parse(Some(text)), now);
        let good = of("tailLines=5&sinceSeconds=60&follow=true&limitBytes=9").unwrap();
        assert_eq!((good.tail_lines, good.limit_bytes, good.follow), (Some(5), Some(9), true));
        assert_eq!(good.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(of("tailLines=x").unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(of("limitBytes=0").unwrap_err().0, StatusCode::UNPROCESSABLE_ENTITY);
    }
}
