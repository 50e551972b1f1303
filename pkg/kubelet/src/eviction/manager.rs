//! Looks every ten seconds, tells the node's conditions, and acts: first what nobody needs is removed, then one pod at a time.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::TaskGroup;
use kedge_client::EventType;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::measure::{Places, has_own_images, measure, measure_disks};
use super::message::message;
use super::plan::{Plan, Planner, Threshold, thresholds};
use super::rank::{Used, container_over_limit, is_critical, needs_files, pod_over_limit, rank};
use super::signals::{Condition, Observation, Signal};
use crate::kubelet::Kubelet;
use crate::metrics::label;
use crate::node;
use crate::pod::{PodExt, pod_limits};
use crate::stats::{self, Snapshot, Walk};
use crate::worker::{Workers, collect_all, free_images};

/// Upstream's period.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the end of a pod is waited for before the next is looked at.
const CLEANUP: Duration = Duration::from_secs(30);
const CLEANUP_LOOK: Duration = Duration::from_millis(1250);
/// Upstream's grace of pods that go because of a hard threshold, in seconds.
const AT_ONCE: i64 = 1;
/// How often the volumes of pods with limits are counted; logs are few, and counted each time.
const VOLUMES: Duration = Duration::from_secs(60);
/// The signals in metrics of a container, and of a pod, that writes too much.
const CONTAINER_LIMIT: &str = "ephemeralcontainerfs.limit";
const POD_LIMIT: &str = "ephemeralpodfs.limit";

/// Starts to look.
pub(crate) fn start(kubelet: Arc<Kubelet>, workers: Arc<Workers>, tasks: &TaskGroup) {
    let args = &kubelet.config.args;
    let planner = Planner::new(thresholds(args), args.pressure_transition);
    tasks.spawn_worker("eviction", move || {
        let manager =
            Manager { kubelet: kubelet.clone(), workers: workers.clone(), planner: planner.clone(), counted: None };
        manager.run()
    });
}

struct Manager {
    kubelet: Arc<Kubelet>,
    workers: Arc<Workers>,
    planner: Planner,
    /// When the volumes of pods with limits were counted last.
    counted: Option<Duration>,
}

/// What pods use, with those whose files could not all be counted.
struct Summary {
    stats: Value,
    uncounted: HashSet<String>,
}

impl Summary {
    fn of(&self, uid: &str) -> Used<'_> {
        Used { stats: part_of(&self.stats, uid), uncounted: self.uncounted.contains(uid) }
    }
}

impl Manager {
    async fn run(mut self) {
        let clock = self.kubelet.clock.clone();
        loop {
            match self.round().await {
                Some(uid) => self.wait_for_end(&uid).await,
                None => clock.sleep(PERIOD).await,
            }
        }
    }

    async fn places(&self) -> Places {
        let kubelet = &self.kubelet;
        let info = kubelet.runtime.image_fs_info().await.unwrap_or_default();
        let id = info.image_filesystems.into_iter().next().and_then(|f| f.fs_id);
        // While the runtime does not answer, the disk of pods stands for that of images.
        let images = id.map_or_else(|| kubelet.config.root_dir.clone(), |id| id.mountpoint.into());
        Places { root: kubelet.config.root_dir.clone(), images }
    }

    /// Memory and process ids.
    async fn observe(&self) -> Option<BTreeMap<Signal, Observation>> {
        let kubelet = &self.kubelet;
        let (memory, groups) = (kubelet.machine.memory, kubelet.cgroups.clone());
        let look = move || measure(memory, groups.as_deref());
        let seen = kubelet.files.of_node("eviction", "measure", Path::new("/proc"), look).await;
        seen.inspect_err(|error| warn!(%error, "cannot measure how much is left")).ok()
    }

    /// Disks: one that hangs keeps nobody from looking at memory.
    async fn observe_disks(&self, places: &Places) -> Option<BTreeMap<Signal, Observation>> {
        let of = places.clone();
        let look = move || measure_disks(&of);
        let seen = self.kubelet.files.of_node("eviction-disks", "measure", &places.images, look).await;
        seen.inspect_err(|error| warn!(%error, "cannot measure how much is left on disks")).ok()
    }

    /// One look; the uid of the pod that has to go, if one has.
    async fn round(&mut self) -> Option<String> {
        let places = self.places().await;
        // What cannot be measured is not short; the conditions stay for a while.
        let mut seen = self.observe().await?;
        seen.extend(self.observe_disks(&places).await.unwrap_or_default());
        let plan = self.planner.look(&seen, self.kubelet.clock.monotonic());
        self.kubelet.pressure.send_if_modified(|pressure| std::mem::replace(pressure, plan.pressure) != plan.pressure);
        // The whole node comes before the limits of one pod.
        if let Some(first) = plan.reclaim.first().copied()
            && let Some(uid) = self.relieve(&places, &plan, &first, &seen).await
        {
            return Some(uid);
        }
        self.enforce_limits(&places).await
    }

    /// Makes room, if possible without a pod that has to go.
    async fn relieve(
        &self,
        places: &Places,
        plan: &Plan,
        first: &Threshold,
        seen: &BTreeMap<Signal, Observation>,
    ) -> Option<String> {
        let resource = first.signal.resource();
        info!(resource, signal = first.signal.as_str(), "the node is short of something");
        let reference = node::reference(&self.kubelet.config.node_name);
        let told = format!("Attempting to reclaim {resource}");
        self.kubelet.event(&reference, EventType::Warning, "EvictionThresholdMet", told);
        if first.signal.condition() == Condition::Disk && self.reclaim_of_node(places, first.signal).await {
            info!(resource, "what nobody needs was enough to remove");
            return None;
        }
        self.evict(places, plan, first, seen).await
    }

    /// Removes what no pod needs; whether that was enough.
    async fn reclaim_of_node(&self, places: &Places, signal: Signal) -> bool {
        if let Err(error) = collect_all(&self.kubelet, &self.workers).await {
            warn!(%error, "cannot remove dead containers");
        }
        if let Err(error) = free_images(&self.kubelet).await {
            warn!(%error, "cannot remove unused images");
        }
        let Some(mut seen) = self.observe().await else { return false };
        seen.extend(self.observe_disks(places).await.unwrap_or_default());
        // Of what could not be measured nobody knows whether it is enough.
        seen.contains_key(&signal) && self.planner.is_resolved(&seen)
    }

    /// Pods that run, with what they use.
    fn active(&self) -> Vec<Pod> {
        let decoded = self.kubelet.pods.list().into_iter().filter(|raw| !self.workers.is_ending(&raw.metadata.uid));
        let pods = decoded.filter_map(|raw| raw.decode().ok());
        let ended = |pod: &Pod| {
            let known = self.kubelet.statuses.get(pod.uid());
            known.is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")))
        };
        pods.filter(|pod| !pod.is_terminal() && !ended(pod)).collect()
    }

    /// What pods use; without a walk only memory and CPU. `None` when it cannot be told: nobody goes because of what was not measured.
    async fn summary(&self, walk: Option<Walk<'_>>) -> Option<Summary> {
        let unknown = |error: &stats::StatsError| warn!(%error, "what pods use is not known, and none is evicted");
        let rates = stats::CpuRates::default();
        let snapshot = Snapshot::read(&self.kubelet).await.inspect_err(unknown).ok()?;
        let mut stats = stats::summary(&self.kubelet.config.node_name, &snapshot, &rates);
        let uncounted = match walk {
            Some(walk) => stats::complete_with(&self.kubelet, &mut stats, walk).await.inspect_err(unknown).ok()?,
            None => HashSet::new(),
        };
        Some(Summary { stats, uncounted })
    }

    /// Whether images are on a disk of their own; `None` when it cannot be told.
    async fn own_images(&self, places: &Places) -> Option<bool> {
        let of = places.clone();
        let look = move || has_own_images(&of);
        let found = self.kubelet.files.of_node("eviction-disks", "look at", &places.images, look).await;
        found.inspect_err(|error| warn!(%error, "cannot look at the disk of images")).ok()
    }

    async fn evict(
        &self,
        places: &Places,
        plan: &Plan,
        first: &Threshold,
        seen: &BTreeMap<Signal, Observation>,
    ) -> Option<String> {
        let active = self.active();
        if active.is_empty() {
            warn!("the node is short of something, and no pod runs that could go");
            return None;
        }
        let condition = first.signal.condition();
        let own_images = if condition == Condition::Disk { self.own_images(places).await? } else { false };
        let uids: HashSet<String> = active.iter().map(|pod| pod.uid().to_owned()).collect();
        // Memory and process ids do not wait for files to be counted.
        let walk = match condition {
            Condition::Memory => None,
            _ if needs_files(first.signal, own_images) => Some(Walk::Of { uids: &uids, volumes: true }),
            _ => Some(Walk::Nothing),
        };
        let summary = self.summary(walk).await?;
        let pods: Vec<(Pod, Used<'_>)> = active
            .into_iter()
            .map(|pod| {
                let used = summary.of(pod.uid());
                (pod, used)
            })
            .collect();
        for index in rank(&pods, first.signal, own_images) {
            let (pod, used) = &pods[index];
            if is_critical(pod) {
                debug!(pod = pod.display(), "a critical pod is not evicted");
                continue;
            }
            let told = message(pod, used, first.signal, &plan.reclaim, seen);
            let grace = if first.is_hard() { AT_ONCE } else { self.soft_grace(pod) };
            info!(pod = pod.display(), message = told, grace, "evicting a pod");
            self.kubelet.metrics.evictions.add(label("eviction_signal", first.signal.as_str()));
            self.workers.evict_for(pod.uid(), told, grace);
            return Some(pod.uid().to_owned());
        }
        warn!("unable to evict any pods from the node");
        None
    }

    /// Of a soft threshold: the pod's own time, but no more than the node grants.
    fn soft_grace(&self, pod: &Pod) -> i64 {
        let most = self.kubelet.config.args.eviction_max_pod_grace;
        PodExt::spec(pod).termination_grace_period_seconds.map_or(most, |own| own.min(most))
    }

    /// Containers and pods with a limit of what they may write; only where some have one does anything cost.
    async fn enforce_limits(&mut self, places: &Places) -> Option<String> {
        if !self.kubelet.pods.list().iter().any(|raw| raw.json().contains("\"ephemeral-storage\"")) {
            return None;
        }
        let is_limited = |pod: &Pod| pod_limits(pod).contains_key("ephemeral-storage") && !is_critical(pod);
        let limited: Vec<Pod> = self.active().into_iter().filter(is_limited).collect();
        if limited.is_empty() {
            return None;
        }
        let own_images = self.own_images(places).await?;
        let uids: HashSet<String> = limited.iter().map(|pod| pod.uid().to_owned()).collect();
        let now = self.kubelet.clock.monotonic();
        let volumes = self.counted.is_none_or(|counted| now.saturating_sub(counted) >= VOLUMES);
        let summary = self.summary(Some(Walk::Of { uids: &uids, volumes })).await?;
        if volumes {
            self.counted = Some(now);
        }
        limited.iter().find_map(|pod| {
            let used = summary.of(pod.uid());
            let of_container = container_over_limit(pod, &used, own_images).map(|told| (told, CONTAINER_LIMIT));
            let (told, signal) = of_container.or_else(|| pod_over_limit(pod, &used).map(|told| (told, POD_LIMIT)))?;
            info!(pod = pod.display(), message = told, "evicting a pod");
            self.kubelet.metrics.evictions.add(label("eviction_signal", signal));
            self.workers.evict_for(pod.uid(), told, AT_ONCE);
            Some(pod.uid().to_owned())
        })
    }

    async fn wait_for_end(&self, uid: &str) {
        let clock = &self.kubelet.clock;
        let until = clock.monotonic() + CLEANUP;
        while clock.monotonic() < until && !self.kubelet.statuses.is_finished(uid) {
            clock.sleep(CLEANUP_LOOK).await;
        }
    }
}

fn part_of<'a>(summary: &'a Value, uid: &str) -> Option<&'a Value> {
    summary["pods"].as_array()?.iter().find(|pod| pod["podRef"]["uid"] == uid)
}
