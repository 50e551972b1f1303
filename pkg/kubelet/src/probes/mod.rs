//! Liveness, readiness and startup probes: one task a probe, results by container id.

mod counts;
mod grpc;
mod handler;
mod results;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Probe};
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::EventRecorder;
use kedge_cri::Runtime;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::pod::{PodExt, is_sidecar};
use crate::status::ReadinessView;
use crate::sync::ProbeView;
use counts::Counts;
use kedge_base::exposition::Exposition;
use results::Results;
use worker::Worker;

/// What a probe decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

impl ProbeKind {
    const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];

    /// The word in events.
    fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Startup => "Startup",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
            ProbeKind::Startup => container.startup_probe.as_ref(),
        }
    }

    /// What counts before the first verdict about a container; `None`: nothing is known.
    fn initial(self) -> Option<bool> {
        match self {
            ProbeKind::Liveness => Some(true),
            ProbeKind::Readiness => Some(false),
            ProbeKind::Startup => None,
        }
    }
}

/// A result that is not what it was.
#[derive(Clone, Debug)]
pub(crate) struct ProbeChange {
    pub(crate) pod: Arc<Pod>,
    pub(crate) kind: ProbeKind,
    /// As in the API: `containerd://<id>`.
    pub(crate) container_id: String,
    pub(crate) success: bool,
}

/// The latest status of a pod, by uid.
pub(crate) type StatusOf = Arc<dyn Fn(&str) -> Option<PodStatus> + Send + Sync>;

/// What probes need of their surroundings.
pub(crate) struct ProbeContext {
    pub(crate) clock: SharedClock,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) recorder: EventRecorder,
    pub(crate) status: StatusOf,
    pub(crate) changed: Arc<dyn Fn(&ProbeChange) + Send + Sync>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    container: String,
    kind: ProbeKind,
}

struct Running {
    tasks: TaskGroup,
    /// Lets the probe run now instead of at the end of its period.
    now: Arc<Notify>,
}

/// All probes of this node.
pub(crate) struct Probes {
    context: Arc<ProbeContext>,
    tasks: TaskGroup,
    results: Arc<Results>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
    counts: Counts,
    started_at: Timestamp,
}

impl Probes {
    pub(crate) fn new(context: ProbeContext, tasks: &TaskGroup) -> Arc<Probes> {
        let started_at = context.clock.now();
        Arc::new(Probes {
            context: Arc::new(context),
            tasks: tasks.clone(),
            results: Arc::default(),
            running: Arc::default(),
            counts: Counts::default(),
            started_at,
        })
    }

    /// Writes out how often the probes that run succeeded.
    pub(crate) fn show(&self, out: &mut Exposition) {
        self.counts.show(out);
    }

    /// Starts the probes of a pod that do not run yet. Call it before the pod's first status is computed: containers
    /// that ran before this kubelet keep the verdicts that the API has.
    pub(crate) fn add_pod(&self, pod: &Pod) {
        let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
        for container in PodExt::spec(pod).containers.iter().chain(sidecars) {
            for kind in ProbeKind::ALL {
                if let Some(probe) = kind.of(container) {
                    self.add(pod, container, kind, probe);
                }
            }
        }
    }

    fn add(&self, pod: &Pod, container: &Container, kind: ProbeKind, probe: &Probe) {
        let key = Key { uid: pod.uid().to_string(), container: container.name.clone(), kind };
        let mut running = self.running.lock();
        if running.contains_key(&key) {
            return;
        }
        self.seed(pod, container, kind);
        let tasks = self.tasks.child("probe");
        let now = Arc::new(Notify::new());
        running.insert(key.clone(), Running { tasks: tasks.clone(), now: now.clone() });
        drop(running);
        let count = self.counts.begin(kind, pod, &container.name);
        let worker =
            Worker::new(self.context.clone(), self.results.clone(), pod, container, kind, probe).counted(count);
        let (registry, started_at) = (self.running.clone(), self.started_at);
        let shutdown = tasks.shutdown().clone();
        // After a panic the probe begins to count anew; its last verdict stands until there is another.
        tasks.spawn_worker("probe", move || {
            let (mut worker, now, key) = (worker.clone(), now.clone(), key.clone());
            let (registry, shutdown) = (registry.clone(), shutdown.clone());
            async move {
                worker.run(started_at, &now).await;
                // One that was stopped is no longer in the list, and another may be there in its place.
                if !shutdown.is_requested() {
                    registry.lock().remove(&key);
                }
            }
        });
    }

    /// Takes over what the API knows of a container that was started before this kubelet.
    fn seed(&self, pod: &Pod, container: &Container, kind: ProbeKind) {
        let status = pod.status();
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        let Some(old) = all.find(|s| s.name == container.name) else { return };
        let started = old.state.as_ref().and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref());
        if started.is_none_or(|at| at.0 >= self.started_at) {
            return;
        }
        let verdict = match kind {
            ProbeKind::Readiness => Some(old.ready),
            ProbeKind::Startup => old.started.filter(|started| *started),
            ProbeKind::Liveness => Some(true),
        };
        if let (Some(verdict), Some(id)) = (verdict, bare_id(old)) {
            self.results.set(kind, id, verdict);
        }
    }

    /// Ends the probes that would kill containers, because the pod is being stopped. Readiness is still told.
    pub(crate) fn terminating(&self, uid: &str) {
        self.stop(uid, |kind| kind != ProbeKind::Readiness);
    }

    /// Ends all probes of a pod.
    pub(crate) fn remove_pod(&self, uid: &str) {
        self.stop(uid, |_| true);
    }

    fn stop(&self, uid: &str, which: impl Fn(ProbeKind) -> bool) {
        self.running.lock().retain(|key, running| {
            let end = key.uid == uid && which(key.kind);
            if end {
                running.tasks.shutdown().trigger();
            }
            !end
        });
        if which(ProbeKind::Readiness) {
            self.results.forget_pod(uid);
        }
    }

    /// A verdict that is not good yet is worth asking for again at once, since something has just changed.
    fn hurry(&self, uid: &str, container: &str, kind: ProbeKind) -> bool {
        let key = Key { uid: uid.to_string(), container: container.to_string(), kind };
        let running = self.running.lock();
        let found = running.get(&key);
        found.inspect(|running| running.now.notify_one());
        found.is_some()
    }
}

/// The id without the runtime's name before it.
fn bare_id(status: &ContainerStatus) -> Option<&str> {
    status.container_id.as_deref()?.split_once("://").map(|(_, id)| id)
}

impl ProbeView for Probes {
    fn liveness(&self, container_id: &str) -> Option<bool> {
        self.results.get(ProbeKind::Liveness, container_id)
    }

    fn startup(&self, container_id: &str) -> Option<bool> {
        self.results.get(ProbeKind::Startup, container_id)
    }
}

impl ReadinessView for Probes {
    fn started(&self, pod_uid: &str, container: &str, container_id: &str) -> Option<bool> {
        match self.results.get(ProbeKind::Startup, container_id) {
            Some(verdict) => Some(verdict),
            None => self.hurry(pod_uid, container, ProbeKind::Startup).then_some(false),
        }
    }

    fn ready(&self, pod_uid: &str, container: &str, container_id: &str) -> Option<bool> {
        match self.results.get(ProbeKind::Readiness, container_id) {
            Some(true) => Some(true),
            _ => self.hurry(pod_uid, container, ProbeKind::Readiness).then_some(false),
        }
    }
}
