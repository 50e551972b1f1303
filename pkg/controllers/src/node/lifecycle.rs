//! Follows the heartbeats of nodes, marks lost ones, and keeps their taints in line with their conditions.
//!
//! Invariant: silence is measured by this process's monotonic clock from the last change it saw, so neither a wrong clock
//! on a node nor a jump of the wall clock makes a node look lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::time;
use kedge_client::{Error, EventRecorder, EventType, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::{health, reference, taints};
use crate::context::{Context, ignore_not_found};
use crate::objects::{Condition, Meta, Node, condition, keyed};

const LEASES: &str = "kube-node-lease";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Lease {
    metadata: ObjectMeta,
    spec: LeaseSpec,
}
keyed!(Lease);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    renew_time: Option<String>,
}

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    leases: Informer<Lease>,
    /// By node: when it last gave a sign of life.
    heard: Mutex<HashMap<String, Duration>>,
    /// Nodes that were announced by an event.
    known: Mutex<HashSet<String>>,
    /// Whether all nodes were unwell when last looked at.
    spare: Mutex<bool>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let leases: Informer<Lease> =
        Informer::start_in(&ctx.client, &ctx.tasks, &resources::LEASES, LEASES, ListParams::default());
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("node-controller"),
        queue: queue.clone(),
        leases: leases.clone(),
        heard: Mutex::default(),
        known: Mutex::default(),
        spare: Mutex::default(),
    });
    let c = controller.clone();
    leases.on_change(move |change| {
        let renewed = |lease: &Option<Arc<Lease>>| lease.as_ref().and_then(|l| l.spec.renew_time.clone());
        if change.new.is_some() && renewed(&change.old) != renewed(&change.new) {
            c.hear(&change.key().name);
        }
    });
    let c = controller.clone();
    ctx.nodes.on_change(move |change| {
        if heartbeat(change.old.as_deref()) != heartbeat(change.new.as_deref()) {
            c.hear(&change.key().name);
        }
        c.queue.add(change.key());
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.nodes.synced().await;
        c.ctx.pods.synced().await;
        c.leases.synced().await;
    };
    ctx.work("node-lifecycle", &queue, 2, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn heartbeat(node: Option<&Node>) -> Option<&String> {
    condition(&node?.status.conditions, "Ready")?.last_heartbeat_time.as_ref()
}

/// Whether the node is known to be unwell.
fn is_unwell(node: &Node) -> bool {
    condition(&node.status.conditions, "Ready").is_some_and(|c| !c.is_true())
}

impl Controller {
    fn hear(&self, node: &str) {
        self.heard.lock().insert(node.to_owned(), self.ctx.clock.monotonic());
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(node) = self.ctx.nodes.get("", &key.name) else {
            self.forget(&key.name);
            return Ok(());
        };
        if self.known.lock().insert(key.name.clone()) {
            let message = format!("Node {0} event: Registered Node {0} in Controller", key.name);
            self.events.event(&reference(&node), EventType::Normal, "RegisteredNode", message);
        }
        let now = self.ctx.clock.monotonic();
        let heard = *self.heard.lock().entry(key.name.clone()).or_insert(now);
        let patience = health::patience(&node, now.saturating_sub(heard), &self.ctx.settings.nodes);
        if patience.is_zero() {
            if let Some(conditions) = health::lost(&node, self.ctx.clock.now()) {
                return self.mark_lost(&node, &conditions).await;
            }
        } else {
            self.queue.add_after(key, patience + Duration::from_millis(1));
        }
        if is_unwell(&node) {
            self.mark_pods_not_ready(&node.metadata.name).await?;
        }
        self.taint(&node).await
    }

    fn forget(&self, name: &str) {
        self.heard.lock().remove(name);
        if self.known.lock().remove(name) {
            let node = Node { metadata: ObjectMeta { name: name.into(), ..ObjectMeta::default() }, ..Node::default() };
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.events.event(&reference(&node), EventType::Normal, "RemovingNode", message);
        }
    }

    async fn mark_lost(&self, node: &Node, conditions: &[Condition]) -> Result<(), Error> {
        let name = &node.metadata.name;
        info!(node = name, "node is silent, its state is unknown");
        // A sign of life between the cache and the write makes this fail, and the node is looked at again.
        let version = &node.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": { "conditions": conditions } });
        let patched = self.ctx.client.patch(&resources::NODES, "", name, Patch::Strategic(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    /// The services must stop to send to pods on an unwell node, which cannot say so itself.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), Error> {
        let pods = self.ctx.pods.list();
        for pod in pods.iter().filter(|p| p.spec.node_name == node && p.is_ready()) {
            let now = time::rfc3339(self.ctx.clock.now());
            let ready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": now });
            let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [ready] } });
            let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
            let client = &self.ctx.client;
            let patched =
                client.patch(&resources::PODS, namespace, name, Patch::Strategic(patch), Some("status")).await;
            ignore_not_found(patched.map(|_: Meta| ()))?;
            self.events.event(&pod.reference(), EventType::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn taint(&self, node: &Node) -> Result<(), Error> {
        let nodes = self.ctx.nodes.list();
        let spare = nodes.iter().all(|n| is_unwell(n));
        if std::mem::replace(&mut *self.spare.lock(), spare) != spare {
            nodes.iter().for_each(|n| self.queue.add(n.metadata.key()));
        }
        let Some(taints) = taints::plan(node, spare, self.ctx.clock.now()) else {
            return Ok(());
        };
        let name = &node.metadata.name;
        let turned = is_unwell(node)
            && !node.spec.taints.iter().any(|t| t.key == taints::NOT_READY || t.key == taints::UNREACHABLE);
        let version = &node.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        let patched = self.ctx.client.patch(&resources::NODES, "", name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))?;
        if turned {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.events.event(&reference(node), EventType::Normal, "NodeNotReady", message);
        }
        Ok(())
    }
}
