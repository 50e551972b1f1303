//! Whether a container that ended runs again: the pod's policy, the container's own, and its rules for exit codes.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::PodExt;
use crate::runtime::{PodRuntime, State};

/// Whether a container that exited with this code is to be started again.
pub(crate) fn should_restart(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        let matched = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matched {
            return matches!(rule.action.as_str(), "Restart" | "RestartAllContainers");
        }
    }
    let policy = container.restart_policy.as_deref().unwrap_or(pod.restart_policy());
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether a container that does not run is to be started.
pub(crate) fn should_be_restarted(pod: &Pod, container: &Container, runtime: &PodRuntime) -> bool {
    if pod.is_deleting() {
        return false;
    }
    match runtime.latest(&container.name) {
        None => true,
        Some(run) => match run.state {
            State::Running => false,
            State::Created | State::Unknown => true,
            State::Exited => should_restart(pod, container, run.exit_code),
        },
    }
}

/// Whether the latest attempt ended well.
pub(crate) fn succeeded(container: &Container, runtime: &PodRuntime) -> bool {
    runtime.latest(&container.name).is_some_and(|r| r.state == State::Exited && r.exit_code == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn rules_come_before_the_containers_policy_before_the_pods() {
        let pod = pod(json!({"restartPolicy": "Never", "containers": [
            {"name": "a"},
            {"name": "b", "restartPolicy": "OnFailure"},
            {"name": "c", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
        ]}));
        let of = |index: usize, code| should_restart(&pod, &PodExt::spec(&pod).containers[index], code);
        assert!(!of(0, 1));
        assert!(of(1, 1) && !of(1, 0));
        assert!(of(2, 42) && !of(2, 1));
    }
}
