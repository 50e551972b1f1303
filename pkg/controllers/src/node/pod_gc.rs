//! Removes pods that nobody else will: on nodes that no longer exist, deleted before they had a node, on nodes that are
//! out of service, and the oldest ended ones when there are too many.
//!
//! Invariant: a node counts as gone only when the API server itself said so, some time after the cache did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition::{self, Counters, Exposition, written};
use kedge_client::{Change, DeleteOptions, Error, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use tracing::info;

use super::mark_disrupted;
use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, Node, Pod, condition};

/// How long a node is given to come back.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The key that stands for a look at all ended pods.
const ENDED: &str = "";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    /// By node that some pod names: since when the cache lacks it, by the monotonic clock.
    missing: Mutex<HashMap<String, Duration>>,
    deleted: Counters,
    failed: Counters,
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        let help = "[ALPHA] Number of pods that are being forcefully deleted since the Pod GC Controller started.";
        self.deleted.show(out, "pod_gc_collector_force_delete_pods_total", help);
        let help = "[ALPHA] Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started.";
        self.failed.show(out, "pod_gc_collector_force_delete_pod_errors_total", help);
    }
}

/// Why a pod goes, as metrics call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Garbage {
    Terminated,
    Orphaned,
    Unscheduled,
    OutOfService,
}

impl Garbage {
    fn name(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Orphaned => "orphaned",
            Self::Unscheduled => "unscheduled",
            Self::OutOfService => "out-of-service",
        }
    }
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    begin(ctx);
}

fn begin(ctx: &Context) -> Arc<Controller> {
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        missing: Mutex::default(),
        deleted: Counters::default(),
        failed: Counters::default(),
    });
    exposition::list("pod garbage", &controller);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    ctx.nodes.on_change(move |change| {
        let name = change.key().name;
        let back = change.new.is_some();
        if back {
            c.missing.lock().remove(&name);
        }
        if !back || change.new.as_ref().is_some_and(|n| out_of_service(n)) {
            let pods = c.ctx.pods.list();
            pods.iter().filter(|p| p.spec.node_name == name).for_each(|p| c.queue.add(p.metadata.key()));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.nodes.synced().await;
        c.ctx.pods.synced().await;
        c.ctx.pods.list().iter().for_each(|p| c.queue.add(p.metadata.key()));
    };
    ctx.work("pod-gc", &queue, 2, synced, controller.clone(), |c, key| async move { c.reconcile(key).await });
    controller
}

/// Whether an administrator has said that the node is not coming back for now.
fn out_of_service(node: &Node) -> bool {
    let ready = condition(&node.status.conditions, "Ready").is_some_and(|c| c.is_true());
    !ready && node.spec.taints.iter().any(|t| t.key == OUT_OF_SERVICE)
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Keep,
    /// Its node is missing: ask the API server after a while.
    CheckNode,
    Delete(Garbage),
}

fn plan(pod: &Pod, node: Option<&Node>) -> Action {
    let deleting = pod.metadata.is_deleting();
    match node {
        _ if pod.spec.node_name.is_empty() && deleting => Action::Delete(Garbage::Unscheduled),
        _ if pod.spec.node_name.is_empty() => Action::Keep,
        None => Action::CheckNode,
        Some(node) if deleting && out_of_service(node) => Action::Delete(Garbage::OutOfService),
        Some(_) => Action::Keep,
    }
}

/// Which ended pods go when only `threshold` may stay: evicted ones first, then the oldest.
fn surplus(pods: &[Arc<Pod>], threshold: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<_> = pods.iter().filter(|p| p.is_terminal()).cloned().collect();
    let surplus = ended.len().saturating_sub(threshold);
    ended.sort_by_cached_key(|p| {
        (p.status.reason != "Evicted", p.metadata.creation_timestamp.clone(), p.metadata.name.clone())
    });
    ended.truncate(surplus);
    ended
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let Some(pod) = &change.new else {
            change.old.iter().for_each(|pod| self.forget_unnamed(&pod.spec.node_name));
            return;
        };
        let homeless = pod.spec.node_name.is_empty() && pod.metadata.is_deleting();
        let lost = !pod.spec.node_name.is_empty() && self.ctx.nodes.get("", &pod.spec.node_name).is_none();
        if homeless || lost || pod.metadata.is_deleting() {
            self.queue.add(change.key());
        }
        let threshold = self.ctx.settings.terminated_pods;
        if threshold > 0 && pod.is_terminal() && self.ctx.pods.len() > threshold {
            self.queue.add_after(ObjectKey::new("", ENDED), Duration::from_secs(20));
        }
    }

    /// A missing node that no pod names any more may never have been there, and does not come back then.
    fn forget_unnamed(&self, node: &str) {
        let mut missing = self.missing.lock();
        if missing.contains_key(node) && !self.ctx.pods.list().iter().any(|pod| pod.spec.node_name == node) {
            missing.remove(node);
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        if key.name == ENDED {
            for pod in surplus(&self.ctx.pods.list(), self.ctx.settings.terminated_pods) {
                self.delete(&pod, Garbage::Terminated).await?;
            }
            return Ok(());
        }
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let node = self.ctx.nodes.get("", &pod.spec.node_name);
        match plan(&pod, node.as_deref()) {
            Action::Keep => Ok(()),
            Action::Delete(why) => self.delete(&pod, why).await,
            Action::CheckNode => {
                let now = self.ctx.clock.monotonic();
                let since = *self.missing.lock().entry(pod.spec.node_name.clone()).or_insert(now);
                if self.ctx.pods.get(&key.namespace, &key.name).is_none() {
                    // It went before its node was noted, and that will not be told again.
                    self.forget_unnamed(&pod.spec.node_name);
                    return Ok(());
                }
                let left = QUARANTINE.saturating_sub(now.saturating_sub(since));
                if !left.is_zero() {
                    self.queue.add_after(key, left);
                    return Ok(());
                }
                match self.ctx.client.get::<Meta>(&resources::NODES, "", &pod.spec.node_name).await {
                    Err(err) if err.is_not_found() => self.delete(&pod, Garbage::Orphaned).await,
                    Err(err) => Err(err),
                    Ok(_) => Ok(()),
                }
            }
        }
    }

    async fn delete(&self, pod: &Pod, why: Garbage) -> Result<(), Error> {
        let labels = written(&[("namespace", &pod.metadata.namespace), ("reason", why.name())]);
        self.deleted.add(labels.clone());
        let deleted = self.force(pod, why).await;
        if deleted.is_err() {
            self.failed.add(labels);
        }
        deleted
    }

    /// Nobody else would say that it has ended.
    async fn force(&self, pod: &Pod, why: Garbage) -> Result<(), Error> {
        if !pod.is_terminal() {
            let orphaned = ("DeletionByPodGC", "PodGC: node no longer exists");
            mark_disrupted(&self.ctx, pod, (why == Garbage::Orphaned).then_some(orphaned), true).await?;
        }
        let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
        info!(namespace, pod = name, reason = why.name(), "pod is garbage, deleting it");
        let options = DeleteOptions::now(&pod.metadata.uid);
        match ignore_not_found(self.ctx.client.delete(&resources::PODS, namespace, name, &options).await) {
            // Another pod of that name is there already.
            Err(err) if err.is_conflict() => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Bench;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_without_a_node_to_end_them_are_deleted() {
        let unscheduled = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(plan(&pod(unscheduled), None), Action::Delete(Garbage::Unscheduled));
        assert_eq!(plan(&pod(json!({})), None), Action::Keep);
        let placed = pod(json!({"spec": {"nodeName": "n"}}));
        assert_eq!(plan(&placed, None), Action::CheckNode);
        assert_eq!(plan(&placed, Some(&Node::default())), Action::Keep);
        let node = |ready: &str| -> Node {
            serde_json::from_value(json!({"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoSchedule"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        let leaving =
            pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "n"}}));
        assert_eq!(plan(&leaving, Some(&node("Unknown"))), Action::Delete(Garbage::OutOfService));
        assert_eq!(plan(&leaving, Some(&node("True"))), Action::Keep);
        assert_eq!(plan(&placed, Some(&node("Unknown"))), Action::Keep);
    }

    #[tokio::test]
    async fn a_missing_node_is_forgotten_with_the_last_pod_that_names_it() {
        let path = |name: &str| format!("/api/v1/namespaces/a/pods/{name}");
        let bench = Bench::new(vec![]);
        for name in ["p", "q", "r"] {
            let node = if name == "r" { "other" } else { "never" };
            let pod = json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": node}});
            bench.api.put(&path(name), pod);
        }
        let controller = begin(&bench.ctx);
        let missing = || {
            let mut names: Vec<String> = controller.missing.lock().keys().cloned().collect();
            names.sort();
            names
        };
        bench.advance(1).await;
        assert_eq!(missing(), ["never", "other"]);
        bench.api.remove(&path("p"));
        bench.advance(1).await;
        assert_eq!(missing(), ["never", "other"], "another pod names it");
        bench.api.remove(&path("q"));
        bench.advance(1).await;
        assert_eq!(missing(), ["other"]);
        bench.advance(45).await;
        assert!(bench.api.object(&path("r")).is_null());
        assert!(missing().is_empty(), "nor is it kept for a pod that was garbage");
    }

    #[test]
    fn the_oldest_ended_pods_go_first_and_evicted_ones_before_them() {
        let ended = |name: &str, at: &str, reason: &str| {
            Arc::new(pod(json!({
                "metadata": {"name": name, "creationTimestamp": at}, "status": {"phase": "Failed", "reason": reason}
            })))
        };
        let pods = [
            ended("b", "2026-01-02T00:00:00Z", ""),
            ended("a", "2026-01-01T00:00:00Z", ""),
            ended("evicted", "2026-01-03T00:00:00Z", "Evicted"),
            Arc::new(Pod::default()),
        ];
        let names: Vec<_> = surplus(&pods, 1).iter().map(|p| p.metadata.name.clone()).collect();
        assert_eq!(names, ["evicted", "a"]);
    }
}
