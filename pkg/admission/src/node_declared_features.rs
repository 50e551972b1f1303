//! NodeDeclaredFeatureValidator: a pod that runs is not changed into what its node does not say that it can do.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden, is, is_sub, read};

pub(crate) struct NodeDeclaredFeatureValidator;

/// What a change takes of the kubelet, by upstream's names in their order.
fn required(old: &Value, new: &Value) -> Vec<&'static str> {
    let pod = resources(&old["spec"]) != resources(&new["spec"]);
    let sidecar = |container: &Value| container.text(&["restartPolicy"]) == "Always";
    let before = old.list(&["spec", "initContainers"]).iter().enumerate().filter(|(_, container)| !sidecar(container));
    let after = new.list(&["spec", "initContainers"]);
    let mut init = before.map(|(at, container)| resources(container) != after.get(at).and_then(resources));
    let all = [
        (pod, "InPlacePodLevelResourcesVerticalScaling"),
        (init.any(|is| is), "InPlacePodVerticalScalingInitContainers"),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
}

/// Resources; none and nothing in them are the same.
fn resources(of: &Value) -> Option<&Value> {
    of.get("resources").filter(|resources| resources.as_object().is_some_and(|all| !all.is_empty()))
}

#[async_trait]
impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let generation = |pod: &Value| pod.int(&["metadata", "generation"]);
        attributes.operation == Operation::Update
            && (is(attributes, "", "pods") || is_sub(attributes, "", "pods", "resize"))
            && !attributes.object.text(&["spec", "nodeName"]).is_empty()
            && attributes.old.is_some_and(|old| generation(old) != generation(&attributes.object))
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let required = attributes.old.map(|old| required(old, &attributes.object)).unwrap_or_default();
        if required.is_empty() {
            return Ok(());
        }
        let name = attributes.object.text(&["spec", "nodeName"]);
        let Some(node) = read(registry, ("", "nodes"), "", name)? else {
            return Err(forbidden(attributes, &format!("node {name:?} not found")));
        };
        let declared = node.list(&["status", "declaredFeatures"]);
        let missing: Vec<&str> = required.into_iter().filter(|name| !declared.iter().any(|has| has == name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        let why = format!("pod update requires features {missing} which are not available on node {name:?}");
        Err(forbidden(attributes, &why))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn a_pod_asks_no_more_of_its_node_than_that_declares() {
        let (registry, _) = testing::registry().await;
        let node = |name: &str, features: &[&str]| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"declaredFeatures": features}});
        let (pods, init) = ("InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers");
        testing::put(&registry, node("all", &[pods, init])).await;
        testing::put(&registry, node("none", &["Other"])).await;
        let user = testing::user();
        let cpu = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = |node: &str, generation: u64| {
            json!({"metadata": {"name": "p", "generation": generation}, "spec": {"nodeName": node, "resources": cpu("1"),
                "containers": [{"name": "c", "resources": cpu("1")}],
                "initContainers": [{"name": "i", "resources": cpu("1")}, {"name": "s", "restartPolicy": "Always"}]}})
        };
        let said = async |node: &str, changes: &dyn Fn(&mut Value)| {
            let (old, mut new) = (pod(node, 1), pod(node, 2));
            changes(&mut new["spec"]);
            let mut attributes = Attributes::new(Operation::Update, testing::resource("", "pods"), &user);
            (attributes.subresource, attributes.old, attributes.object) = ("resize", Some(&old), new);
            assert!(NodeDeclaredFeatureValidator.validates(&attributes));
            NodeDeclaredFeatureValidator.validate(&registry, &attributes).await.map_err(|refused| refused.message)
        };
        let containers: &dyn Fn(&mut Value) = &|spec| {
            spec["containers"][0]["resources"] = cpu("2");
            spec["initContainers"][1]["resources"] = cpu("2");
        };
        let both: &dyn Fn(&mut Value) = &|spec| {
            spec["resources"] = cpu("2");
            spec["initContainers"][0]["resources"] = cpu("2");
        };
        assert_eq!(said("none", containers).await, Ok(()), "that takes nothing");
        assert_eq!(said("all", both).await, Ok(()));
        let refused = said("none", both).await.unwrap_err();
        let why = format!("pod update requires features {pods}, {init} which are not available on node \"none\"");
        assert!(refused.ends_with(&why), "{refused}");
        assert!(said("gone", both).await.unwrap_err().ends_with("node \"gone\" not found"));
        let old = pod("none", 1);
        let mut attributes = Attributes::new(Operation::Update, testing::resource("", "pods"), &user);
        (attributes.old, attributes.object) = (Some(&old), old.clone());
        assert!(!NodeDeclaredFeatureValidator.validates(&attributes), "nothing is specified anew");
    }
}
