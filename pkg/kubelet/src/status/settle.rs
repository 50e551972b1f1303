//! What is made of a computed status before it is written: the end held back while containers may run, times of
//! transition, an end for containers whose end nobody saw, and limits on messages.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use serde_json::Value;

use super::{api_time, find_condition, text};
use crate::pod::PodExt;

/// All termination messages of a pod together, in bytes.
const MAX_MESSAGES: usize = 12 * 1024;

pub(super) fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// While containers may still run, the end of the pod is kept back: others would count its resources as free.
pub(super) fn hold_back(have: &Value, want: &mut Value, may_run: bool) {
    let phase = |v: &Value| v.get("phase").and_then(Value::as_str).map(str::to_string);
    if !may_run || !is_terminal(phase(want).as_deref()) || is_terminal(phase(have).as_deref()) {
        return;
    }
    let Some(want) = want.as_object_mut() else { return };
    for name in ["phase", "reason", "message"] {
        match have.get(name) {
            Some(value) => want.insert(name.to_string(), value.clone()),
            None => want.remove(name),
        };
    }
}

pub(super) fn end_unseen(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    let terminated = ContainerStateTerminated {
        reason: text("ContainerStatusUnknown"),
        message: text("The container could not be located when the pod was terminated"),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    };
    status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
}

/// Takes over what must not change, and notes when conditions changed.
pub(super) fn settle(pod: &Pod, status: &mut PodStatus, old: &PodStatus, now: Timestamp) {
    let now = api_time(now);
    for condition in status.conditions.iter_mut().flatten() {
        let same = find_condition(old, &condition.type_).filter(|o| o.status == condition.status);
        condition.last_transition_time = match same.and_then(|o| o.last_transition_time.clone()) {
            Some(time) => Some(time),
            None => Some(now.clone()),
        };
    }
    status.start_time = old.start_time.clone().or(Some(now));
    status.observed_generation = status.observed_generation.max(old.observed_generation);
    let count = PodExt::spec(pod).containers.len() + pod.init_containers().len() + pod.ephemeral_containers().len();
    let limit = MAX_MESSAGES / count.max(1);
    let lists =
        [&mut status.container_statuses, &mut status.init_container_statuses, &mut status.ephemeral_container_statuses];
    for status in lists.into_iter().flatten().flatten() {
        let states = [&mut status.state, &mut status.last_state];
        for terminated in states.into_iter().flatten().filter_map(|s| s.terminated.as_mut()) {
            terminated.message.iter_mut().for_each(|m| truncate(m, limit));
        }
    }
}

fn truncate(message: &mut String, limit: usize) {
    if message.len() > limit {
        let end = (0..=limit).rev().find(|i| message.is_char_boundary(*i)).unwrap_or_default();
        message.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::json;

    #[test]
    fn the_end_is_held_back_while_containers_run() {
        let have = json!({"phase": "Running"});
        let mut want = json!({"phase": "Failed", "reason": "Evicted"});
        hold_back(&have, &mut want, true);
        assert_eq!(want, json!({"phase": "Running"}));
        let mut want = json!({"phase": "Failed"});
        hold_back(&have, &mut want, false);
        assert_eq!(want["phase"], "Failed");
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let old = json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let pod = pod_with(json!({}), json!({"containers": []}), old);
        let mut status = pod.status.clone().unwrap();
        status.conditions.as_mut().unwrap()[0].status = "False".into();
        status.start_time = None;
        let now: Timestamp = "2026-02-01T00:00:00.5Z".parse().unwrap();
        settle(&pod, &mut status, pod.status(), now);
        let times: Vec<String> =
            status.conditions.unwrap().into_iter().map(|c| c.last_transition_time.unwrap().0.to_string()).collect();
        assert_eq!(times, ["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"]);
        assert_eq!(status.start_time.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
    }
}
