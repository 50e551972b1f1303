//! Keeps as many pods as a ReplicaSet or a ReplicationController asks for: the same controller in two flavors.
//!
//! Invariant: pods are created or deleted only while the cache shows all that was done before, so that a slow cache never
//! makes too many or too few.

mod plan;

use std::sync::Arc;

use kedge_client::{Change, Error, Informer, Patch, WorkQueue};
use kedge_meta::labels::{ParseError, Selector};
use kedge_meta::{ObjectKey, ObjectMeta, Resource, resources};
use serde_json::{Value, json};
use tracing::warn;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Meta, Pod, ReplicaSet, ReplicaSetStatus, omit_zero};
use crate::workload::claim::claim;
use crate::workload::expectations::{Expectations, TIMEOUT};
use crate::workload::pod_control::{PodControl, create_expected, from_template, template};
use crate::workload::ranking::least_missed;
use crate::workload::{controller_ref, manager, reference};
use plan::Scale;

/// Which of the two kinds.
#[derive(Clone, Copy)]
struct Flavor {
    name: &'static str,
    component: &'static str,
    kind: &'static Resource,
    /// Reads the selector, which has two forms.
    selector: fn(&Value) -> Result<Selector, ParseError>,
    /// Whether the status tells of terminating pods.
    terminating: bool,
}

const REPLICA_SET: Flavor = Flavor {
    name: "replicaset",
    component: "replicaset-controller",
    kind: &resources::REPLICA_SETS,
    selector: Selector::from_label_selector,
    terminating: true,
};

const REPLICATION_CONTROLLER: Flavor = Flavor {
    name: "replicationcontroller",
    component: "replication-controller",
    kind: &resources::REPLICATION_CONTROLLERS,
    selector: from_exact_labels,
    terminating: false,
};

/// ReplicationControllers select by a plain map.
fn from_exact_labels(map: &Value) -> Result<Selector, ParseError> {
    if map.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(Selector::nothing());
    }
    Selector::from_label_selector(&json!({ "matchLabels": map }))
}

struct Controller {
    ctx: Context,
    flavor: Flavor,
    sets: Informer<ReplicaSet>,
    pods: PodControl,
    queue: WorkQueue<ObjectKey>,
    expectations: Expectations,
}

/// Starts the controller of both kinds.
pub fn start(ctx: &Context) {
    if ctx.runs("replicaset-controller") {
        start_flavor(ctx, REPLICA_SET, &ctx.replica_sets);
    }
    if ctx.runs("replicationcontroller-controller") {
        start_flavor(ctx, REPLICATION_CONTROLLER, &ctx.informer(&resources::REPLICATION_CONTROLLERS));
    }
}

fn start_flavor(ctx: &Context, flavor: Flavor, sets: &Informer<ReplicaSet>) {
    let queue = ctx.queue();
    let events = ctx.recorder(flavor.component);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        flavor,
        sets: sets.clone(),
        pods: PodControl { client: ctx.client.clone(), events },
        queue: queue.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
    });
    enqueue_changes(sets, &queue);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    let synced = async move {
        c.sets.synced().await;
        c.ctx.pods.synced().await;
    };
    ctx.work(flavor.name, &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let owner = |pod: &Option<Arc<Pod>>| {
            let meta = &pod.as_ref()?.metadata;
            manager(self.flavor.kind, meta).map(|o| ObjectKey::new(&meta.namespace, &o.name))
        };
        let (old, new) = (owner(&change.old), owner(&change.new));
        if let Some(old) = old.filter(|_| change.new.is_none() || new.is_none()) {
            if let Some(pod) = &change.old {
                self.expectations.deletion_observed(&old, &pod.metadata.uid);
            }
            self.queue.add(old);
        }
        let Some(pod) = &change.new else { return };
        match new {
            Some(new) => {
                if pod.metadata.is_deleting() {
                    self.expectations.deletion_observed(&new, &pod.metadata.uid);
                }
                if change.old.is_none() {
                    self.expectations.creation_observed(&new);
                }
                self.queue.add(new);
            }
            None if pod.metadata.controller().is_none() => self.enqueue_adopters(&pod.metadata),
            None => {}
        }
    }

    fn enqueue_adopters(&self, orphan: &ObjectMeta) {
        if orphan.labels.is_empty() || orphan.is_deleting() {
            return;
        }
        for set in self.sets.list_namespace(&orphan.namespace) {
            if (self.flavor.selector)(&set.spec.selector).is_ok_and(|s| s.matches(&orphan.labels)) {
                self.queue.add(set.metadata.key());
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            return Ok(());
        };
        let seen_all = self.expectations.satisfied(&key);
        let selector = match (self.flavor.selector)(&set.spec.selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(kind = self.flavor.kind.kind.as_str(), object = %key, error = %err, "the selector cannot be used");
                return Ok(());
            }
        };
        let all = self.ctx.pods_by_owner.candidates(&set.metadata);
        let terminating =
            all.iter().filter(|p| p.is_terminating() && p.metadata.is_controlled_by(&set.metadata.uid)).count();
        let active: Vec<Arc<Pod>> = all.into_iter().filter(|p| p.is_active()).collect();
        let kind = self.flavor.kind;
        let mine = claim(&self.ctx.client, kind, &set.metadata, &resources::PODS, &selector, active).await?;
        let managed =
            if seen_all && !set.metadata.is_deleting() { self.manage(&key, &set, mine.clone()).await } else { Ok(()) };
        if !seen_all {
            self.queue.add_after(key.clone(), TIMEOUT);
        }
        let now = self.ctx.clock.now();
        let failure = managed.as_ref().err().map(ToString::to_string);
        let terminating = self.flavor.terminating.then_some(terminating);
        let status = plan::status(&set, &mine, terminating, failure.as_deref(), now);
        self.write_status(&set, &status).await?;
        if let Some(wait) = plan::next_availability(&set, &mine, now) {
            self.queue.add_after(key, wait);
        }
        managed
    }

    async fn manage(&self, key: &ObjectKey, set: &ReplicaSet, mine: Vec<Arc<Pod>>) -> Result<(), Error> {
        let owner = reference(self.flavor.kind, &set.metadata);
        match plan::scale(set.spec.replicas, mine.len()) {
            Scale::Stay => Ok(()),
            Scale::Create(n) => {
                let owner_ref = controller_ref(self.flavor.kind, &set.metadata);
                let mut pod = from_template(&template(&set.spec.template), &key.namespace, &owner_ref);
                pod["metadata"]["generateName"] = format!("{}-", key.name).into();
                let create = |_| self.pods.create(&key.namespace, &pod, &owner);
                create_expected(&self.expectations, key, n, create).await.1
            }
            Scale::Delete(n) => {
                let related = self.related(set);
                let victims = least_missed(mine, &related, n, self.ctx.clock.now());
                self.expectations.expect_deletions(key, victims.iter().map(|p| p.metadata.uid.clone()));
                let failed = |pod: &Pod| self.expectations.deletion_observed(key, &pod.metadata.uid);
                self.pods.delete_all(&victims, &owner, failed).await
            }
        }
    }

    /// The pods of all ReplicaSets with the same manager as this one.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match set.metadata.controller() {
            Some(owner) => self.ctx.sets_by_owner.managed(&owner.uid),
            None => Vec::new(),
        };
        let mut uids: Vec<&str> = siblings.iter().map(|s| s.metadata.uid.as_str()).collect();
        if !uids.contains(&set.metadata.uid.as_str()) {
            uids.push(&set.metadata.uid);
        }
        uids.iter().flat_map(|uid| self.ctx.pods_by_owner.managed(uid)).collect()
    }

    async fn write_status(&self, set: &ReplicaSet, status: &ReplicaSetStatus) -> Result<(), Error> {
        if *status == set.status {
            return Ok(());
        }
        let patch = json!({ "metadata": { "uid": set.metadata.uid }, "status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": omit_zero(status.fully_labeled_replicas),
            "readyReplicas": omit_zero(status.ready_replicas),
            "availableReplicas": omit_zero(status.available_replicas),
            "terminatingReplicas": status.terminating_replicas,
            "observedGeneration": omit_zero(status.observed_generation),
            "conditions": if status.conditions.is_empty() { Value::Null } else { json!(status.conditions) },
        } });
        let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
        let patch = Patch::Merge(patch);
        let patched = self.ctx.client.patch(self.flavor.kind, namespace, name, patch, Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}
