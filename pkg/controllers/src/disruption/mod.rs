//! Keeps the status of PodDisruptionBudgets, by which evictions are granted.
//!
//! Invariant: the status is written only over the version it was computed from, so that an eviction that was granted
//! meanwhile is never forgotten.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use kedge_client::{Change, Error, EventRecorder, EventType, Informer, Patch, WorkQueue};
use kedge_meta::labels::Selector;
use kedge_meta::resources::{
    DEPLOYMENTS, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use kedge_meta::{ObjectKey, OwnerReference, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{BudgetStatus, Meta, Pod, PodDisruptionBudget};
use crate::workload::reference;

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    budgets: Informer<PodDisruptionBudget>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let budgets: Informer<PodDisruptionBudget> = ctx.informer(&POD_DISRUPTION_BUDGETS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("controllermanager"),
        queue: queue.clone(),
        budgets: budgets.clone(),
    });
    enqueue_changes(&budgets, &queue);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    // Sizes of workloads count too; their pods come and go with them, but not when there are none yet.
    let c = controller.clone();
    ctx.replica_sets.on_change(move |change| {
        if change.old.as_ref().map(|s| s.spec.replicas) != change.new.as_ref().map(|s| s.spec.replicas) {
            let budgets = c.budgets.list_namespace(&change.key().namespace);
            budgets.iter().for_each(|b| c.queue.add(b.metadata.key()));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.budgets.synced().await;
        c.ctx.pods.synced().await;
        c.ctx.replica_sets.synced().await;
    };
    ctx.work("disruption", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn selector_of(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::from_label_selector(&budget.spec.selector).ok()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Scaled {
    metadata: kedge_meta::ObjectMeta,
    spec: ScaleSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScaleSpec {
    replicas: i64,
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let what = |p: &Option<Arc<Pod>>| {
            p.as_ref().map(|p| (p.is_ready(), p.metadata.is_deleting(), p.metadata.labels.clone()))
        };
        if what(&change.old) == what(&change.new) {
            return;
        }
        let pods: Vec<&Arc<Pod>> = change.old.iter().chain(&change.new).collect();
        for budget in self.budgets.list_namespace(&change.key().namespace) {
            if selector_of(&budget).is_some_and(|s| pods.iter().any(|p| s.matches(&p.metadata.labels))) {
                self.queue.add(budget.metadata.key());
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let Some(selector) = selector_of(&budget) else {
            warn!(budget = %key, "the selector cannot be used");
            return Ok(());
        };
        let object = reference(&POD_DISRUPTION_BUDGETS, &budget.metadata);
        let pods: Vec<Arc<Pod>> = self.ctx.pods.list_namespace(&key.namespace);
        let pods: Vec<Arc<Pod>> = pods.into_iter().filter(|p| selector.matches(&p.metadata.labels)).collect();
        if pods.is_empty() {
            self.events.event(&object, EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = self.ctx.clock.now();
        let scale = self.scale_of(&pods).await;
        let expected = match plan::expected(&budget, pods.len(), scale) {
            Ok(expected) => expected,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.events.event(&object, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                return self.write(&budget, &plan::failed(&budget, &why, now)).await;
            }
        };
        let outcome = plan::status(&budget, &pods, expected, now);
        for pod in &outcome.not_deleted {
            let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.events.event(&pod.reference(), EventType::Warning, "NotDeleted", message);
        }
        if let Some(after) = outcome.recheck {
            self.queue.add_after(key, after);
        }
        self.write(&budget, &outcome.status).await
    }

    /// The sum of what the managers of the pods want, each counted once.
    async fn scale_of(&self, pods: &[Arc<Pod>]) -> Result<i64, String> {
        let mut sizes: HashMap<String, i64> = HashMap::new();
        for pod in pods {
            let Some(owner) = pod.metadata.controller() else { continue };
            if sizes.contains_key(&owner.uid) {
                continue;
            }
            let (uid, size) = self.size_of(&pod.metadata.namespace, owner).await?;
            sizes.insert(owner.uid.clone(), 0);
            sizes.insert(uid, size);
        }
        Ok(sizes.values().sum())
    }

    /// The size that a manager wants, with the uid of who sets it: a Deployment for its ReplicaSets.
    async fn size_of(&self, namespace: &str, owner: &OwnerReference) -> Result<(String, i64), String> {
        let known = [&REPLICA_SETS, &STATEFUL_SETS, &REPLICATION_CONTROLLERS, &DEPLOYMENTS];
        let kind = known.into_iter().find(|r| r.kind == owner.kind && r.api_version() == owner.api_version);
        let Some(kind) = kind else {
            let group = format!("{} {}", owner.api_version, owner.kind);
            return Err(format!("{group} {} does not implement the scale subresource", owner.name));
        };
        if *kind == REPLICA_SETS
            && let Some(set) = self.ctx.replica_sets.get(namespace, &owner.name)
        {
            let Some(deployment) = set.metadata.controller().filter(|o| o.kind == DEPLOYMENTS.kind) else {
                return Ok((set.metadata.uid.clone(), set.spec.replicas));
            };
            return self.read_size(&DEPLOYMENTS, namespace, deployment).await;
        }
        self.read_size(kind, namespace, owner).await
    }

    async fn read_size(&self, kind: &Resource, namespace: &str, o: &OwnerReference) -> Result<(String, i64), String> {
        match self.ctx.client.get::<Scaled>(kind, namespace, &o.name).await {
            Ok(scaled) if scaled.metadata.uid == o.uid => Ok((scaled.metadata.uid, scaled.spec.replicas)),
            // A manager that is gone wants nothing.
            Ok(_) => Ok((o.uid.clone(), 0)),
            Err(err) if err.is_not_found() => Ok((o.uid.clone(), 0)),
            Err(err) => Err(err.to_string()),
        }
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: &BudgetStatus) -> Result<(), Error> {
        if *status == budget.status {
            return Ok(());
        }
        let mut disrupted: serde_json::Map<String, Value> =
            budget.status.disrupted_pods.keys().map(|name| (name.to_owned(), Value::Null)).collect();
        disrupted.extend(status.disrupted_pods.iter().map(|(name, at)| (name.to_owned(), at.into())));
        let patch = json!({ "metadata": { "resourceVersion": budget.metadata.resource_version }, "status": {
            "observedGeneration": status.observed_generation,
            "disruptedPods": disrupted,
            "disruptionsAllowed": status.disruptions_allowed,
            "currentHealthy": status.current_healthy,
            "desiredHealthy": status.desired_healthy,
            "expectedPods": status.expected_pods,
            "conditions": conditions(status),
        } });
        let (namespace, name) = (&budget.metadata.namespace, &budget.metadata.name);
        let patch = Patch::Merge(patch);
        let patched = self.ctx.client.patch(&POD_DISRUPTION_BUDGETS, namespace, name, patch, Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

/// `metav1.Condition` always has a message.
fn conditions(status: &BudgetStatus) -> Vec<Value> {
    let with_message = |c: &crate::objects::Condition| {
        let mut value = json!(c);
        value["message"] = c.message.as_str().into();
        value
    };
    status.conditions.iter().map(with_message).collect()
}
