//! Follows the heartbeats of nodes, marks lost ones, and keeps their taints in line with their conditions.
//!
//! Nodes that are unwell are emptied zone by zone, one after the other, as fast as the health of the zone lets.
//! Invariant: silence is measured by this process's monotonic clock from the last change it saw, so neither a wrong clock
//! on a node nor a jump of the wall clock makes a node look lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kedge_base::exposition::{self, Counters, Exposition, written};
use kedge_base::time;
use kedge_client::{Error, EventRecorder, EventType, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use parking_lot::Mutex;
use serde_json::json;
use tracing::info;

use super::zones::{self, Turn, Turned, Zones};
use super::{health, reference, taints};
use crate::context::{Context, ignore_not_found};
use crate::objects::{Condition, Lease, Meta, Node, condition};

const LEASES: &str = "kube-node-lease";

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    leases: Informer<Lease>,
    /// By node: when it last gave a sign of life.
    heard: Mutex<HashMap<String, Duration>>,
    /// Nodes that were announced by an event.
    known: Mutex<HashSet<String>>,
    zones: Mutex<Zones>,
    /// A node has come or gone, or has become well or unwell, since the zones were looked at.
    stale: AtomicBool,
    /// Whether all nodes of all zones are unwell.
    lost: AtomicBool,
    emptied: Counters,
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        let help = "Number of Node evictions that happened since current instance of NodeController started.";
        self.emptied.show(out, "node_collector_evictions_total", help);
        let zones = self.zones.lock();
        let all: Vec<(&str, usize, usize)> = zones.sizes().collect();
        let mut gauge = |name: &str, help: &str, value: fn(usize, usize) -> f64| {
            let name = format!("node_collector_{name}");
            out.family(&name, "gauge", help);
            all.iter().for_each(|(zone, size, unwell)| out.sample(&name, &[("zone", zone)], value(*size, *unwell)));
        };
        gauge("zone_size", "[ALPHA] Gauge measuring number of registered Nodes per zones.", |size, _| size as f64);
        let help = "[ALPHA] Gauge measuring percentage of healthy nodes per zone.";
        gauge("zone_health", help, |size, unwell| match size {
            0 => 100.0,
            size => 100.0 * (size - unwell) as f64 / size as f64,
        });
        let help = "[ALPHA] Gauge measuring number of not Ready Nodes per zones.";
        gauge("unhealthy_nodes_in_zone", help, |_, unwell| unwell as f64);
    }
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
        zones: Mutex::default(),
        stale: AtomicBool::new(true),
        lost: AtomicBool::new(false),
        emptied: Counters::default(),
    });
    exposition::list("nodes", &controller);
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
        if placed(change.old.as_deref()) != placed(change.new.as_deref()) {
            c.stale.store(true, Ordering::SeqCst);
        }
        c.queue.add(change.key());
    });
    // A pod that comes to a node that is lost.
    let c = controller.clone();
    ctx.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        let comes = change.old.as_ref().is_none_or(|old| old.spec.node_name != pod.spec.node_name);
        if comes && c.ctx.nodes.get("", &pod.spec.node_name).is_some_and(|node| is_lost(&node)) {
            c.queue.add(ObjectKey::new("", &pod.spec.node_name));
        }
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

/// Whether it was marked as lost, which none but this controller does.
fn is_lost(node: &Node) -> bool {
    condition(&node.status.conditions, "Ready").is_some_and(|c| c.status == "Unknown")
}

/// What a node is for the health of its zone: where it is, and whether it is ready.
fn placed(node: Option<&Node>) -> Option<(String, bool)> {
    let node = node.filter(|node| zones::counts(&node.metadata.labels))?;
    let ready = condition(&node.status.conditions, "Ready").is_some_and(Condition::is_true);
    Some((zones::zone_of(&node.metadata.labels), ready))
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
            self.queue.add_after(key, patience.saturating_add(Duration::from_millis(1)));
        }
        if is_lost(&node) {
            self.mark_pods_not_ready(&node.metadata.name).await?;
        }
        self.taint(&node).await
    }

    fn forget(&self, name: &str) {
        self.heard.lock().remove(name);
        self.leave(name);
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
        ignore_not_found(patched.map(|_: Meta| ()))?;
        if condition(&node.status.conditions, "Ready").is_some_and(Condition::is_true) {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.events.event(&reference(node), EventType::Normal, "NodeNotReady", message);
        }
        Ok(())
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

    /// Looks at the zones again if something has changed for them.
    fn look_at_zones(&self) {
        if !self.stale.swap(false, Ordering::SeqCst) {
            return;
        }
        let nodes = self.ctx.nodes.list();
        let placed: Vec<(String, bool)> = nodes.iter().filter_map(|node| placed(Some(node))).collect();
        let (turned, heads) = {
            let mut zones = self.zones.lock();
            let all = placed.iter().map(|(zone, ready)| (zone.as_str(), *ready));
            let turned = zones.update(all, &self.ctx.settings.nodes);
            (turned, zones.heads().cloned().collect::<Vec<_>>())
        };
        self.lost.store(matches!(turned, Turned::AllLost | Turned::StillLost), Ordering::SeqCst);
        heads.iter().for_each(|name| self.queue.add(ObjectKey::new("", name)));
        match turned {
            Turned::AllLost => info!("no node is ready: nothing is evicted until one is"),
            Turned::Back => {
                // What was silent while nobody was heard may not have been.
                let now = self.ctx.clock.monotonic();
                self.heard.lock().values_mut().for_each(|heard| *heard = now);
            }
            Turned::Apart | Turned::StillLost => return,
        }
        nodes.iter().for_each(|node| self.queue.add(node.metadata.key()));
    }

    /// Whether pods have to leave the node by now.
    fn is_to_be_emptied(&self, node: &Node) -> bool {
        let name = &node.metadata.name;
        if !is_unwell(node) || self.lost.load(Ordering::SeqCst) || taints::is_emptied(node) {
            self.leave(name);
            return is_unwell(node) && !self.lost.load(Ordering::SeqCst);
        }
        let zone = zones::zone_of(&node.metadata.labels);
        let usual = self.ctx.settings.nodes.eviction_rate;
        let turn = self.zones.lock().turn(&zone, name, self.ctx.clock.monotonic(), usual);
        match turn {
            Turn::Now(next) => {
                next.into_iter().for_each(|name| self.queue.add(ObjectKey::new("", name)));
                self.emptied.add(written(&[("zone", &zone)]));
                true
            }
            Turn::After(wait) => {
                self.queue.add_after(node.metadata.key(), wait);
                false
            }
            Turn::Wait => false,
        }
    }

    /// A node does not wait to be emptied any more.
    fn leave(&self, name: &str) {
        let next = self.zones.lock().leave(name);
        next.into_iter().for_each(|name| self.queue.add(ObjectKey::new("", name)));
    }

    async fn taint(&self, node: &Node) -> Result<(), Error> {
        self.look_at_zones();
        let spare = !self.is_to_be_emptied(node);
        let Some(taints) = taints::plan(node, spare, self.ctx.clock.now()) else {
            return Ok(());
        };
        let name = &node.metadata.name;
        let version = &node.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
        let patched = self.ctx.client.patch(&resources::NODES, "", name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
