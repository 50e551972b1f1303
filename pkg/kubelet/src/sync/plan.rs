//! The planner: pod and runtime state in, actions out. Follows upstream's `computePodActions`, case by case.

use k8s_openapi::api::core::v1::Pod;

use super::init::plan_init_containers;
use super::restart::{should_be_restarted, succeeded};
use super::sandbox::{has_any_regular_container_created, sandbox_changed};
use crate::pod::PodExt;
use crate::runtime::labels::container_hash;
use crate::runtime::{PodRuntime, State};

/// Why a container is killed while its pod lives on; decides whose grace period counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    Other,
    Liveness,
    Startup,
}

/// A container to kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) reason: KillReason,
}

/// What to do. Indices point into the pod's lists; the order within each list is the order of starting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Kill everything of the pod, its sandboxes too.
    pub(crate) kill_pod: bool,
    pub(crate) create_sandbox: bool,
    pub(crate) sandbox_id: Option<String>,
    /// Attempt number of the sandbox that exists or is to be made.
    pub(crate) attempt: u32,
    pub(crate) init_containers: Vec<usize>,
    pub(crate) containers: Vec<usize>,
    pub(crate) ephemeral_containers: Vec<usize>,
    pub(crate) kill: Vec<Kill>,
}

/// Latest probe results by container id: `Some(true)` succeeded, `Some(false)` failed, `None` not known.
pub(crate) trait ProbeView {
    fn liveness(&self, container_id: &str) -> Option<bool>;
    fn startup(&self, container_id: &str) -> Option<bool>;
}

/// Decides what to do about a pod that shall run.
pub(crate) fn compute_actions(pod: &Pod, runtime: &PodRuntime, probes: &dyn ProbeView) -> Actions {
    let (create_sandbox, attempt, sandbox_id) = sandbox_changed(pod, runtime);
    let mut actions = Actions { kill_pod: create_sandbox, create_sandbox, sandbox_id, attempt, ..Actions::default() };
    if create_sandbox {
        plan_new_sandbox(pod, runtime, &mut actions);
        return actions;
    }
    let ephemeral = pod.ephemeral_containers().iter().enumerate();
    let fresh = ephemeral.filter(|(_, e)| runtime.latest(&e.name).is_none());
    actions.ephemeral_containers = fresh.map(|(index, _)| index).collect();

    let initialized = plan_init_containers(pod, runtime, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    plan_containers(pod, runtime, probes, &mut actions);
    actions
}

fn plan_new_sandbox(pod: &Pod, runtime: &PodRuntime, actions: &mut Actions) {
    // A pod that never restarts and has run already stays as it is: only its remains are cleared away.
    let never = pod.restart_policy() == "Never";
    if never && actions.attempt != 0 && !runtime.containers.is_empty() {
        actions.create_sandbox = false;
        return;
    }
    let containers = &PodExt::spec(pod).containers;
    let to_start = containers.iter().enumerate().filter(|(_, c)| {
        let policy = c.restart_policy.as_deref().unwrap_or(pod.restart_policy());
        !(policy == "OnFailure" && succeeded(c, runtime))
    });
    let to_start: Vec<usize> = to_start.map(|(index, _)| index).collect();
    if to_start.is_empty() && has_any_regular_container_created(pod, runtime) {
        actions.create_sandbox = false;
        return;
    }
    if pod.init_containers().is_empty() {
        actions.containers = to_start;
    } else {
        actions.init_containers = vec![0];
    }
}

fn plan_containers(pod: &Pod, runtime: &PodRuntime, probes: &dyn ProbeView, actions: &mut Actions) {
    let mut keep = 0;
    for (index, container) in PodExt::spec(pod).containers.iter().enumerate() {
        let run = runtime.latest(&container.name).filter(|r| r.state == State::Running);
        let Some(run) = run else {
            if should_be_restarted(pod, container, runtime) {
                actions.containers.push(index);
                let unknown = runtime.latest(&container.name).filter(|r| r.state == State::Unknown);
                actions.kill.extend(unknown.map(|r| Kill {
                    id: r.id.clone(),
                    name: r.name.clone(),
                    message: format!("Container is in {:?} state, try killing it before restart", r.state.as_str()),
                    reason: KillReason::Other,
                }));
            }
            continue;
        };
        let policy = container.restart_policy.as_deref().unwrap_or(pod.restart_policy());
        let mut restart = policy != "Never";
        let name = &container.name;
        let (mut message, reason) = if run.hash != container_hash(container) {
            restart = true;
            (format!("Container {name} definition changed"), KillReason::Other)
        } else if probes.liveness(&run.id) == Some(false) {
            (format!("Container {name} failed liveness probe"), KillReason::Liveness)
        } else if probes.startup(&run.id) == Some(false) {
            (format!("Container {name} failed startup probe"), KillReason::Startup)
        } else {
            keep += 1;
            continue;
        };
        if restart {
            message.push_str(", will be restarted");
            actions.containers.push(index);
        }
        actions.kill.push(Kill { id: run.id.clone(), name: run.name.clone(), message, reason });
    }
    if keep == 0 && actions.containers.is_empty() {
        actions.kill_pod = true;
        actions.init_containers.clear();
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
