//! Pods that fail as a whole: not admitted, past their deadline, or evicted for what they store.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus, Toleration};
use kedge_client::EventType;
use kedge_meta::{ObjectMeta, StringMap, resources};
use serde::Deserialize;

use super::Eviction;
use super::admit::{Failure, Offer, admit};
use crate::eviction::Pressure;
use crate::kubelet::Kubelet;
use crate::pod::{PodExt, qos_class};
use crate::runtime::PodRuntime;

/// Pods of this priority and above are the cluster's own.
const CRITICAL: i32 = 2_000_000_000;

#[derive(Deserialize)]
struct SlimNode {
    metadata: ObjectMeta,
}

/// Checks a pod that has never run. One that has was admitted before; of a static one only the runtime knows that.
///
/// # Errors
/// Why the pod cannot run here.
pub(super) async fn check_admission(kubelet: &Kubelet, pod: &Pod, runtime: &PodRuntime) -> Result<(), Failure> {
    if pod.is_static() && !runtime.is_empty() {
        return Ok(());
    }
    if pod.status().start_time.is_some() || kubelet.statuses.get(pod.uid()).is_some() {
        return Ok(());
    }
    under_pressure(pod, *kubelet.pressure.borrow())?;
    let spec = PodExt::spec(pod);
    let choosy = spec.node_selector.is_some() || spec.affinity.is_some();
    let labels = if choosy { node_labels(kubelet).await } else { Some(StringMap::new()) };
    // Without the node's labels the scheduler's word counts.
    let Some(labels) = labels else { return Ok(()) };
    let others: Vec<Pod> = kubelet.pods.list().iter().filter_map(|raw| raw.decode().ok()).collect();
    let counts = |other: &Pod| {
        let status = kubelet.statuses.get(other.uid());
        let known = status.as_ref().is_some_and(|s| !matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")));
        other.uid() != pod.uid() && known && !other.is_terminal()
    };
    let others: Vec<Pod> = others.into_iter().filter(counts).collect();
    let offer = Offer {
        node_name: &kubelet.config.node_name,
        labels: &labels,
        machine: &kubelet.machine,
        max_pods: kubelet.config.args.max_pods,
    };
    admit(pod, &others, &offer)
}

/// A node that is short of something takes no pod that would make it worse.
fn under_pressure(pod: &Pod, pressure: Pressure) -> Result<(), Failure> {
    let short = [(pressure.memory, "MemoryPressure"), (pressure.disk, "DiskPressure"), (pressure.pids, "PIDPressure")];
    let short: Vec<&str> = short.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    let critical = pod.is_static() || PodExt::spec(pod).priority.unwrap_or_default() >= CRITICAL;
    if short.is_empty() || critical {
        return Ok(());
    }
    if short == ["MemoryPressure"] {
        let tolerated = |toleration: &Toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let effect = toleration.effect.as_deref().unwrap_or_default();
            let any = toleration.operator.as_deref() == Some("Exists");
            (key == "node.kubernetes.io/memory-pressure" || (key.is_empty() && any))
                && matches!(effect, "" | "NoSchedule")
                && (any || toleration.value.as_deref().unwrap_or_default().is_empty())
        };
        // Who asked for memory gets it: somebody else has to go.
        if qos_class(pod) != "BestEffort" || PodExt::spec(pod).tolerations.iter().flatten().any(tolerated) {
            return Ok(());
        }
    }
    let message = format!("The node had condition: [{}]. ", short.join(" "));
    Err(Failure { reason: "Evicted".into(), message })
}

async fn node_labels(kubelet: &Kubelet) -> Option<StringMap> {
    let name = &kubelet.config.node_name;
    let node = kubelet.config.client.get::<SlimNode>(&resources::NODES, "", name).await;
    node.ok().map(|node| node.metadata.labels)
}

/// Fails a pod that was not admitted.
pub(super) fn reject(kubelet: &Kubelet, pod: &Pod, failure: &Failure) {
    kubelet.pod_warning(pod, &failure.reason, &failure.message);
    let message = format!("Pod was rejected: {}", failure.message);
    let status = PodStatus {
        phase: Some("Failed".into()),
        reason: Some(failure.reason.clone()),
        message: Some(message),
        qos_class: Some(qos_class(pod).to_string()),
        ..PodStatus::default()
    };
    kubelet.statuses.set(pod, status, true);
}

/// How long a pod may still be active; `None` without a deadline.
pub(super) fn time_left(pod: &Pod, status: &PodStatus, now: Timestamp) -> Option<Duration> {
    let seconds = PodExt::spec(pod).active_deadline_seconds?;
    let start = status.start_time.as_ref()?.0;
    let end = start.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

/// Fails a pod whose time is over.
pub(super) fn past_deadline(kubelet: &Kubelet, pod: &Pod, status: PodStatus) {
    let (reason, message) = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
    kubelet.event(&pod.reference(), EventType::Normal, reason, message);
    fail(kubelet, pod, status, reason, message);
}

/// Fails a pod because of what it uses.
pub(super) fn evict(kubelet: &Kubelet, pod: &Pod, mut status: PodStatus, eviction: &Eviction) {
    let failure = &eviction.failure;
    kubelet.pod_warning(pod, "Evicted", &failure.message);
    if !eviction.of_node {
        return fail(kubelet, pod, status, &failure.reason, &failure.message);
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("TerminationByKubelet".into()),
        message: Some(failure.message.clone()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    fail(kubelet, pod, status, &failure.reason, &failure.message);
}

fn fail(kubelet: &Kubelet, pod: &Pod, mut status: PodStatus, reason: &str, message: &str) {
    status.phase = Some("Failed".into());
    status.reason = Some(reason.to_string());
    status.message = Some(message.to_string());
    kubelet.statuses.set(pod, status, true);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::json;

    #[test]
    fn a_node_that_is_short_takes_no_more_of_what_it_is_short_of() {
        use crate::pod::testing::pod;
        let memory = Pressure { memory: true, ..Pressure::default() };
        let disk = Pressure { disk: true, ..Pressure::default() };
        let best_effort = || pod(json!({"containers": [{"name": "c"}]}));
        let refused = |pod: &Pod, pressure| under_pressure(pod, pressure).err().map(|failure| failure.message);
        assert_eq!(refused(&best_effort(), Pressure::default()), None);
        assert_eq!(refused(&best_effort(), memory).as_deref(), Some("The node had condition: [MemoryPressure]. "));
        let asks = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}));
        assert_eq!(refused(&asks, memory), None);
        assert_eq!(refused(&asks, disk).as_deref(), Some("The node had condition: [DiskPressure]. "));
        let tolerant =
            json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(refused(&pod(json!({"containers": [{"name": "c"}], "tolerations": tolerant})), memory), None);
        assert_eq!(refused(&pod(json!({"containers": [{"name": "c"}], "priority": 2_000_000_000})), disk), None);
    }

    #[test]
    fn the_deadline_counts_from_the_start() {
        let status = json!({"startTime": "2026-01-01T00:00:00Z"});
        let pod = pod_with(json!({}), json!({"containers": [], "activeDeadlineSeconds": 10}), status);
        let left = |now: &str| time_left(&pod, pod.status(), now.parse().unwrap());
        assert_eq!(left("2026-01-01T00:00:04Z"), Some(Duration::from_secs(6)));
        assert_eq!(left("2026-01-01T00:00:30Z"), Some(Duration::ZERO));
        let without = pod_with(json!({}), json!({"containers": []}), json!({"startTime": "2026-01-01T00:00:00Z"}));
        assert_eq!(time_left(&without, without.status(), Timestamp::UNIX_EPOCH), None);
    }
}
