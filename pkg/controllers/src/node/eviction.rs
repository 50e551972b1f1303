//! Deletes pods that do not, or no longer, tolerate a NoExecute taint of their node.
//!
//! Invariant: the time that a pod is tolerated for runs from when the taint was first seen, and is forgotten with it or when the
//! pod has been deleted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition::{self, Exposition, Histogram};
use kedge_client::{DeleteOptions, Error, EventRecorder, EventType, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use tracing::info;

use super::mark_disrupted;
use super::taints::{NO_EXECUTE, Stay, stay};
use crate::context::{Context, ignore_not_found};
use crate::objects::{Node, Pod};

/// From five milliseconds to four minutes.
const BOUNDS: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0];

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    /// Pods that are on their way out: uid, and since when, by the monotonic clock.
    due: Mutex<HashMap<ObjectKey, (String, Duration)>>,
    /// How late each deletion was.
    deleted: Histogram<12>,
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        let help = "[ALPHA] Total number of Pods deleted by TaintEvictionController since its start.";
        out.single("taint_eviction_controller_pod_deletions_total", "counter", help, self.deleted.count() as f64);
        let family = "taint_eviction_controller_pod_deletion_duration_seconds";
        let help = "[ALPHA] Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion via TaintEvictionController.";
        out.family(family, "histogram", help);
        self.deleted.show(out, family, "");
    }
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("taint-eviction-controller"),
        queue: queue.clone(),
        due: Mutex::default(),
        deleted: Histogram::new(&BOUNDS),
    });
    exposition::list("taint eviction", &controller);
    let c = controller.clone();
    ctx.pods.on_change(move |change| {
        let Some(pod) = change.object() else { return };
        let tainted = || c.ctx.nodes.get("", &pod.spec.node_name).is_some_and(|n| has_no_execute(&n));
        if !pod.spec.node_name.is_empty() && (change.new.is_none() || tainted()) {
            c.queue.add(change.key());
        }
    });
    let c = controller.clone();
    ctx.nodes.on_change(move |change| {
        let name = change.key().name;
        let concerned = change.old.iter().chain(&change.new).any(|n| has_no_execute(n));
        if concerned {
            let pods = c.ctx.pods.list();
            pods.iter().filter(|p| p.spec.node_name == name).for_each(|p| c.queue.add(p.metadata.key()));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.nodes.synced().await;
        c.ctx.pods.synced().await;
        // Pods that came before their nodes were known.
        c.ctx.pods.list().iter().for_each(|p| c.queue.add(p.metadata.key()));
    };
    ctx.work("taint-eviction", &queue, 4, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn has_no_execute(node: &Node) -> bool {
    node.spec.taints.iter().any(|t| t.effect == NO_EXECUTE)
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Keep,
    EvictIn(Duration),
}

/// What to do with a pod that has been on its way out for `waited`.
fn plan(pod: &Pod, node: Option<&Node>, waited: Duration) -> Action {
    match node {
        Some(node) if !pod.metadata.is_deleting() => match stay(&node.spec.taints, &pod.spec.tolerations) {
            Stay::Forever => Action::Keep,
            Stay::Seconds(seconds) => Action::EvictIn(Duration::from_secs(seconds).saturating_sub(waited)),
        },
        _ => Action::Keep,
    }
}

/// For how long a pod should have been gone that has been on its way out for `waited`.
fn overdue(pod: &Pod, node: Option<&Node>, waited: Duration) -> Duration {
    match node.map(|node| stay(&node.spec.taints, &pod.spec.tolerations)) {
        Some(Stay::Seconds(seconds)) => waited.saturating_sub(Duration::from_secs(seconds)),
        _ => Duration::ZERO,
    }
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name) else {
            self.due.lock().remove(&key);
            return Ok(());
        };
        let node = self.ctx.nodes.get("", &pod.spec.node_name);
        let now = self.ctx.clock.monotonic();
        let since = self.due.lock().get(&key).filter(|(uid, _)| *uid == pod.metadata.uid).map(|(_, since)| *since);
        let waited = now.saturating_sub(since.unwrap_or(now));
        match plan(&pod, node.as_deref(), waited) {
            Action::Keep => {
                if self.due.lock().remove(&key).is_some() && !pod.metadata.is_deleting() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events.event(&pod.reference(), EventType::Normal, "TaintManagerEviction", message);
                }
                Ok(())
            }
            Action::EvictIn(left) if left.is_zero() => {
                let late = since.map(|_| overdue(&pod, node.as_deref(), waited)).unwrap_or_default();
                self.evict(&key, &pod, late).await
            }
            Action::EvictIn(left) => {
                // What is there may be about an earlier pod of that name.
                if since.is_none() {
                    self.due.lock().insert(key.clone(), (pod.metadata.uid.clone(), now));
                }
                self.queue.add_after(key, left);
                Ok(())
            }
        }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod, late: Duration) -> Result<(), Error> {
        info!(pod = %key, node = pod.spec.node_name, "evicting the pod: it does not tolerate its node's taints");
        let message = format!("Marking for deletion Pod {key}");
        self.events.event(&pod.reference(), EventType::Normal, "TaintManagerEviction", message);
        let why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        mark_disrupted(&self.ctx, pod, Some(why), false).await?;
        let options = DeleteOptions::with_uid(&pod.metadata.uid);
        ignore_not_found(self.ctx.client.delete(&resources::PODS, &key.namespace, &key.name, &options).await)?;
        // Only now: if it fails, the time that the pod has had already counts when it is tried again.
        self.due.lock().remove(key);
        self.deleted.observe(late.as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Bench;
    use http::Method;
    use serde_json::{Value, json};

    const POD: &str = "/api/v1/namespaces/a/pods/p";

    /// A pod that tolerates the taint of its node for ten seconds.
    fn tolerant(uid: &str) -> Value {
        let toleration = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10});
        json!({"metadata": {"name": "p", "namespace": "a", "uid": uid}, "spec": {"nodeName": "n", "tolerations": [toleration]}})
    }

    fn bench() -> Bench {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
        let bench = Bench::new(vec![("/api/v1/nodes/n", node), (POD, tolerant("first"))]);
        start(&bench.ctx);
        bench
    }

    #[tokio::test]
    async fn an_eviction_that_fails_is_tried_again_at_once() {
        for (method, path) in [(Method::DELETE, POD.to_owned()), (Method::PATCH, format!("{POD}/status"))] {
            let bench = bench();
            bench.api.refuse(method, &path, 500);
            bench.advance(9).await;
            assert!(!bench.api.object(POD).is_null(), "not before its time");
            bench.advance(5).await;
            assert!(bench.api.object(POD).is_null(), "it does not wait another ten seconds");
        }
    }

    #[tokio::test]
    async fn the_time_of_a_namesake_is_its_own() {
        let bench = bench();
        bench.advance(5).await;
        bench.api.put(POD, tolerant("second"));
        bench.advance(8).await;
        assert!(!bench.api.object(POD).is_null(), "it has had eight seconds");
        bench.advance(5).await;
        assert!(bench.api.object(POD).is_null());
    }

    #[test]
    fn a_tolerated_pod_leaves_when_its_time_is_over() {
        let node: Node =
            serde_json::from_value(json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}})).unwrap();
        let pod: Pod = serde_json::from_value(json!({"spec": {"tolerations": [
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        ]}}))
        .unwrap();
        assert_eq!(plan(&pod, Some(&node), Duration::ZERO), Action::EvictIn(Duration::from_secs(300)));
        assert_eq!(plan(&pod, Some(&node), Duration::from_secs(301)), Action::EvictIn(Duration::ZERO));
        assert_eq!(plan(&Pod::default(), Some(&node), Duration::ZERO), Action::EvictIn(Duration::ZERO));
        assert_eq!(plan(&pod, Some(&Node::default()), Duration::ZERO), Action::Keep);
        assert_eq!(plan(&pod, None, Duration::ZERO), Action::Keep);
    }
}
