//! One round of keeping a pod running: look, report, prepare, act, report again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};
use kedge_client::EventType;
use tracing::{debug, info, warn};

use super::fail::{self, check_admission};
use super::kill::{kill_container, kill_pod};
use super::resize;
use super::sandbox;
use super::start::{StartError, Starter};
use crate::cgroups;
use crate::kubelet::Kubelet;
use crate::metrics::label;
use crate::pod::{PodExt, ephemeral_as_container, is_sidecar};
use crate::runtime::PodRuntime;
use crate::status::{StartErrors, Subject, generate};
use crate::sync::{Actions, Kill, compute_actions};
use crate::volumes::{MountedVolume, referenced_objects};

/// What came of a round.
pub(super) enum Outcome {
    /// The pod has run to its end.
    Ended,
    /// All is as it should be, or waits for a delay that ends then.
    Settled { again: Option<Duration> },
    /// Something did not work; it is tried again.
    Failed { error: String },
}

/// What one round leaves for the next.
#[derive(Default)]
pub(super) struct Sync {
    start_errors: StartErrors,
    /// What is still in effect of containers whose resources could not be changed.
    not_resized: HashMap<String, Option<ResourceRequirements>>,
    /// And of the pod as a whole, if that could not be.
    pod_not_resized: Option<Option<ResourceRequirements>>,
    /// When the pod was first looked at, on the monotonic clock, until it runs; nothing of one that ran before that.
    begun: Option<Duration>,
    looked: bool,
}

/// The end of a round that did not get through.
struct Stop(String);

impl From<kedge_cri::Error> for Stop {
    fn from(error: kedge_cri::Error) -> Stop {
        Stop(error.to_string())
    }
}

impl Sync {
    /// One round.
    pub(super) async fn run(&mut self, kubelet: &Kubelet, pod: &Arc<Pod>) -> Outcome {
        let begun = kubelet.clock.monotonic();
        let result = self.round(kubelet, pod).await;
        let took = kubelet.clock.monotonic().saturating_sub(begun);
        let kind = if std::mem::replace(&mut self.looked, true) { "sync" } else { "create" };
        kubelet.metrics.pod_worker.observe(label("operation_type", kind), took.as_secs_f64());
        match result {
            Ok(outcome) => outcome,
            Err(Stop(error)) => Outcome::Failed { error },
        }
    }

    /// Counts how long the start of a pod took, when it runs.
    fn count_start(&mut self, kubelet: &Kubelet, pod: &Pod, status: &PodStatus) {
        let now = kubelet.clock.monotonic();
        if !self.looked && self.begun.is_none() && status.phase.as_deref() == Some("Pending") {
            self.begun = Some(now);
        }
        if status.phase.as_deref() != Some("Running") {
            return;
        }
        let Some(begun) = self.begun.take() else { return };
        kubelet.metrics.pod_start.observe(now.saturating_sub(begun).as_secs_f64());
        if let Some(made) = &pod.metadata.creation_timestamp {
            let since = kubelet.clock.now().duration_since(made.0).as_secs_f64();
            kubelet.metrics.pod_start_total.observe(since.max(0.0));
        }
    }

    async fn round(&mut self, kubelet: &Kubelet, pod: &Arc<Pod>) -> Result<Outcome, Stop> {
        if kubelet.health.name().is_empty() {
            // Container ids carry the runtime's name, so that nothing can be said before it is known.
            return Err(Stop(kubelet.health.get().error().unwrap_or_default()));
        }
        let runtime = kubelet.observe(pod.uid()).await?;
        if let Err(failure) = check_admission(kubelet, pod, &runtime).await {
            fail::reject(kubelet, pod, &failure);
            return Ok(Outcome::Ended);
        }
        kubelet.probes.add_pod(pod);
        let restarts = self.resize(kubelet, pod, &runtime).await;
        let status = self.report(kubelet, pod, &runtime);
        if ended(&status) {
            return Ok(Outcome::Ended);
        }
        let left = fail::time_left(pod, &status, kubelet.clock.now());
        if left.is_some_and(|left| left.is_zero()) {
            fail::past_deadline(kubelet, pod, status);
            return Ok(Outcome::Ended);
        }
        let volumes = self.prepare(kubelet, pod).await?;
        let mut actions = compute_actions(pod, &runtime, kubelet.probes.as_ref());
        if !actions.kill_pod {
            add_restarts(pod, restarts, &mut actions);
        }
        let mut acted = false;
        let mut result = self.act(kubelet, pod, &runtime, &volumes, &actions, &mut acted).await;
        if let (Ok(Outcome::Settled { again }), Some(left)) = (&mut result, left) {
            *again = Some(again.map_or(left, |a| a.min(left)));
        }
        if acted || !self.start_errors.is_empty() {
            let runtime = kubelet.observe(pod.uid()).await?;
            if ended(&self.report(kubelet, pod, &runtime)) {
                return Ok(Outcome::Ended);
            }
        }
        result
    }

    /// Brings resources of running containers up to date, before the status says what is in effect.
    async fn resize(&mut self, kubelet: &Kubelet, pod: &Pod, runtime: &PodRuntime) -> Vec<Kill> {
        let old = kubelet.statuses.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
        self.not_resized.clear();
        self.pod_not_resized = None;
        match resize::apply(kubelet, pod, &old, runtime).await {
            Ok(kills) => kills,
            Err(error) => {
                warn!(pod = pod.display(), error, "the pod's resources were not changed");
                let running = old.container_statuses.into_iter().chain(old.init_container_statuses).flatten();
                self.not_resized = running.map(|s| (s.name, s.resources)).collect();
                self.pod_not_resized = Some(old.resources);
                Vec::new()
            }
        }
    }

    fn report(&mut self, kubelet: &Kubelet, pod: &Pod, runtime: &PodRuntime) -> PodStatus {
        let old = kubelet.statuses.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
        let subject = Subject {
            pod,
            runtime,
            old: &old,
            start_errors: &self.start_errors,
            probes: kubelet.probes.as_ref(),
            host: &kubelet.config.node_ips,
            terminal: false,
        };
        let mut status = generate(&subject);
        let lists = [&mut status.container_statuses, &mut status.init_container_statuses];
        for one in lists.into_iter().flatten().flatten() {
            if let Some(resources) = self.not_resized.get(&one.name) {
                one.resources.clone_from(resources);
            }
        }
        if let Some(resources) = &self.pod_not_resized {
            status.resources.clone_from(resources);
        }
        kubelet.statuses.set(pod, status.clone(), true);
        self.count_start(kubelet, pod, &status);
        status
    }

    /// Everything containers need around them: network, objects, groups, directories and volumes.
    async fn prepare(&self, kubelet: &Kubelet, pod: &Arc<Pod>) -> Result<Arc<HashMap<String, MountedVolume>>, Stop> {
        if let Some(error) = kubelet.health.get().network_error
            && !pod.host_network()
        {
            let message = format!("network is not ready: {error}");
            kubelet.pod_warning(pod, "NetworkNotReady", &message);
            return Err(Stop(message));
        }
        let (maps, secrets) = referenced_objects(pod);
        kubelet.config_maps.register(pod.uid(), pod.namespace(), &maps);
        kubelet.secrets.register(pod.uid(), pod.namespace(), &secrets);
        if let Err((reason, message)) = make_group_and_directory(kubelet, pod).await {
            kubelet.pod_warning(pod, reason, &message);
            return Err(Stop(message));
        }
        // What was there once is there: it is brought up to date beside what follows.
        if let Some(volumes) = kubelet.volumes.known(pod).await {
            kubelet.refresh_volumes(pod);
            return Ok(volumes);
        }
        match kubelet.volumes.set_up(pod).await {
            Ok(volumes) => Ok(Arc::new(volumes)),
            Err(errors) => {
                for error in &errors {
                    kubelet.pod_warning(pod, error.reason(), error.to_string());
                }
                let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(Stop(all.join("; ")))
            }
        }
    }

    async fn act(
        &mut self,
        kubelet: &Kubelet,
        pod: &Pod,
        runtime: &PodRuntime,
        volumes: &HashMap<String, MountedVolume>,
        actions: &Actions,
        acted: &mut bool,
    ) -> Result<Outcome, Stop> {
        if actions.kill_pod {
            *acted = !runtime.is_empty();
            if actions.create_sandbox && actions.sandbox_id.is_some() {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                kubelet.event(&pod.reference(), EventType::Normal, "SandboxChanged", message);
            }
            kill_pod(kubelet, pod, runtime, None).await?;
            if !actions.create_sandbox {
                return Ok(Outcome::Settled { again: None });
            }
        } else {
            for kill in &actions.kill {
                *acted = true;
                info!(pod = pod.display(), container = kill.name, why = kill.message, "killing a container");
                kill_container(kubelet, pod, kill).await?;
            }
        }
        let nothing = [&actions.init_containers, &actions.containers, &actions.ephemeral_containers];
        if !actions.create_sandbox && nothing.iter().all(|list| list.is_empty()) {
            self.start_errors.retain(|name, _| runtime.latest(name).is_none());
            return Ok(Outcome::Settled { again: None });
        }
        *acted = true;
        let (id, config, ips) = sandbox::ensure(kubelet, pod, runtime, actions).await.map_err(Stop)?;
        let starter = Starter { kubelet, pod, runtime, volumes, sandbox_id: &id, sandbox: &config, ips: &ips };
        self.start_all(&starter, actions).await
    }

    /// Starts in upstream's order. A container that fails does not keep the others from starting, but an init container
    /// does keep those behind it.
    async fn start_all(&mut self, starter: &Starter<'_>, actions: &Actions) -> Result<Outcome, Stop> {
        let pod = starter.pod;
        let mut round = Round::default();
        for container in actions.ephemeral_containers.iter().filter_map(|i| pod.ephemeral_containers().get(*i)) {
            let target = container.target_container_name.as_deref();
            let result = starter.start(&ephemeral_as_container(container), target).await;
            self.note(starter, &container.name, result, &mut round);
        }
        for container in actions.init_containers.iter().filter_map(|i| pod.init_containers().get(*i)) {
            let result = starter.start(container, None).await;
            let failed = result.is_err();
            self.note(starter, &container.name, result, &mut round);
            if failed && !is_sidecar(container) {
                return Ok(round.outcome());
            }
        }
        let containers: Vec<&Container> =
            actions.containers.iter().filter_map(|i| PodExt::spec(pod).containers.get(*i)).collect();
        for container in containers {
            let result = starter.start(container, None).await;
            self.note(starter, &container.name, result, &mut round);
        }
        Ok(round.outcome())
    }

    fn note(&mut self, starter: &Starter<'_>, name: &str, result: Result<(), StartError>, round: &mut Round) {
        match result {
            Ok(()) => {
                self.start_errors.remove(name);
            }
            Err(error) => {
                debug!(pod = starter.pod.display(), container = name, error = error.message, "container not started");
                match error.until {
                    Some(until) => round.until = Some(round.until.map_or(until, |u| u.min(until))),
                    None => round.failed = Some(format!("{}: {}", error.reason, error.message)),
                }
                round.now = Some(starter.kubelet.clock.now());
                self.start_errors.insert(name.to_string(), (error.reason.to_string(), error.message));
            }
        }
    }
}

/// The group and the directory that all of a pod is in; a failure is told as (reason, message).
async fn make_group_and_directory(kubelet: &Kubelet, pod: &Pod) -> Result<(), (&'static str, String)> {
    let directory = kubelet.directories.volumes(pod.uid());
    let (groups, group, limits) = (kubelet.cgroups.clone(), cgroups::pod_path(pod), cgroups::pod_limits(pod));
    let made = directory.clone();
    let make = move || {
        if let Some(groups) = groups
            && !groups.exists(&group)
            && let Err(error) = groups.ensure(&group, &limits)
        {
            return Err(("FailedCreatePodContainer", format!("unable to ensure pod container exists: {error}")));
        }
        std::fs::create_dir_all(&made)
            .map_err(|error| ("Failed", format!("error making pod data directories: {error}")))
    };
    let done = kubelet.files.of_pod(pod.uid(), "make", &directory, make).await;
    done.unwrap_or_else(|error| Err(("FailedMount", error.to_string())))
}

/// A container that is killed for its new resources is started again in the same round.
fn add_restarts(pod: &Pod, restarts: Vec<Kill>, actions: &mut Actions) {
    for kill in restarts {
        if actions.kill.iter().any(|k| k.id == kill.id) {
            continue;
        }
        let index = PodExt::spec(pod).containers.iter().position(|c| c.name == kill.name);
        actions.containers.extend(index);
        actions.kill.push(kill);
    }
}

fn ended(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// What the starts of one round came to.
#[derive(Default)]
struct Round {
    now: Option<Timestamp>,
    /// When the first delay is over.
    until: Option<Timestamp>,
    failed: Option<String>,
}

impl Round {
    fn outcome(self) -> Outcome {
        if let Some(error) = self.failed {
            return Outcome::Failed { error };
        }
        let again = self.now.zip(self.until).map(|(now, until)| {
            let left = until.duration_since(now);
            Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1)
        });
        Outcome::Settled { again }
    }
}
