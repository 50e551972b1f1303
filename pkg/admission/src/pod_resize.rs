//! PodResizeValidator: a pod that runs is not made larger than its node.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::quantity::Quantity;
use kedge_meta::{Status, StatusCause};
use kedge_quota::Pod;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden, is_sub, read};

pub(crate) struct PodResizeValidator;

#[async_trait]
impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let generation = |pod: &Value| pod.int(&["metadata", "generation"]);
        attributes.operation == Operation::Update
            && is_sub(attributes, "", "pods", "resize")
            && !attributes.object.text(&["spec", "nodeName"]).is_empty()
            && attributes.old.is_some_and(|old| generation(old) != generation(&attributes.object))
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let name = attributes.object.text(&["spec", "nodeName"]);
        let Some(node) = read(registry, ("", "nodes"), "", name)? else {
            return Err(forbidden(attributes, &format!("node {name:?} not found")));
        };
        let system = node.text(&["metadata", "labels", "kubernetes.io/os"]);
        if !matches!(system, "" | "linux") {
            let why = format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
            return Err(refused(attributes, &why, "UnsupportedPlatform"));
        }
        let requests = Pod::of(&attributes.object).requests();
        let mut short = Vec::new();
        for (resource, unit) in [("cpu", true), ("memory", false)] {
            let none = Quantity::from_value(0);
            let has = Quantity::parse(node.text(&["status", "allocatable", resource])).unwrap_or(none);
            let wants = requests.get(resource).copied().unwrap_or(none);
            if wants > has {
                let shown = |quantity: &Quantity| if unit { quantity.milli_value() } else { quantity.value() };
                short.push(format!("{resource}, requested: {}, allocatable: {}", shown(&wants), shown(&has)));
            }
        }
        if short.is_empty() {
            return Ok(());
        }
        let why = format!("node didn't have enough allocatable resources: {}", short.join("; "));
        Err(refused(attributes, &why, "NodeCapacity"))
    }
}

/// A refusal whose cause programs can tell.
fn refused(attributes: &Attributes<'_>, why: &str, reason: &str) -> Status {
    let mut status = forbidden(attributes, why);
    let cause = StatusCause { reason: reason.to_owned(), ..StatusCause::default() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn a_pod_does_not_grow_out_of_its_node() {
        let (registry, _) = testing::registry().await;
        let node = |name: &str, os: &str| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/os": os}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}})
        };
        testing::put(&registry, node("n", "linux")).await;
        testing::put(&registry, node("w", "windows")).await;
        let user = testing::user();
        let pod = |node: &str, generation: u64, cpu: &str| {
            json!({"metadata": {"name": "p", "generation": generation}, "spec": {"nodeName": node,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}})
        };
        let said = async |node: &str, cpu: &str| {
            let old = pod(node, 1, "1");
            let mut attributes = Attributes::new(Operation::Update, testing::resource("", "pods"), &user);
            (attributes.subresource, attributes.old, attributes.object) = ("resize", Some(&old), pod(node, 2, cpu));
            assert!(PodResizeValidator.validates(&attributes));
            PodResizeValidator.validate(&registry, &attributes).await
        };
        assert_eq!(said("n", "2").await, Ok(()));
        let large = said("n", "2500m").await.unwrap_err();
        assert!(
            large
                .message
                .ends_with("node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000"),
            "{}",
            large.message
        );
        assert_eq!(large.details.unwrap().causes[0].reason, "NodeCapacity");
        assert!(said("w", "1").await.unwrap_err().message.contains("only supported on linux nodes"));
        assert!(said("gone", "1").await.unwrap_err().message.contains("node \"gone\" not found"));
    }
}
