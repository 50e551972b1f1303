//! Looks every ten seconds, tells the node's conditions, and acts: first what nobody needs is removed, then one pod at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::TaskGroup;
use kedge_client::EventType;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::measure::{Places, has_own_images, measure};
use super::message::message;
use super::plan::{Plan, Planner, Threshold, thresholds};
use super::rank::{Used, container_over_limit, is_critical, rank};
use super::signals::{Condition, Observation, Signal};
use crate::kubelet::Kubelet;
use crate::metrics::label;
use crate::node;
use crate::pod::PodExt;
use crate::stats::{self, Snapshot};
use crate::worker::{Workers, collect_all, free_images};

/// Upstream's period.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the end of a pod is waited for before the next is looked at.
const CLEANUP: Duration = Duration::from_secs(30);
const CLEANUP_LOOK: Duration = Duration::from_millis(1250);
/// Upstream's grace of pods that go because of a hard threshold, in seconds.
const AT_ONCE: i64 = 1;
/// The signal in metrics of a container that writes too much.
const CONTAINER_LIMIT: &str = "ephemeralcontainerfs.limit";

/// Starts to look.
pub(crate) fn start(kubelet: Arc<Kubelet>, workers: Arc<Workers>, tasks: &TaskGroup) {
    let args = &kubelet.config.args;
    let planner = Planner::new(thresholds(args), args.pressure_transition);
    tasks.spawn_worker("eviction", move || {
        let manager = Manager { kubelet: kubelet.clone(), workers: workers.clone(), planner: planner.clone() };
        manager.run()
    });
}

struct Manager {
    kubelet: Arc<Kubelet>,
    workers: Arc<Workers>,
    planner: Planner,
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
        Places { root: kubelet.config.root_dir.clone(), images, pods_memory: kubelet.machine.memory }
    }

    async fn observe(&self, places: &Places) -> Option<BTreeMap<Signal, Observation>> {
        let (of, groups) = (places.clone(), self.kubelet.cgroups.clone());
        let look = move || measure(&of, groups.as_deref());
        let seen = self.kubelet.files.of_node("eviction", "measure", &places.images, look).await;
        seen.inspect_err(|error| warn!(%error, "cannot measure how much is left")).ok()
    }

    /// One look; the uid of the pod that has to go, if one has.
    async fn round(&mut self) -> Option<String> {
        let places = self.places().await;
        // What was measured last stands for what cannot be measured: the conditions stay.
        let seen = self.observe(&places).await?;
        let plan = self.planner.look(&seen, self.kubelet.clock.monotonic());
        self.kubelet.pressure.send_if_modified(|pressure| std::mem::replace(pressure, plan.pressure) != plan.pressure);
        if let Some(uid) = self.enforce_container_limits(&places).await {
            return Some(uid);
        }
        let first = *plan.reclaim.first()?;
        let resource = first.signal.resource();
        info!(resource, signal = first.signal.as_str(), "the node is short of something");
        let reference = node::reference(&self.kubelet.config.node_name);
        let told = format!("Attempting to reclaim {resource}");
        self.kubelet.event(&reference, EventType::Warning, "EvictionThresholdMet", told);
        if first.signal.condition() == Condition::Disk && self.reclaim_of_node(&places).await {
            info!(resource, "what nobody needs was enough to remove");
            return None;
        }
        self.evict(&plan, &first, &seen).await
    }

    /// Removes what no pod needs; whether that was enough.
    async fn reclaim_of_node(&self, places: &Places) -> bool {
        if let Err(error) = collect_all(&self.kubelet, &self.workers).await {
            warn!(%error, "cannot remove dead containers");
        }
        if let Err(error) = free_images(&self.kubelet).await {
            warn!(%error, "cannot remove unused images");
        }
        self.observe(places).await.is_some_and(|seen| self.planner.is_resolved(&seen))
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

    async fn summary(&self) -> Value {
        let rates = stats::CpuRates::default();
        let snapshot = Snapshot::read(&self.kubelet).await.unwrap_or_else(|error| {
            warn!(%error, "what pods use is not known");
            Snapshot::default()
        });
        let mut summary = stats::summary(&self.kubelet.config.node_name, &snapshot, &rates);
        if let Err(error) = stats::complete(&self.kubelet, &mut summary).await {
            warn!(%error, "what pods use is not known whole");
        }
        summary
    }

    async fn evict(&self, plan: &Plan, first: &Threshold, seen: &BTreeMap<Signal, Observation>) -> Option<String> {
        let active = self.active();
        if active.is_empty() {
            warn!("the node is short of something, and no pod runs that could go");
            return None;
        }
        let summary = self.summary().await;
        let pods: Vec<(Pod, Used<'_>)> = active
            .into_iter()
            .map(|pod| {
                let used = Used(part_of(&summary, pod.uid()));
                (pod, used)
            })
            .collect();
        for index in rank(&pods, first.signal) {
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

    /// Containers with a limit of what they may write; only where some have one does anything cost.
    async fn enforce_container_limits(&self, places: &Places) -> Option<String> {
        if !self.kubelet.pods.list().iter().any(|raw| raw.json().contains("\"ephemeral-storage\"")) {
            return None;
        }
        let limits = |pod: &Pod| {
            let limited = |c: &k8s_openapi::api::core::v1::Container| {
                let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
                limits.is_some_and(|limits| limits.contains_key("ephemeral-storage"))
            };
            PodExt::spec(pod).containers.iter().any(limited)
        };
        let limited: Vec<Pod> = self.active().into_iter().filter(limits).collect();
        if limited.is_empty() {
            return None;
        }
        let at = places.clone();
        let own_images = move || has_own_images(&at);
        let own_images = self.kubelet.files.of_node("eviction", "look at", &places.images, own_images).await.ok()?;
        let summary = self.summary().await;
        limited.iter().find_map(|pod| {
            let used = Used(part_of(&summary, pod.uid()));
            let told = container_over_limit(pod, &used, own_images).filter(|_| !is_critical(pod))?;
            info!(pod = pod.display(), message = told, "evicting a pod");
            self.kubelet.metrics.evictions.add(label("eviction_signal", CONTAINER_LIMIT));
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
