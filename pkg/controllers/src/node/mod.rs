//! Everything about nodes: pod ranges, health and taints, eviction by taints, and pods that lost their node.

mod cidr;
mod eviction;
mod health;
mod ipam;
mod lifecycle;
mod pod_gc;
pub mod taints;
mod ttl;
mod zones;

use kedge_base::time;
use kedge_client::{Error, Patch};
use kedge_meta::{ObjectReference, resources};
use serde_json::{Value, json};

use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, Node, Pod};

/// Starts all node controllers.
pub fn start(ctx: &Context, cluster_cidr: &str) {
    if ctx.runs("node-ipam-controller") {
        ipam::start(ctx, cluster_cidr);
    }
    if ctx.runs("node-lifecycle-controller") {
        lifecycle::start(ctx);
    }
    if ctx.runs("taint-eviction-controller") {
        eviction::start(ctx);
    }
    if ctx.runs("pod-garbage-collector-controller") {
        pod_gc::start(ctx);
    }
    if ctx.runs("ttl-controller") {
        ttl::start(ctx);
    }
}

/// For events about a node.
fn reference(node: &Node) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone(),
        uid: node.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Writes the condition DisruptionTarget of a pod for a reason and with a message, and fails the pod if asked to.
async fn mark_disrupted(ctx: &Context, pod: &Pod, why: Option<(&str, &str)>, fail: bool) -> Result<(), Error> {
    let now = time::rfc3339(ctx.clock.now());
    let mut status = json!({});
    if let Some((reason, message)) = why {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": now,
            "observedGeneration": pod.metadata.generation,
        });
        status["conditions"] = json!([condition]);
    }
    if fail {
        status["phase"] = Value::from("Failed");
        status["observedGeneration"] = pod.metadata.generation.into();
    }
    let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": status });
    let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
    let patched = ctx.client.patch(&resources::PODS, namespace, name, Patch::Strategic(patch), Some("status")).await;
    ignore_not_found(patched.map(|_: Meta| ()))
}
