//! The phase of a pod, from its container statuses.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::find_status;
use crate::pod::{PodExt, is_sidecar};
use crate::sync::should_restart;

#[derive(Default)]
struct Counts {
    pending_init: usize,
    pending_sidecars: usize,
    failed_for_good: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// How a container stands.
enum Standing {
    Running,
    /// With the exit code of its last end.
    Ended(i32),
    Waiting,
    Unknown,
}

/// Where a container waits for its next start, its last end counts.
fn standing(status: Option<&ContainerStatus>) -> (Standing, bool) {
    let Some(state) = status.and_then(|s| s.state.as_ref()) else { return (Standing::Unknown, false) };
    if state.running.is_some() {
        (Standing::Running, false)
    } else if let Some(terminated) = &state.terminated {
        (Standing::Ended(terminated.exit_code), false)
    } else if state.waiting.is_some() {
        let last = status.and_then(|s| s.last_state.as_ref()).and_then(|s| s.terminated.as_ref());
        match last {
            Some(terminated) => (Standing::Ended(terminated.exit_code), true),
            None => (Standing::Waiting, true),
        }
    } else {
        (Standing::Unknown, false)
    }
}

impl Counts {
    fn init(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match standing(status).0 {
            Standing::Ended(0) => {}
            Standing::Ended(code) => {
                if !should_restart(pod, container, code) {
                    self.failed_for_good += 1;
                }
            }
            Standing::Running | Standing::Waiting | Standing::Unknown => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        let Some(status) = status else {
            self.unknown += 1;
            return;
        };
        match standing(Some(status)).0 {
            Standing::Running => {
                if status.started != Some(true) {
                    self.pending_sidecars += 1;
                }
                self.running += 1;
            }
            Standing::Ended(_) => {}
            Standing::Waiting => {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
            Standing::Unknown => {
                self.pending_sidecars += 1;
                self.unknown += 1;
            }
        }
    }

    fn regular(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match standing(status) {
            (Standing::Running, _) => self.running += 1,
            (Standing::Ended(code), waits) => {
                self.stopped += 1;
                if !should_restart(pod, container, code) {
                    self.stopped_for_good += 1;
                }
                if code == 0 && !waits {
                    self.succeeded += 1;
                }
            }
            (Standing::Waiting, _) => self.waiting += 1,
            (Standing::Unknown, _) => self.unknown += 1,
        }
    }
}

/// `terminal`: nothing of the pod runs any more nor will again. `initialized`: a regular container of the current
/// sandbox has been made.
pub(super) fn phase(pod: &Pod, statuses: &[ContainerStatus], terminal: bool, initialized: bool) -> &'static str {
    let mut n = Counts::default();
    for container in pod.init_containers() {
        let status = find_status(statuses, &container.name);
        if is_sidecar(container) {
            n.sidecar(status);
        } else {
            n.init(pod, container, status);
        }
    }
    for container in &PodExt::spec(pod).containers {
        n.regular(pod, container, find_status(statuses, &container.name));
    }
    if n.failed_for_good > 0 {
        return "Failed";
    }
    if n.pending_init > 0 || (n.pending_sidecars > 0 && !initialized) || n.waiting > 0 {
        return "Pending";
    }
    let ended = if n.stopped == n.succeeded { "Succeeded" } else { "Failed" };
    match n {
        Counts { unknown: 1.., .. } => "Pending",
        Counts { running: 1.., .. } => "Running",
        Counts { stopped: 1.., .. } if terminal && !pod.is_static() => ended,
        Counts { stopped: 1.., .. } if n.stopped != n.stopped_for_good => "Running",
        Counts { stopped: 1.., .. } => ended,
        _ => "Pending",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::{Value, json};

    fn of(policy: &str, states: &[(&str, Value)], terminal: bool) -> &'static str {
        let containers: Vec<Value> = states.iter().map(|(n, _)| json!({"name": n})).collect();
        let statuses: Vec<Value> = states
            .iter()
            .map(|(n, s)| json!({"name": n, "state": s, "ready": false, "image": "", "imageID": "", "restartCount": 0}))
            .collect();
        let spec = json!({"restartPolicy": policy, "containers": containers});
        let pod = pod_with(json!({}), spec, json!({"containerStatuses": statuses}));
        let statuses = pod.status.clone().unwrap().container_statuses.unwrap();
        phase(&pod, &statuses, terminal, true)
    }

    #[test]
    fn phases() {
        let running = || json!({"running": {}});
        let ended = |code: i32| json!({"terminated": {"exitCode": code}});
        assert_eq!(of("Always", &[("a", running()), ("b", running())], false), "Running");
        assert_eq!(of("Always", &[("a", running()), ("b", json!({"waiting": {}}))], false), "Pending");
        assert_eq!(of("Never", &[("a", ended(0)), ("b", ended(0))], false), "Succeeded");
        assert_eq!(of("Never", &[("a", ended(0)), ("b", ended(1))], false), "Failed");
        assert_eq!(of("Always", &[("a", ended(0))], false), "Running");
        assert_eq!(of("OnFailure", &[("a", ended(1))], false), "Running");
        assert_eq!(of("OnFailure", &[("a", ended(0))], false), "Succeeded");
        assert_eq!(of("Always", &[("a", ended(0))], true), "Succeeded");
        assert_eq!(of("Always", &[("a", ended(137))], true), "Failed");
        assert_eq!(of("Never", &[("a", running()), ("b", ended(1))], false), "Running");
    }
}
