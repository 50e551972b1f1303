//! PodTopologyLabels: a pod on a node carries the zone and region of the node.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::{Value, json};

use crate::{Plugin, read};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(crate) struct PodTopologyLabels;

/// The node that a pod is made on, or bound to. Labels of a binding become the pod's.
fn node_of<'a>(attributes: &'a Attributes<'_>) -> &'a str {
    let object: &Value = &attributes.object;
    let pods = attributes.resource.group.is_empty() && attributes.resource.plural == "pods";
    match attributes.subresource {
        _ if !pods || attributes.operation != Operation::Create => "",
        "" => object.text(&["spec", "nodeName"]),
        "binding" if object.text(&["target", "kind"]) == "Node" => object.text(&["target", "name"]),
        _ => "",
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        !node_of(attributes).is_empty()
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = read(registry, ("", "nodes"), "", node_of(attributes))? else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = node.at(&["metadata", "labels", label]) {
                let labels = attributes.object.entry("metadata").entry("labels").or_insert_with(|| json!({}));
                labels.set(label, value.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn pods_and_bindings_carry_where_their_node_is() {
        let (registry, _) = testing::registry().await;
        let labels = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}});
        testing::put(&registry, node).await;
        let user = testing::user();
        let given = async |subresource: &'static str, object: Value| {
            let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
            (attributes.subresource, attributes.object) = (subresource, object);
            if PodTopologyLabels.mutates(&attributes) {
                assert_eq!(PodTopologyLabels.admit(&registry, &mut attributes).await, Ok(()));
            }
            attributes.object["metadata"]["labels"].clone()
        };
        let both = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
        assert_eq!(given("binding", json!({"target": {"kind": "Node", "name": "n"}})).await, both);
        assert_eq!(given("", json!({"spec": {"nodeName": "n"}})).await, both);
        assert_eq!(given("", json!({"spec": {}})).await, Value::Null);
        assert_eq!(given("binding", json!({"target": {"kind": "Node", "name": "gone"}})).await, Value::Null);
        let own = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "mine"}}, "spec": {"nodeName": "n"}});
        assert_eq!(given("", own).await, both, "the node knows better");
    }
}
