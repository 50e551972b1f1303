//! The part of the planner about init containers and sidecars.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::plan::{Actions, Kill, KillReason, ProbeView};
use super::restart::should_be_restarted;
use crate::pod::{PodExt, is_sidecar};
use crate::runtime::labels::container_hash;
use crate::runtime::{ContainerRun, PodRuntime, State};

/// Looks at the init containers from the last to the first, until the one that decides is found; sidecars before it
/// are looked at as well. Returns whether the regular containers may run.
pub(super) fn plan_init_containers(
    pod: &Pod,
    runtime: &PodRuntime,
    probes: &dyn ProbeView,
    actions: &mut Actions,
) -> bool {
    let init = pod.init_containers();
    if init.is_empty() {
        return true;
    }
    let mut initialized = PodExt::spec(pod).containers.iter().any(|c| {
        let state = runtime.latest(&c.name).map(|r| r.state);
        matches!(state, Some(State::Created | State::Running))
    });
    // Whether a later init container shows that all before it are done.
    let mut passed = initialized;
    for (index, container) in init.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(run) = runtime.latest(&container.name) else {
            if passed && sidecar {
                actions.init_containers.push(index);
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        let last = index + 1 == init.len();
        let one = One { pod, runtime, probes, container, run, index, last, passed };
        match one.decide(actions) {
            Step::Nothing => {}
            Step::Initialized => initialized = true,
            Step::KillPod => {
                actions.kill_pod = true;
                actions.init_containers.clear();
                return false;
            }
        }
        passed = true;
    }
    if !passed {
        actions.init_containers.push(0);
    }
    actions.init_containers.reverse();
    initialized
}

enum Step {
    Nothing,
    Initialized,
    KillPod,
}

struct One<'a> {
    pod: &'a Pod,
    runtime: &'a PodRuntime,
    probes: &'a dyn ProbeView,
    container: &'a Container,
    run: &'a ContainerRun,
    index: usize,
    last: bool,
    passed: bool,
}

impl One<'_> {
    fn decide(&self, actions: &mut Actions) -> Step {
        match (self.run.state, is_sidecar(self.container)) {
            (State::Created, _) => {
                actions.init_containers.push(self.index);
                Step::Nothing
            }
            (State::Running, false) => Step::Nothing,
            (State::Running, true) => self.running_sidecar(actions),
            (State::Exited, true) => {
                actions.init_containers.push(self.index);
                Step::Nothing
            }
            (State::Exited, false) => self.exited(actions),
            (State::Unknown, sidecar) => self.unknown(sidecar, actions),
        }
    }

    fn kill(&self, message: String, reason: KillReason, actions: &mut Actions) {
        let (id, name) = (self.run.id.clone(), self.container.name.clone());
        actions.kill.push(Kill { id, name, message, reason });
        actions.init_containers.push(self.index);
    }

    fn running_sidecar(&self, actions: &mut Actions) -> Step {
        let name = &self.container.name;
        if self.container.startup_probe.is_some() {
            match self.probes.startup(&self.run.id) {
                Some(true) => {}
                Some(false) => {
                    let message = format!("Init container {name} failed startup probe");
                    self.kill(message, KillReason::Startup, actions);
                    return Step::Nothing;
                }
                None => return Step::Nothing,
            }
        }
        let mut step = Step::Nothing;
        if self.last {
            step = Step::Initialized;
        } else if !self.passed {
            actions.init_containers.push(self.index + 1);
        }
        if self.run.hash != container_hash(self.container) {
            let message = format!("Init container {name} definition changed");
            self.kill(message, KillReason::Other, actions);
        } else if self.container.liveness_probe.is_some() && self.probes.liveness(&self.run.id) == Some(false) {
            let message = format!("Init container {name} failed liveness probe");
            self.kill(message, KillReason::Liveness, actions);
        }
        step
    }

    fn exited(&self, actions: &mut Actions) -> Step {
        // A container that was killed for memory failed, whatever its exit code says.
        if self.run.exit_code != 0 || self.run.reason == "OOMKilled" {
            if !should_be_restarted(self.pod, self.container, self.runtime) {
                return Step::KillPod;
            }
            actions.init_containers.push(self.index);
            return Step::Nothing;
        }
        if self.last {
            return Step::Initialized;
        }
        actions.init_containers.push(self.index + 1);
        Step::Nothing
    }

    fn unknown(&self, sidecar: bool, actions: &mut Actions) -> Step {
        let policy = self.container.restart_policy.as_deref();
        if !sidecar && policy.unwrap_or(self.pod.restart_policy()) == "Never" {
            return Step::KillPod;
        }
        let message =
            format!("Init container is in {:?} state, try killing it before restart", self.run.state.as_str());
        self.kill(message, KillReason::Other, actions);
        Step::Nothing
    }
}
