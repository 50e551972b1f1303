//! Keeps the status of PodDisruptionBudgets, by which evictions are granted.
//!
//! Invariant: the status is written only over the version it was computed from, so that an eviction that was granted
//! meanwhile is never forgotten.

mod plan;
mod scale;
mod stale;

use std::sync::Arc;
use std::time::Duration;

use kedge_client::{Change, Error, EventRecorder, EventType, Informer, Patch, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::labels::Selector;
use kedge_meta::resources::POD_DISRUPTION_BUDGETS;
use serde_json::{Value, json};

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{BudgetStatus, Meta, Pod, PodDisruptionBudget, printed_selector};
use crate::workload::reference;

/// When it is tried again to find out what the managers of pods want. Nothing tells that it can be found out by now.
const AGAIN: Duration = Duration::from_secs(30);

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    budgets: Informer<PodDisruptionBudget>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    stale::start(ctx);
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

fn selector_of(budget: &PodDisruptionBudget) -> Result<Selector, String> {
    Selector::from_label_selector(&budget.spec.selector).map_err(|err| err.to_string())
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
        let concerned = |budget: &Arc<PodDisruptionBudget>| {
            selector_of(budget).is_ok_and(|s| pods.iter().any(|p| s.matches(&p.metadata.labels)))
        };
        let budgets = self.budgets.list_namespace(&change.key().namespace);
        let budgets: Vec<_> = budgets.into_iter().filter(concerned).collect();
        if let (Some(pod), Some(budget), true) = (&change.new, budgets.first(), budgets.len() > 1) {
            let (key, budget) = (change.key(), &budget.metadata.name);
            let message = format!(
                "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {budget:?} arbitrarily.",
                key.namespace, key.name
            );
            self.events.event(&pod.reference(), EventType::Warning, "MultiplePodDisruptionBudgets", message);
        }
        budgets.iter().for_each(|budget| self.queue.add(budget.metadata.key()));
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let now = self.ctx.clock.now();
        let object = reference(&POD_DISRUPTION_BUDGETS, &budget.metadata);
        let warn = |reason: &str, message: String| self.events.event(&object, EventType::Warning, reason, message);
        let pods = match self.pods_of(&budget) {
            Ok(pods) => pods,
            Err(why) => {
                warn("NoPods", format!("Failed to get pods: {why}"));
                return self.write(&budget, &plan::failed(&budget, &why, now)).await;
            }
        };
        if pods.is_empty() {
            self.events.event(&object, EventType::Normal, "NoPods", "No matching pods found");
        }
        let wanted =
            if plan::needs_scale(&budget) { scale::wanted(&self.ctx, &pods).await } else { Ok(Default::default()) };
        let (expected, unmanaged) = match wanted {
            Ok(wanted) => (plan::expected(&budget, pods.len(), wanted.pods), wanted.unmanaged),
            Err(why) => {
                warn(
                    "CalculateExpectedPodCountFailed",
                    format!("Failed to calculate the number of expected pods: {why}"),
                );
                self.write(&budget, &plan::failed(&budget, &why, now)).await?;
                self.queue.add_after(key, AGAIN);
                return Ok(());
            }
        };
        if unmanaged {
            let selector = printed_selector(&budget.spec.selector);
            warn(
                "UnmanagedPods",
                format!(
                    "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
                ),
            );
        }
        let outcome = plan::status(&budget, &pods, expected, now);
        for pod in &outcome.not_deleted {
            // Upstream names the namespace twice.
            let message = format!("Pod was expected by PDB {0}/{0} to be deleted but it wasn't", key.namespace);
            self.events.event(&pod.reference(), EventType::Warning, "NotDeleted", message);
        }
        self.write(&budget, &outcome.status).await?;
        if let Some(after) = outcome.recheck {
            self.queue.add_after(key, after);
        }
        Ok(())
    }

    fn pods_of(&self, budget: &PodDisruptionBudget) -> Result<Vec<Arc<Pod>>, String> {
        let selector = selector_of(budget)?;
        let pods = self.ctx.pods.list_namespace(&budget.metadata.namespace);
        Ok(pods.into_iter().filter(|p| selector.matches(&p.metadata.labels)).collect())
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

#[cfg(test)]
mod tests;
