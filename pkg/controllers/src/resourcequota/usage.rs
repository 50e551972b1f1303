//! The controller's objects as quotas see them.

use jiff::Timestamp;
use kedge_meta::{ObjectMeta, StringMap};
use kedge_quota::amounts::parse;
use kedge_quota::{Amounts, Claim, Container, Item, Pod, Requirement, Service};
use serde::Deserialize;

use crate::objects::{self, QuotaSpec, Resources, parse_time};

fn amounts(map: &StringMap) -> Amounts {
    parse(map.iter())
}

fn sides(resources: &Resources) -> (Amounts, Amounts) {
    (amounts(&resources.requests), amounts(&resources.limits))
}

fn containers(list: &[objects::Container]) -> Vec<Container<'_>> {
    let container = |c: &'_ objects::Container| {
        let (requests, limits) = sides(&c.resources);
        (c.restart_policy == "Always", requests, limits)
    };
    list.iter()
        .map(|c| {
            let (sidecar, requests, limits) = container(c);
            Container { name: &c.name, sidecar, requests, limits }
        })
        .collect()
}

/// A pod.
pub(super) fn of_pod(pod: &objects::Pod) -> Item<'_> {
    let deletion = parse_time(pod.metadata.deletion_timestamp.as_ref()).zip(pod.metadata.deletion_grace_period_seconds);
    let affinity = pod.spec.affinity.as_deref();
    Item::Pod(Pod {
        containers: containers(&pod.spec.containers),
        init_containers: containers(&pod.spec.init_containers),
        resources: pod.spec.resources.as_deref().map(sides),
        overhead: amounts(&pod.spec.overhead),
        phase: &pod.status.phase,
        deletion,
        active_deadline_seconds: pod.spec.active_deadline_seconds,
        priority_class: &pod.spec.priority_class_name,
        crosses_namespaces: affinity.is_some_and(|a| a.to_other_namespaces || a.from_other_namespaces),
    })
}

/// What a pod uses, and whether its end is set, which quotas may select by.
pub(super) fn counted(pod: &objects::Pod, now: Timestamp) -> (Amounts, bool) {
    (of_pod(pod).usage(now), pod.spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0))
}

/// A service.
pub(super) fn of_service(service: &objects::Service) -> Item<'_> {
    Item::Service(Service {
        kind: &service.spec.kind,
        ports: service.spec.ports.len(),
        named_node_ports: service.spec.ports.iter().filter(|port| port.node_port != 0).count(),
        allocates_node_ports: service.spec.allocate_load_balancer_node_ports != Some(false),
    })
}

/// A claim, read when claims are counted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StoredClaim {
    metadata: ObjectMeta,
    spec: ClaimSpec,
    status: ClaimStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    storage_class_name: String,
    volume_attributes_class_name: String,
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimStatus {
    allocated_resources: StringMap,
    current_volume_attributes_class_name: String,
    modify_volume_status: Option<ModifyStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ModifyStatus {
    target_volume_attributes_class_name: String,
}

/// A claim.
pub(super) fn of_claim(claim: &StoredClaim) -> Item<'_> {
    let storage = |map: &StringMap| amounts(map).remove("storage");
    let class = claim.metadata.annotations.get("volume.beta.kubernetes.io/storage-class");
    let modified = claim.status.modify_volume_status.as_ref();
    Item::Claim(Claim {
        class: class.unwrap_or(&claim.spec.storage_class_name),
        requested: storage(&claim.spec.resources.requests),
        allocated: storage(&claim.status.allocated_resources),
        attributes_classes: vec![
            &claim.spec.volume_attributes_class_name,
            &claim.status.current_volume_attributes_class_name,
            modified.map_or("", |status| &status.target_volume_attributes_class_name),
        ],
    })
}

/// What must hold of the objects that a quota counts.
pub(super) fn scopes(spec: &QuotaSpec) -> Vec<Requirement<'_>> {
    let selected = spec.scope_selector.iter().flat_map(|selector| &selector.match_expressions);
    let selected = selected.map(|e| Requirement {
        scope: &e.scope_name,
        operator: &e.operator,
        values: e.values.iter().map(String::as_str).collect(),
    });
    spec.scopes.iter().map(|scope| Requirement::exists(scope)).chain(selected).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    /// Who admits and who counts must come to the same.
    #[test]
    fn slim_objects_count_as_whole_ones() {
        let now = Timestamp::UNIX_EPOCH;
        let resources = json!({"requests": {"cpu": "100m", "example.com/a": "1"}, "limits": {"memory": "1Gi"}});
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}, "spec": {
            "containers": [{"name": "a", "resources": resources}, {"name": "b"}],
            "initContainers": [{"name": "i", "resources": resources, "restartPolicy": "Always"}],
            "resources": {"requests": {"memory": "3Gi"}}, "overhead": {"cpu": "1m"}, "activeDeadlineSeconds": 3,
            "priorityClassName": "high",
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}});
        let slim: objects::Pod = serde_json::from_value(pod.clone()).unwrap();
        assert_eq!(of_pod(&slim).usage(now), Item::of("", "pods", &pod).usage(now));
        for scope in ["Terminating", "BestEffort", "PriorityClass", "CrossNamespacePodAffinity", "NotTerminating"] {
            let scopes = [Requirement::exists(scope)];
            assert_eq!(of_pod(&slim).in_scopes(&scopes), Item::of("", "pods", &pod).in_scopes(&scopes), "{scope}");
        }
        let service = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 1, "nodePort": 30001}, {"port": 2}]}});
        let slim: objects::Service = serde_json::from_value(service.clone()).unwrap();
        assert_eq!(of_service(&slim).usage(now), Item::of("", "services", &service).usage(now));
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}},
            "volumeAttributesClassName": "fast"}, "status": {"allocatedResources": {"storage": "2Gi"}}});
        let slim: StoredClaim = serde_json::from_value(claim.clone()).unwrap();
        assert_eq!(of_claim(&slim).usage(now), Item::of("", "persistentvolumeclaims", &claim).usage(now));
        let fast = |e: Value| -> QuotaSpec { serde_json::from_value(e).unwrap() };
        let selector = fast(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]}}));
        assert!(of_claim(&slim).in_scopes(&scopes(&selector)));
    }
}
