//! One probe: when to run it, and when its results become a verdict.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Probe};
use kedge_base::random;
use kedge_client::EventType;
use tokio::sync::Notify;

use super::counts::{Count, Tried};
use super::handler::{self, Outcome, Subject};
use super::results::Results;
use super::{ProbeChange, ProbeContext, ProbeKind, bare_id};
use crate::pod::{PodExt, is_sidecar};
use crate::sync::should_restart;

/// A probe that could not be run at all is tried again this often before that is told.
const ATTEMPTS: usize = 3;

/// Counts equal results in a row; a verdict falls when there are enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    last: Option<bool>,
    run: u32,
}

impl Counter {
    /// The verdict, if there is one now.
    pub(super) fn count(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let enough = if success { probe.success_threshold } else { probe.failure_threshold };
        let default = if success { 1 } else { 3 };
        let enough = u32::try_from(enough.filter(|n| *n > 0).unwrap_or(default)).unwrap_or(1);
        (self.run >= enough).then_some(success)
    }
}

/// Why the probe does not run now, or that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Look again later.
    Wait,
    /// Never again.
    End,
    Run,
}

/// The task of one probe.
#[derive(Clone)]
pub(super) struct Worker {
    context: Arc<ProbeContext>,
    results: Arc<Results>,
    pod: Arc<Pod>,
    container: Container,
    kind: ProbeKind,
    probe: Probe,
    /// The container that was last probed, as the API writes its id.
    current: String,
    counter: Counter,
    /// A verdict was reached that only a new container can change.
    on_hold: bool,
    count: Option<Arc<Count>>,
}

impl Worker {
    /// The same, counting what comes of each try.
    pub(super) fn counted(self, count: Arc<Count>) -> Worker {
        Worker { count: Some(count), ..self }
    }

    pub(super) fn new(
        context: Arc<ProbeContext>,
        results: Arc<Results>,
        pod: &Pod,
        container: &Container,
        kind: ProbeKind,
        probe: &Probe,
    ) -> Worker {
        Worker {
            context,
            results,
            pod: Arc::new(pod.clone()),
            container: container.clone(),
            kind,
            probe: probe.clone(),
            current: String::new(),
            counter: Counter::default(),
            on_hold: false,
            count: None,
        }
    }

    fn period(&self) -> Duration {
        let seconds = self.probe.period_seconds.filter(|s| *s > 0).unwrap_or(10);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(10))
    }

    /// Runs until the pod or the container has ended for good.
    pub(super) async fn run(&mut self, kubelet_start: Timestamp, now: &Notify) {
        let clock = self.context.clock.clone();
        let period = self.period();
        let age = clock.now().duration_since(kubelet_start).unsigned_abs();
        let adopted = self.status().is_some_and(|s| self.container_of(&s).is_some());
        // After a restart of the kubelet all probes begin at once; they are spread over their first period.
        if adopted && period > age {
            let millis = u64::try_from(period.as_millis()).unwrap_or(1).max(1);
            clock.sleep(Duration::from_millis(random::u64() % millis)).await;
        }
        while self.round().await {
            tokio::select! {
                () = clock.sleep(period) => {}
                () = now.notified() => {}
            }
        }
        self.forget_current();
    }

    fn forget_current(&self) {
        if let Some((_, id)) = self.current.split_once("://") {
            self.results.forget(self.kind, id);
        }
    }

    fn status(&self) -> Option<PodStatus> {
        (self.context.status)(self.pod.uid())
    }

    fn container_of(&self, status: &PodStatus) -> Option<ContainerStatus> {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        all.find(|s| s.name == self.container.name && s.container_id.is_some()).cloned()
    }

    /// Whether to go on.
    async fn round(&mut self) -> bool {
        let Some(status) = self.status() else { return true };
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return false;
        }
        let Some(container) = self.container_of(&status) else { return true };
        self.follow(&container);
        match self.step(&container) {
            Step::Wait => return true,
            Step::End => return false,
            Step::Run => {}
        }
        let ip = status.pod_ip.clone().unwrap_or_default();
        if let Some(success) = self.probe_once(&container, &ip).await
            && let Some(verdict) = self.counter.count(success, &self.probe)
        {
            self.set(verdict);
            let final_verdict = match self.kind {
                ProbeKind::Liveness => !verdict,
                ProbeKind::Startup => true,
                ProbeKind::Readiness => false,
            };
            if final_verdict {
                // A container that failed is made anew, one that has started stays so.
                self.on_hold = true;
                self.counter = Counter::default();
            }
        }
        true
    }

    /// Begins anew when the container was made anew.
    fn follow(&mut self, container: &ContainerStatus) {
        let id = container.container_id.clone().unwrap_or_default();
        if self.current == id {
            return;
        }
        self.forget_current();
        self.current = id;
        self.on_hold = false;
        self.counter = Counter::default();
        let Some(id) = bare_id(container) else { return };
        self.results.belongs(id, self.pod.uid());
        // A verdict taken over from before this kubelet stays until there is a new one.
        if self.results.get(self.kind, id).is_none()
            && let Some(initial) = self.kind.initial()
        {
            self.results.set(self.kind, id, initial);
        }
        let known = self.results.get(self.kind, id);
        self.on_hold = self.kind == ProbeKind::Startup && known == Some(true);
    }

    fn step(&self, container: &ContainerStatus) -> Step {
        if self.on_hold {
            return Step::Wait;
        }
        let state = container.state.clone().unwrap_or_default();
        let Some(running) = state.running else {
            self.set(false);
            let again = match state.terminated {
                Some(ended) => {
                    is_sidecar(&self.container) || should_restart(&self.pod, &self.container, ended.exit_code)
                }
                None => true,
            };
            return if again { Step::Wait } else { Step::End };
        };
        let started_at = running.started_at.map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let age = self.context.clock.now().duration_since(started_at).as_secs();
        if age < i64::from(self.probe.initial_delay_seconds.unwrap_or_default()) {
            return Step::Wait;
        }
        // A startup probe comes first and alone.
        let started = container.started == Some(true);
        if started == (self.kind == ProbeKind::Startup) { Step::Wait } else { Step::Run }
    }

    /// `None` when the probe could not be run.
    async fn probe_once(&self, container: &ContainerStatus, ip: &str) -> Option<bool> {
        let subject =
            Subject { container: &self.container, container_id: bare_id(container).unwrap_or_default(), pod_ip: ip };
        let mut outcome = Outcome::Success;
        for _ in 0..ATTEMPTS {
            let begun = self.context.clock.monotonic();
            outcome = handler::run(&self.probe, &subject, self.context.runtime.as_ref()).await;
            let took = self.context.clock.monotonic().saturating_sub(begun);
            let tried = match &outcome {
                Outcome::Success | Outcome::Warning(_) => Tried::Succeeded,
                Outcome::Failure(_) => Tried::Failed,
                Outcome::Error(_) => Tried::Unknown,
            };
            if let Some(count) = &self.count {
                count.add(tried, took.as_secs_f64());
            }
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
        }
        let kind = self.kind.as_str();
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(text) => {
                self.event("ProbeWarning", format!("{kind} probe warning: {text}"));
                Some(true)
            }
            Outcome::Failure(text) => {
                self.event("Unhealthy", format!("{kind} probe failed: {text}"));
                Some(false)
            }
            Outcome::Error(text) => {
                self.event("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {text}"));
                None
            }
        }
    }

    fn event(&self, reason: &str, message: String) {
        let reference = self.pod.container_reference(&self.container.name);
        self.context.recorder.event(&reference, EventType::Warning, reason, message);
    }

    fn set(&self, verdict: bool) {
        let Some((_, id)) = self.current.split_once("://") else { return };
        if self.results.set(self.kind, id, verdict) {
            (self.context.changed)(&ProbeChange {
                pod: self.pod.clone(),
                kind: self.kind,
                container_id: self.current.clone(),
                success: verdict,
            });
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
