//! The conditions that the kubelet owns: PodReadyToStartContainers, Initialized, ContainersReady, Ready, PodScheduled.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition};

use super::{find_status, text};
use crate::pod::{PodExt, is_sidecar};
use crate::runtime::PodRuntime;
use crate::sync::sandbox_changed;

/// The types that are the kubelet's to write.
const OWNED: [&str; 9] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizePending",
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "AllContainersRestarting",
    "DisruptionTarget",
];

pub(crate) fn is_owned(kind: &str) -> bool {
    OWNED.contains(&kind)
}

pub(super) fn condition(pod: &Pod, kind: &str, status: bool, reason: &str, message: &str) -> PodCondition {
    PodCondition {
        type_: kind.to_string(),
        status: if status { "True" } else { "False" }.to_string(),
        reason: text(reason),
        message: text(message),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

/// Names as Go prints a slice of strings.
fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn listing(word: &str, unknown: &[&str], others: &[&str]) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", names(unknown)));
    }
    if !others.is_empty() {
        parts.push(format!("containers with {word} status: {}", names(others)));
    }
    parts.join(", ")
}

pub(super) fn ready_to_start(pod: &Pod, runtime: &PodRuntime) -> PodCondition {
    let (needed, _, _) = sandbox_changed(pod, runtime);
    condition(pod, "PodReadyToStartContainers", !needed, "", "")
}

fn is_initialized(container: &Container, status: &ContainerStatus) -> bool {
    if is_sidecar(container) { status.started == Some(true) } else { status.ready }
}

/// `was`: whether the condition was true before.
pub(super) fn initialized(pod: &Pod, statuses: &[ContainerStatus], phase: &str, was: bool) -> PodCondition {
    const KIND: &str = "Initialized";
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod.init_containers() {
        match find_status(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !is_initialized(container, status) => {
                incomplete.push(container.name.as_str());
            }
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, KIND, true, "PodCompleted", "");
    }
    let any_started = PodExt::spec(pod).containers.iter().any(|c| {
        find_status(statuses, &c.name).is_some_and(|s| {
            let ended = s.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
            let state = s.state.as_ref();
            ended || state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        })
    });
    let message = listing("incomplete", &unknown, &incomplete);
    if any_started || message.is_empty() || was {
        return condition(pod, KIND, true, "", "");
    }
    condition(pod, KIND, false, "ContainersNotInitialized", &message)
}

pub(super) fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "ContainersReady";
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
    for container in sidecars.chain(&PodExt::spec(pod).containers) {
        match find_status(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, KIND, false, "PodCompleted", "");
    }
    if phase == "Failed" {
        return condition(pod, KIND, false, "PodFailed", "");
    }
    let message = listing("unready", &unknown, &unready);
    if message.is_empty() {
        return condition(pod, KIND, true, "", "");
    }
    condition(pod, KIND, false, "ContainersNotReady", &message)
}

/// `others`: the conditions that others wrote, among them those of readiness gates.
pub(super) fn ready(pod: &Pod, containers: &PodCondition, others: &[PodCondition]) -> PodCondition {
    if containers.status != "True" {
        return PodCondition { type_: "Ready".into(), ..containers.clone() };
    }
    let gates = PodExt::spec(pod).readiness_gates.iter().flatten();
    let closed: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match others.iter().find(|c| &c.type_ == kind) {
                None => Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
                Some(c) if c.status != "True" => {
                    Some(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status))
                }
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        return condition(pod, "Ready", true, "", "");
    }
    condition(pod, "Ready", false, "ReadinessGatesNotReady", &closed.join(", "))
}
