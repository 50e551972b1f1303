//! Runs one pod of a DaemonSet on every node where it belongs.

mod plan;
mod pod;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kedge_client::{Change, Error, EventType, Informer, Patch, WorkQueue};
use kedge_meta::labels::Selector;
use kedge_meta::resources::{DAEMON_SETS, PODS};
use kedge_meta::{ObjectKey, ObjectMeta};
use parking_lot::Mutex;
use serde_json::json;
use tracing::warn;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{DaemonSet, DaemonSetStatus, Meta, Node, Pod, omit_zero};
use crate::workload::claim::claim;
use crate::workload::expectations::{Expectations, TIMEOUT};
use crate::workload::history::{self, ControllerRevision, Owner};
use crate::workload::index::OwnerIndex;
use crate::workload::pod_control::{PodControl, create_expected, template};
use crate::workload::{manager, reference};
use plan::{Changes, HASH_LABEL, Placement, View, by_node, node_of};

/// Pods made or deleted in one round.
const BURST: usize = 250;
/// How long a failed pod stays at first, and at most.
const FAILED_FIRST: Duration = Duration::from_secs(1);
const FAILED_MAX: Duration = Duration::from_secs(900);

struct Controller {
    ctx: Context,
    pods: PodControl,
    queue: WorkQueue<ObjectKey>,
    sets: Informer<DaemonSet>,
    revisions: OwnerIndex<ControllerRevision>,
    expectations: Expectations,
    /// By DaemonSet and node: how long the next failed pod stays, from when.
    failed: Mutex<HashMap<(ObjectKey, String), (Duration, Duration)>>,
}

/// Starts the controller.
pub fn start(ctx: &Context, history: &Informer<ControllerRevision>, revisions: &OwnerIndex<ControllerRevision>) {
    let queue = ctx.queue();
    let sets: Informer<DaemonSet> = ctx.informer(&DAEMON_SETS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        pods: PodControl { client: ctx.client.clone(), events: ctx.recorder("daemonset-controller") },
        queue: queue.clone(),
        sets: sets.clone(),
        revisions: revisions.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
        failed: Mutex::default(),
    });
    enqueue_changes(&sets, &queue);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    ctx.nodes.on_change(move |change| {
        let what = |n: &Option<Arc<Node>>| n.as_ref().map(|n| (n.metadata.labels.clone(), n.spec.taints.clone()));
        if what(&change.old) != what(&change.new) {
            c.sets.list().iter().for_each(|s| c.queue.add(s.metadata.key()));
        }
    });
    let (c, history) = (controller.clone(), history.clone());
    let synced = async move {
        c.sets.synced().await;
        c.ctx.pods.synced().await;
        c.ctx.nodes.synced().await;
        history.synced().await;
    };
    ctx.work("daemonset", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let owner = |pod: &Option<Arc<Pod>>| {
            let meta = &pod.as_ref()?.metadata;
            manager(&DAEMON_SETS, meta).map(|o| ObjectKey::new(&meta.namespace, &o.name))
        };
        let (old, new) = (owner(&change.old), owner(&change.new));
        let Some(pod) = change.object() else { return };
        for key in old.iter().chain(&new) {
            if change.new.is_none() || pod.metadata.is_deleting() {
                self.expectations.deletion_observed(key, &pod.metadata.uid);
            }
            self.queue.add(key.clone());
        }
        if let Some(key) = new.filter(|_| change.old.is_none()) {
            self.expectations.creation_observed(&key);
        }
        if change.new.is_some() && pod.metadata.controller().is_none() && !pod.metadata.labels.is_empty() {
            for set in self.sets.list_namespace(&pod.metadata.namespace) {
                if Selector::from_label_selector(&set.spec.selector).is_ok_and(|s| s.matches(&pod.metadata.labels)) {
                    self.queue.add(set.metadata.key());
                }
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            self.failed.lock().retain(|(set, _), _| *set != key);
            return Ok(());
        };
        let selector = match Selector::from_label_selector(&set.spec.selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(daemonset = %key, error = %err, "the selector cannot be used");
                return Ok(());
            }
        };
        if selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            let object = reference(&DAEMON_SETS, &set.metadata);
            self.pods.events.event(&object, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        if set.metadata.is_deleting() {
            return Ok(());
        }
        self.sync(&key, &set, &selector).await
    }

    async fn sync(&self, key: &ObjectKey, set: &DaemonSet, selector: &Selector) -> Result<(), Error> {
        let client = &self.ctx.client;
        let owner = Owner {
            kind: &DAEMON_SETS,
            meta: &set.metadata,
            selector,
            template: &set.spec.template,
            label: HASH_LABEL,
            collisions: set.status.collision_count.unwrap_or_default(),
        };
        let history = match history::history(client, &self.revisions, &owner).await {
            Err(err) if history::is_collision(&err) => return history::count_collision(client, &owner).await,
            other => other?,
        };
        let seen_all = self.expectations.satisfied(key);
        let candidates = self.ctx.pods_by_owner.candidates(&set.metadata);
        let pods = claim(client, &DAEMON_SETS, &set.metadata, &PODS, selector, candidates).await?;
        let live: HashSet<String> =
            pods.iter().filter_map(|p| p.metadata.labels.get(HASH_LABEL).map(str::to_owned)).collect();
        let parsed = template(&set.spec.template);
        let hash = history.current.metadata.labels.get(HASH_LABEL).unwrap_or_default().to_owned();
        let view = View {
            set,
            placement: &Placement::new(&parsed["spec"]),
            nodes: &self.ctx.nodes.list(),
            pods: &by_node(pods),
            hash: &hash,
            now: self.ctx.clock.now(),
        };
        let mut done = Ok(());
        if seen_all {
            done = self.apply(key, set, view.manage(), &parsed, &hash).await;
            if done.is_ok() && self.expectations.satisfied(key) {
                done = self.apply(key, set, view.update(), &parsed, &hash).await;
            }
            let limit = set.spec.revision_history_limit.unwrap_or(10);
            let is_live = |r: &ControllerRevision| r.metadata.labels.get(HASH_LABEL).is_some_and(|h| live.contains(h));
            history::trim(client, &history.old, limit, is_live).await?;
        } else {
            self.queue.add_after(key.clone(), TIMEOUT);
        }
        let status = view.status();
        if set.spec.min_ready_seconds > 0 && status.number_ready != status.number_available {
            let waits = view.pods.values().flatten();
            let waits = waits.filter_map(|p| p.available_in(set.spec.min_ready_seconds, view.now));
            if let Some(wait) = waits.filter(|w| !w.is_zero()).min() {
                self.queue.add_after(key.clone(), wait);
            }
        }
        self.write_status(set, &status).await?;
        done
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        mut changes: Changes,
        template: &serde_json::Value,
        hash: &str,
    ) -> Result<(), Error> {
        let object = reference(&DAEMON_SETS, &set.metadata);
        changes.delete.retain(|pod| self.may_delete(key, set, pod));
        changes.delete.truncate(BURST);
        changes.create.truncate(BURST);
        let uids = changes.delete.iter().map(|p| p.metadata.uid.clone());
        self.expectations.expect_deletions(key, uids);
        let create = |i: usize| {
            let pod = pod::pod(set, template, &changes.create[i], hash);
            let object = &object;
            async move { self.pods.create(&key.namespace, &pod, object).await }
        };
        let (_, created) = create_expected(&self.expectations, key, changes.create.len(), create).await;
        let failed = |pod: &Pod| self.expectations.deletion_observed(key, &pod.metadata.uid);
        let deleted = self.pods.delete_all(&changes.delete, &object, failed).await;
        created.and(deleted)
    }

    /// Announces the deletion of an ended pod; one that failed soon after another stays a while, so that what makes them
    /// fail is not hurried.
    fn may_delete(&self, key: &ObjectKey, set: &DaemonSet, pod: &Pod) -> bool {
        let node = node_of(pod).unwrap_or_default();
        let object = reference(&DAEMON_SETS, &set.metadata);
        let name = pod.metadata.key();
        match pod.status.phase.as_str() {
            "Failed" => {
                let now = self.ctx.clock.monotonic();
                let mut failed = self.failed.lock();
                let slot = (key.clone(), node.to_owned());
                let next = match failed.get(&slot) {
                    Some((delay, at)) if now < *at + *delay => {
                        self.queue.add_after(key.clone(), *at + *delay - now);
                        return false;
                    }
                    Some((delay, at)) if now < *at + FAILED_MAX * 2 => (*delay * 2).min(FAILED_MAX),
                    _ => FAILED_FIRST,
                };
                failed.insert(slot, (next, now));
                let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.pods.events.event(&object, EventType::Warning, "FailedDaemonPod", message);
            }
            "Succeeded" => {
                let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                self.pods.events.event(&object, EventType::Normal, "SucceededDaemonPod", message);
            }
            _ => {}
        }
        true
    }

    async fn write_status(&self, set: &DaemonSet, status: &DaemonSetStatus) -> Result<(), Error> {
        if *status == set.status {
            return Ok(());
        }
        let meta: &ObjectMeta = &set.metadata;
        let patch = json!({ "metadata": { "uid": meta.uid }, "status": {
            "currentNumberScheduled": status.current_number_scheduled,
            "numberMisscheduled": status.number_misscheduled,
            "desiredNumberScheduled": status.desired_number_scheduled,
            "numberReady": status.number_ready,
            "observedGeneration": omit_zero(status.observed_generation),
            "updatedNumberScheduled": omit_zero(status.updated_number_scheduled),
            "numberAvailable": omit_zero(status.number_available),
            "numberUnavailable": omit_zero(status.number_unavailable),
        } });
        let patched =
            self.ctx.client.patch(&DAEMON_SETS, &meta.namespace, &meta.name, Patch::Merge(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}
