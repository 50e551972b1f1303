//! Small objects for unit tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::{Node, Pod};
use crate::cache::Cache;
use crate::listers::Listers;

/// A pod from JSON.
pub fn pod(json: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(json).unwrap())
}

/// An unbound pod of namespace `default` with this spec and no labels; the name is the uid too.
pub fn with_spec(name: &str, spec: Value) -> Arc<Pod> {
    labelled(name, json!({}), spec)
}

/// An unbound pod with labels.
pub fn labelled(name: &str, labels: Value, spec: Value) -> Arc<Pod> {
    pod(json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec}))
}

/// An unbound pod that asks for CPU.
pub fn sized(name: &str, cpu: &str) -> Arc<Pod> {
    with_spec(name, json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

/// The same, bound.
pub fn bound(name: &str, node: &str, cpu: &str) -> Arc<Pod> {
    let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
    with_spec(name, json!({"nodeName": node, "containers": containers}))
}

/// A bound pod with labels and nothing else.
pub fn placed(name: &str, node: &str, labels: Value) -> Arc<Pod> {
    labelled(name, labels, json!({"nodeName": node}))
}

/// A node with 4 CPU, 8 GiB and room for 110 pods.
pub fn node(name: &str, labels: Value) -> Arc<Node> {
    node_with(name, labels, json!({}))
}

/// The same with a spec.
pub fn node_with(name: &str, labels: Value, spec: Value) -> Arc<Node> {
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "10Gi"});
    let node = json!({
        "metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": allocatable},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

/// A cache of nodes and bound pods.
pub fn cache(nodes: impl IntoIterator<Item = Arc<Node>>, pods: impl IntoIterator<Item = Arc<Pod>>) -> Cache {
    let mut cache = Cache::default();
    nodes.into_iter().for_each(|n| cache.set_node(n));
    pods.into_iter().for_each(|p| cache.set_pod(p));
    cache
}

/// No other objects.
pub fn listers() -> Listers {
    Listers::default()
}
