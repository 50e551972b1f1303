//! Rolls a Deployment's template out through ReplicaSets.
//!
//! Invariant: every write to a ReplicaSet or to the Deployment's status names the version it was decided by, so a decision
//! from a stale cache fails instead of scaling twice.

mod annotations;
mod rollout;
mod scaling;
mod status;

use std::sync::Arc;

use kedge_client::{Change, Error, EventRecorder, EventType, Informer, Patch, WorkQueue};
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use serde_json::json;
use tracing::warn;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Deployment, Meta, Pod, ReplicaSet};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::claim::claim;
use crate::workload::{manager, reference};
use rollout::Rollout;

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    deployments: Informer<Deployment>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let deployments: Informer<Deployment> = ctx.informer(&resources::DEPLOYMENTS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("deployment-controller"),
        queue: queue.clone(),
        deployments: deployments.clone(),
    });
    enqueue_changes(&deployments, &queue);
    let c = controller.clone();
    ctx.replica_sets.on_change(move |change| c.set_changed(change));
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    let synced = async move {
        c.deployments.synced().await;
        c.ctx.replica_sets.synced().await;
        c.ctx.pods.synced().await;
    };
    ctx.work("deployment", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// The Deployment that manages an object.
fn owner(object: &ObjectMeta) -> Option<ObjectKey> {
    manager(&resources::DEPLOYMENTS, object).map(|o| ObjectKey::new(&object.namespace, &o.name))
}

impl Controller {
    fn set_changed(&self, change: &Change<ReplicaSet>) {
        for set in change.old.iter().chain(&change.new) {
            if let Some(key) = owner(&set.metadata) {
                self.queue.add(key);
            }
        }
        if let Some(set) = change.new.as_ref().filter(|s| s.metadata.controller().is_none()) {
            for deployment in self.deployments.list_namespace(&set.metadata.namespace) {
                let selector = Selector::from_label_selector(&deployment.spec.selector);
                if selector.is_ok_and(|s| s.matches(&set.metadata.labels)) {
                    self.queue.add(deployment.metadata.key());
                }
            }
        }
    }

    /// Recreation waits for the last old pod to go.
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = change.old.as_ref().filter(|_| change.new.is_none()) else { return };
        let Some(set) = manager(&resources::REPLICA_SETS, &pod.metadata) else { return };
        let set = self.ctx.replica_sets.get(&pod.metadata.namespace, &set.name);
        let Some(key) = set.and_then(|s| owner(&s.metadata)) else { return };
        let recreates = |d: Arc<Deployment>| !scaling::is_rolling(&d);
        if self.deployments.get(&key.namespace, &key.name).is_some_and(recreates) {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let selector = match Selector::from_label_selector(&deployment.spec.selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(deployment = %key, error = %err, "the selector cannot be used");
                return Ok(());
            }
        };
        if selector.is_everything() {
            return self.refuse_everything(&deployment).await;
        }
        let sets = self.ctx.sets_by_owner.candidates(&deployment.metadata);
        let (kind, of) = (&resources::DEPLOYMENTS, &resources::REPLICA_SETS);
        let sets = claim(&self.ctx.client, kind, &deployment.metadata, of, &selector, sets).await?;
        match Rollout::new(self, deployment, sets).run().await {
            // Nothing can be created any more, and soon all of it goes.
            Err(err) if is_namespace_terminating(&err) => Ok(()),
            other => other,
        }
    }

    async fn refuse_everything(&self, d: &Deployment) -> Result<(), Error> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        let object = reference(&resources::DEPLOYMENTS, &d.metadata);
        self.events.event(&object, EventType::Warning, "SelectingAll", message);
        if d.status.observed_generation >= d.metadata.generation {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "status": { "observedGeneration": d.metadata.generation } }));
        let (namespace, name) = (&d.metadata.namespace, &d.metadata.name);
        let patched = self.ctx.client.patch(&resources::DEPLOYMENTS, namespace, name, patch, Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}
