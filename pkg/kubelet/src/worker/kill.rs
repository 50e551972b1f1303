//! Stopping: one container with its hook and grace period, or a whole pod.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use kedge_client::EventType;
use tracing::{debug, warn};

use super::ordering::Ordering;
use crate::kubelet::Kubelet;
use crate::lifecycle::run_hook;
use crate::pod::{PodExt, is_sidecar};
use crate::runtime::{PodRuntime, State};
use crate::sync::{Kill, KillReason};

/// Even a container without grace has this long to react, in seconds.
const LEAST: i64 = 2;

/// How a container is stopped.
#[derive(Clone, Copy, Default)]
struct How<'a> {
    grace: Option<i64>,
    ordering: Option<&'a Ordering>,
}

/// The grace period of a container by the reason it is killed for, in seconds.
fn grace_period(pod: &Pod, container: Option<&Container>, reason: KillReason) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let Some(seconds) = PodExt::spec(pod).termination_grace_period_seconds else { return LEAST };
    let of = |probe: &Option<Probe>| probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
    let own = container.and_then(|c| match reason {
        KillReason::Startup => of(&c.startup_probe),
        KillReason::Liveness => of(&c.liveness_probe),
        KillReason::Other => None,
    });
    own.unwrap_or(seconds)
}

/// Kills one container while its pod lives on.
///
/// # Errors
/// The runtime's.
pub(super) async fn kill_container(kubelet: &Kubelet, pod: &Pod, kill: &Kill) -> Result<(), kedge_cri::Error> {
    stop(kubelet, pod, kill, How::default()).await
}

async fn stop(kubelet: &Kubelet, pod: &Pod, kill: &Kill, how: How<'_>) -> Result<(), kedge_cri::Error> {
    let container = pod.container(&kill.name);
    let mut grace = grace_period(pod, container.as_ref(), kill.reason);
    let message = match kill.message.as_str() {
        "" => format!("Stopping container {}", kill.name),
        message => message.to_string(),
    };
    kubelet.event(&pod.container_reference(&kill.name), EventType::Normal, "Killing", message);
    grace = how.grace.map_or(grace, |given| given.min(grace));
    let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.as_ref());
    if let (Some(container), Some(hook), true) = (&container, hook, grace > 0) {
        let begin = kubelet.clock.monotonic();
        let run = run_hook(kubelet, pod, container, &kill.id, hook, seconds(grace));
        tokio::select! {
            result = run => if let Err(error) = result {
                warn!(pod = pod.display(), container = kill.name, error, "preStop hook failed");
                // The message could hold what the server answered, which is not for everybody.
                let reference = pod.container_reference(&kill.name);
                kubelet.event(&reference, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            },
            () = kubelet.clock.sleep(seconds(grace)) => {
                debug!(pod = pod.display(), container = kill.name, "preStop hook took all of the grace period");
            }
        }
        grace -= whole_seconds(kubelet.clock.monotonic().saturating_sub(begin));
    }
    if let (Some(ordering), true) = (how.ordering, grace > 0) {
        let begin = kubelet.clock.monotonic();
        ordering.turn(&kill.name, seconds(grace)).await;
        grace -= whole_seconds(kubelet.clock.monotonic().saturating_sub(begin));
    }
    let stopped = kubelet.runtime.stop_container(&kill.id, seconds(grace.max(LEAST))).await;
    if let Some(ordering) = how.ordering {
        ordering.ended(&kill.name);
    }
    match stopped {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Kills all that runs of a pod, containers first and its sandboxes then. `grace` shortens the pod's own period.
///
/// # Errors
/// The first of the runtime's; the rest was tried as well.
pub(super) async fn kill_pod(
    kubelet: &Kubelet,
    pod: &Pod,
    runtime: &PodRuntime,
    grace: Option<i64>,
) -> Result<(), kedge_cri::Error> {
    let alive = |state| matches!(state, State::Running | State::Unknown);
    let running: Vec<_> = runtime.containers.iter().filter(|c| alive(c.state)).collect();
    let names: Vec<&str> = running.iter().map(|c| c.name.as_str()).collect();
    let ordering = pod.init_containers().iter().any(is_sidecar).then(|| Ordering::new(pod, &names));
    let how = How { grace, ordering: ordering.as_ref() };
    let stops = running.iter().map(|run| async move {
        let kill =
            Kill { id: run.id.clone(), name: run.name.clone(), message: String::new(), reason: KillReason::Other };
        stop(kubelet, pod, &kill, how).await
    });
    let mut result = join_all(stops).await.into_iter().collect::<Result<(), _>>();
    for sandbox in &runtime.sandboxes {
        match kubelet.runtime.stop_pod_sandbox(&sandbox.id).await {
            Err(error) if !error.is_not_found() => result = result.and(Err(error)),
            _ => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::{pod, pod_with};
    use serde_json::json;

    #[test]
    fn the_deletion_counts_before_the_probe_before_the_pod() {
        let spec = || {
            json!({"terminationGracePeriodSeconds": 30, "containers": [
                {"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 5}}]})
        };
        let alive = pod(spec());
        let container = alive.container("a");
        assert_eq!(grace_period(&alive, container.as_ref(), KillReason::Other), 30);
        assert_eq!(grace_period(&alive, container.as_ref(), KillReason::Liveness), 5);
        let deleted = pod_with(json!({"deletionGracePeriodSeconds": 7}), spec(), json!({}));
        assert_eq!(grace_period(&deleted, container.as_ref(), KillReason::Liveness), 7);
        assert_eq!(grace_period(&pod(json!({"containers": []})), None, KillReason::Other), LEAST);
    }
}
