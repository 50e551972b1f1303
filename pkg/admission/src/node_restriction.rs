//! NodeRestriction: a node writes only to itself, its lease, its pods and tokens for them.

use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden};

pub(crate) struct NodeRestriction;

fn node_of<'a>(attributes: &'a Attributes<'_>) -> Option<&'a str> {
    if !attributes.user.in_group("system:nodes") {
        return None;
    }
    attributes.user.name.strip_prefix("system:node:")
}

impl Plugin for NodeRestriction {
    fn validate(&self, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_of(attributes) else { return Ok(()) };
        let name = if attributes.name.is_empty() { attributes.object.name() } else { attributes.name };
        match (attributes.resource.group, attributes.resource.plural, attributes.subresource) {
            ("", "nodes", _) if name != node => {
                Err(forbidden(attributes, &format!("node {node:?} is not allowed to modify node {name:?}")))
            }
            ("", "nodes", "") if attributes.operation == Operation::Update => check_own_node(node, attributes),
            ("", "pods", subresource) => check_pod(node, subresource, attributes),
            ("", "serviceaccounts", "token") => check_token(node, registry, attributes),
            ("coordination.k8s.io", "leases", _) if attributes.namespace != "kube-node-lease" => {
                Err(forbidden(attributes, "can only access leases in the \"kube-node-lease\" system namespace"))
            }
            ("coordination.k8s.io", "leases", _) if name != node => {
                Err(forbidden(attributes, "can only access node lease with the same name as the requesting node"))
            }
            _ => Ok(()),
        }
    }
}

fn check_own_node(node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
    let taints = |value: &Value| value.list(&["spec", "taints"]).to_vec();
    let changed = attributes.old.is_some_and(|old| taints(old) != taints(&attributes.object));
    if changed { Err(forbidden(attributes, &format!("node {node:?} is not allowed to modify taints"))) } else { Ok(()) }
}

fn check_pod(node: &str, subresource: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
    let bound = |pod: &Value| pod.text(&["spec", "nodeName"]) == node;
    match (subresource, attributes.operation) {
        ("", Operation::Create) => {
            let mirror = attributes.object.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
            if !mirror {
                let why = format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                );
                return Err(forbidden(attributes, &why));
            }
            if !bound(&attributes.object) {
                return Err(forbidden(
                    attributes,
                    &format!("node {node:?} can only create pods with spec.nodeName set to itself"),
                ));
            }
            Ok(())
        }
        ("" | "status" | "eviction", Operation::Update | Operation::Delete | Operation::Create) => {
            let pod = attributes.old.unwrap_or(&attributes.object);
            if subresource == "eviction" || bound(pod) {
                return Ok(());
            }
            let what =
                if attributes.operation == Operation::Delete { "delete pods" } else { "update pod status for pods" };
            Err(forbidden(attributes, &format!("node {node:?} can only {what} with spec.nodeName set to itself")))
        }
        _ => Err(forbidden(attributes, &format!("unexpected pod subresource {subresource:?}"))),
    }
}

fn check_token(node: &str, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
    let reference = attributes.object.at(&["spec", "boundObjectRef"]);
    let Some(reference) = reference.filter(|r| r.text(&["kind"]) == "Pod") else {
        return Err(forbidden(attributes, "node requested token not bound to a pod"));
    };
    let key = format!("{}/{}", attributes.namespace, reference.text(&["name"]));
    let pod = registry.get("", "v1", "pods").and_then(|p| p.store.get(&key).ok()?).and_then(|o| o.to_value().ok());
    let here = pod.is_some_and(|pod| pod.text(&["spec", "nodeName"]) == node);
    if here {
        Ok(())
    } else {
        Err(forbidden(attributes, "node requested token bound to a pod scheduled on a different node"))
    }
}
