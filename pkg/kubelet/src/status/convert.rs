//! Container statuses: what the runtime reports, merged with what the API knew before.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, Pod, ResourceRequirements, VolumeMountStatus,
};

use super::{StartErrors, api_time, find_status, text};
use crate::pod::{PodExt, is_sidecar};
use crate::runtime::{ContainerRun, PodRuntime, State};
use crate::sync::{has_any_regular_container_created, should_be_restarted};

/// The exit code of a container whose end nobody saw.
const LOST: i32 = 137;
const UNKNOWN: &str = "ContainerStatusUnknown";

/// What the statuses of one list of containers are made of.
pub(super) struct Source<'a> {
    pub(super) pod: &'a Pod,
    pub(super) runtime: &'a PodRuntime,
    pub(super) start_errors: &'a StartErrors,
}

impl Source<'_> {
    /// The statuses of `containers`, in their order for init containers, by name for the others.
    pub(super) fn statuses(
        &self,
        containers: &[Container],
        old: &[ContainerStatus],
        init: bool,
    ) -> Vec<ContainerStatus> {
        let mut statuses: Vec<ContainerStatus> =
            containers.iter().map(|c| self.without_run(c, find_status(old, &c.name))).collect();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for run in &self.runtime.containers {
            let Some(index) = containers.iter().position(|c| c.name == run.name) else { continue };
            let count = seen.entry(&run.name).or_default();
            *count += 1;
            let (container, old) = (&containers[index], find_status(old, &run.name));
            match *count {
                1 => statuses[index] = with_run(container, run, old),
                2 => statuses[index].last_state = with_run(container, run, None).state,
                _ => {}
            }
        }
        for (container, status) in containers.iter().zip(&mut statuses) {
            self.explain(container, status, init);
        }
        if !init {
            statuses.sort_by(|a, b| a.name.cmp(&b.name));
        }
        statuses
    }

    /// A container that the runtime may not know: what was known before, or that it is being made.
    fn without_run(&self, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
        if let Some(old) = old.filter(|o| o.state.as_ref().is_some_and(|s| s.terminated.is_some())) {
            return old.clone();
        }
        let initializing = !self.pod.init_containers().is_empty();
        let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(waiting(reason, "")),
            last_state: Some(ContainerState::default()),
            volume_mounts: mount_statuses(container),
            ..ContainerStatus::default()
        };
        let Some(old) = old else { return status };
        status.restart_count = old.restart_count;
        status.last_state = Some(old.last_state.clone().unwrap_or_default());
        let was_running = old.state.as_ref().is_some_and(|s| s.running.is_some());
        let has_last = old.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
        if was_running && !has_last && self.runtime.latest(&container.name).is_none() {
            let terminated = ContainerStateTerminated {
                reason: Some(UNKNOWN.into()),
                message: text(
                    "The container could not be located when the pod was deleted.  \
                     The container used to be Running",
                ),
                exit_code: LOST,
                ..ContainerStateTerminated::default()
            };
            status.last_state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
            if !self.pod.is_deleting() {
                status.restart_count += 1;
            }
        }
        status
    }

    /// Puts in why a container does not run although it shall.
    fn explain(&self, container: &Container, status: &mut ContainerStatus, init: bool) {
        let latest = self.runtime.latest(&container.name);
        if init {
            if latest.is_some_and(|r| r.state == State::Exited && r.exit_code == 0) {
                return;
            }
            let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
            if latest.is_none()
                && !is_sidecar(container)
                && waits
                && has_any_regular_container_created(self.pod, self.runtime)
            {
                let terminated = ContainerStateTerminated {
                    reason: Some("Completed".into()),
                    message: text(
                        "Unable to get init container status from container runtime and pod has been \
                         initialized, treat it as exited normally",
                    ),
                    ..ContainerStateTerminated::default()
                };
                status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
                return;
            }
        }
        if !should_be_restarted(self.pod, container, self.runtime) {
            return;
        }
        let Some((reason, message)) = self.start_errors.get(&container.name) else { return };
        if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting(reason, message));
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: text(reason), message: text(message) };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn with_run(container: &Container, run: &ContainerRun, old: Option<&ContainerStatus>) -> ContainerStatus {
    let was_running = old.is_some_and(|o| o.state.as_ref().is_some_and(|s| s.running.is_some()));
    let mut status = ContainerStatus {
        name: run.name.clone(),
        restart_count: run.restart_count,
        image: run.image.clone(),
        image_id: run.image_ref.clone(),
        container_id: Some(run.api_id()),
        last_state: Some(old.and_then(|o| o.last_state.clone()).unwrap_or_default()),
        started: old.and_then(|o| o.started),
        volume_mounts: mount_statuses(container),
        resources: Some(resources(container)),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        user: run.user.clone().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser { uid, gid, supplemental_groups: Some(groups) }),
        }),
        stop_signal: run.stop_signal.clone(),
        ..ContainerStatus::default()
    };
    // The attempt before may have been removed meanwhile; the API remembers how it ended.
    if let Some(old) = old
        && old.container_id != status.container_id
        && let Some(ended) = old.state.as_ref().filter(|s| s.terminated.is_some())
    {
        status.last_state = Some(ended.clone());
    }
    status.state = Some(match run.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: run.started_at.map(api_time) }),
            ..ContainerState::default()
        },
        State::Exited => ContainerState { terminated: Some(ended(run)), ..ContainerState::default() },
        State::Unknown if was_running => {
            status.restart_count = old.map_or(0, |o| o.restart_count) + 1;
            let terminated = ContainerStateTerminated {
                reason: Some(UNKNOWN.into()),
                message: text("The container could not be located when the pod was terminated"),
                exit_code: LOST,
                ..ContainerStateTerminated::default()
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        }
        State::Created | State::Unknown => waiting("", ""),
    });
    status
}

fn ended(run: &ContainerRun) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: run.exit_code,
        reason: text(&run.reason),
        message: text(&run.message),
        started_at: run.started_at.map(api_time),
        finished_at: run.finished_at.map(api_time),
        container_id: Some(run.api_id()),
        ..ContainerStateTerminated::default()
    }
}

/// The resources in effect: what the spec asks for, since it is applied when a container starts.
fn resources(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

fn mount_statuses(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let statuses = mounts.iter().map(|mount| {
        let read_only = mount.read_only.unwrap_or(false);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| "Disabled".to_string()),
            ..VolumeMountStatus::default()
        }
    });
    Some(statuses.collect())
}
