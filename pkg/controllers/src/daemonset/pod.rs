//! The pod that a DaemonSet makes for a node.

use kedge_meta::resources;
use serde_json::{Value, json};

use super::plan::{HASH_LABEL, TOLERATED, TOLERATED_ON_HOST_NETWORK};
use crate::objects::DaemonSet;
use crate::workload::controller_ref;
use crate::workload::pod_control::from_template;

const GENERATION: &str = "deprecated.daemonset.template.generation";

/// From the template; the scheduler puts it on the node that its affinity names.
pub fn pod(set: &DaemonSet, template: &Value, node: &str, hash: &str) -> Value {
    let owner = controller_ref(&resources::DAEMON_SETS, &set.metadata);
    let mut pod = from_template(template, &set.metadata.namespace, &owner);
    pod["metadata"]["generateName"] = format!("{}-", set.metadata.name).into();
    pod["metadata"]["labels"][HASH_LABEL] = hash.into();
    if let Some(generation) = set.metadata.annotations.get(GENERATION) {
        pod["metadata"]["labels"]["pod-template-generation"] = generation.into();
    }
    let spec = &mut pod["spec"];
    let fields = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
    let required = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    *required = json!({ "nodeSelectorTerms": [{ "matchFields": fields }] });
    let host = (spec["hostNetwork"] == true).then_some(TOLERATED_ON_HOST_NETWORK);
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in TOLERATED.into_iter().chain(host) {
        let toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec["tolerations"] = tolerations.into();
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_to_its_node_by_affinity() {
        let pod = pod(&DaemonSet::default(), &json!({"spec": {"hostNetwork": true}}), "n", "h");
        let path = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
        assert_eq!(pod.pointer(path).map(|t| &t["matchFields"][0]["values"]), Some(&json!(["n"])));
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(7));
        assert_eq!(pod["metadata"]["labels"][HASH_LABEL], "h");
    }
}
