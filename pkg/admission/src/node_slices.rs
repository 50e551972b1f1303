//! The endpoint slices that a node writes: one, which publishes the DNS server in its own process.
//!
//! Upstream's nodes write none. Whoever wrote others could send what is meant for the cluster's DNS, or for a webhook or an API
//! behind a service of the namespace, to where they like.

use std::net::IpAddr;

use kedge_meta::{Cidr, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{forbidden, read};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Refuses what is not the node's own slice, or says of it what the node cannot know.
///
/// # Errors
/// 403.
pub(crate) fn check(node: &str, name: &str, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
    let forbid = |why: String| Err(forbidden(attributes, &why));
    // The agent gives it this name.
    let own = format!("{SERVICE}-{node}");
    if attributes.namespace != NAMESPACE || name != own {
        return forbid(format!(
            "node {node:?} can only write the endpoint slice {own:?} in the namespace {NAMESPACE:?}"
        ));
    }
    // Under this name there may be a slice of another service, whose name ends as the node's does.
    let of_service = |slice: &Value| slice.text(&["metadata", "labels", SERVICE_LABEL]) == SERVICE;
    let written = attributes.operation != Operation::Delete;
    if !attributes.old.is_none_or(of_service) || (written && !of_service(&attributes.object)) {
        return forbid(format!("node {node:?} can only write endpoint slices of the service {SERVICE:?}"));
    }
    if !written {
        return Ok(());
    }
    let ranges = ranges(node, registry)?;
    for endpoint in attributes.object.list(&["endpoints"]) {
        if endpoint.text(&["nodeName"]) != node {
            return forbid(format!("node {node:?} can only write endpoints with nodeName set to itself"));
        }
        for address in endpoint.list(&["addresses"]).iter().filter_map(Value::as_str) {
            let address = address.parse::<IpAddr>();
            if !address.is_ok_and(|address| ranges.iter().any(|range| range.contains(address))) {
                return forbid(format!("node {node:?} can only write endpoints with addresses of its own pod range"));
            }
        }
    }
    Ok(())
}

/// The addresses that the node gives to its pods, and one of them to itself.
fn ranges(node: &str, registry: &Registry) -> Result<Vec<Cidr>, Status> {
    let node = read(registry, ("", "nodes"), "", node)?.unwrap_or_default();
    let all = node.list(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str);
    Ok(all.chain([node.text(&["spec", "podCIDR"])]).filter_map(|range| range.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use kedge_meta::UserInfo;
    use serde_json::json;

    use super::*;
    use crate::{Plugin as _, testing};

    fn slice(service: &str, node: &str, address: &str) -> Value {
        json!({"metadata": {"labels": {SERVICE_LABEL: service}},
            "endpoints": [{"addresses": [address], "nodeName": node}]})
    }

    /// Whether the plugin lets the node `one` do this.
    async fn lets(
        registry: &Arc<Registry>,
        operation: Operation,
        (namespace, name): (&str, &str),
        new: Value,
        old: Option<&Value>,
    ) -> bool {
        let (_, rbac) = testing::registry().await;
        let plugin = crate::node_restriction::NodeRestriction::new(rbac);
        let user = UserInfo::new("system:node:one", &["system:nodes"]);
        let slices = testing::resource("discovery.k8s.io", "endpointslices");
        let mut attributes = Attributes::new(operation, slices, &user);
        (attributes.namespace, attributes.name) = (namespace, name);
        (attributes.object, attributes.old) = (new, old);
        assert!(plugin.validates(&attributes));
        plugin.validate(registry, &attributes).await.is_ok()
    }

    async fn with_node() -> Arc<Registry> {
        let (registry, _) = testing::registry().await;
        let spec = json!({"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}, "spec": spec});
        testing::put(&registry, node).await;
        registry
    }

    /// Every node could once write every slice of the namespace: one that was taken over sent the cluster's DNS to itself.
    #[tokio::test]
    async fn a_node_publishes_its_own_dns_and_nothing_else() {
        let registry = with_node().await;
        let (create, update) = (Operation::Create, Operation::Update);
        let own = ("kube-system", "kube-dns-one");
        let good = slice("kube-dns", "one", "10.42.0.1");
        assert!(lets(&registry, create, own, good.clone(), None).await);
        assert!(lets(&registry, update, own, good.clone(), Some(&good)).await);
        for place in [("kube-system", "kube-dns-two"), ("kube-system", "webhook-abcde"), ("default", "kube-dns-one")] {
            assert!(!lets(&registry, create, place, good.clone(), None).await, "{place:?}");
            assert!(!lets(&registry, update, place, good.clone(), Some(&good)).await, "{place:?}");
        }
        for (service, node, address) in [
            ("webhook", "one", "10.42.0.1"),
            ("", "one", "10.42.0.1"),
            ("kube-dns", "two", "10.42.0.1"),
            ("kube-dns", "", "10.42.0.1"),
            ("kube-dns", "one", "10.42.1.1"),
            ("kube-dns", "one", "203.0.113.1"),
            ("kube-dns", "one", "somewhere.example"),
        ] {
            let wrong = slice(service, node, address);
            assert!(!lets(&registry, create, own, wrong.clone(), None).await, "{wrong}");
            assert!(!lets(&registry, update, own, wrong.clone(), Some(&good)).await, "{wrong}");
        }
    }

    /// The controller of slices may have given the name to a slice of `kube-dns-x`, where a node is called `x-one`.
    #[tokio::test]
    async fn a_slice_of_another_service_is_nobodys_dns() {
        let registry = with_node().await;
        let own = ("kube-system", "kube-dns-one");
        let (good, other) = (slice("kube-dns", "one", "10.42.0.1"), slice("web", "two", "10.42.1.7"));
        assert!(!lets(&registry, Operation::Update, own, good.clone(), Some(&other)).await);
        assert!(!lets(&registry, Operation::Delete, own, Value::Null, Some(&other)).await);
        assert!(lets(&registry, Operation::Delete, own, Value::Null, Some(&good)).await);
        assert!(!lets(&registry, Operation::Delete, ("kube-system", "kube-dns-two"), Value::Null, Some(&good)).await);
    }
}
