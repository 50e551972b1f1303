//! Core objects other than pods and volumes.

use super::Hook::{self, After, Before};
use super::object::{Object, child, children, fill, if_absent, if_empty, is_absent, is_empty, make, text};
use base64::Engine;
use kedge_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

pub(super) const HOOKS: &[Hook] = &[
    Before("api.core.v1.ReplicationController", replication_controller),
    Before("api.core.v1.Service", service),
    Before("api.core.v1.Secret", secret),
    After("api.core.v1.Secret", secret_data),
    Before("api.core.v1.PersistentVolume", persistent_volume),
    Before("api.core.v1.PersistentVolumeClaim", persistent_volume_claim),
    Before("api.core.v1.PersistentVolumeClaimSpec", persistent_volume_claim_spec),
    Before("api.core.v1.EndpointPort", endpoint_port),
    Before("api.core.v1.Namespace", namespace),
    Before("api.core.v1.NodeStatus", node_status),
    After("api.core.v1.NodeSpec", node_spec),
    Before("api.core.v1.LimitRangeItem", limit_range_item),
];

/// Amounts are counted in thousandths; finer ones are rounded up.
pub(super) fn resource_list(map: &mut Object) {
    for value in map.values_mut() {
        let Some(quantity) = value.as_str().and_then(|text| Quantity::parse(text).ok()) else { continue };
        let rounded = Quantity::from_millis(quantity.milli_value());
        // A value beyond the range of thousandths is whole anyway.
        if quantity.milli_value() != i64::MAX && rounded.sub(&quantity).milli_value() == 1 {
            *value = Value::String(rounded.to_string());
        }
    }
}

fn replication_controller(object: &mut Object) {
    let labels = object.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels"));
    let Some(labels) = labels.filter(|labels| labels.is_object()).cloned() else { return };
    if let Some(spec) = child(object, "spec") {
        if_empty(spec, "selector", labels.clone());
    }
    if let Some(metadata) = make(object, "metadata") {
        if_empty(metadata, "labels", labels);
    }
}

fn service(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_empty(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let set = spec.get("sessionAffinityConfig").and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            if set.is_none_or(Value::is_null) {
                spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": 10800}}));
            }
        }
        _ => {}
    }
    if_empty(spec, "type", "ClusterIP");
    for port in children(spec, "ports") {
        if_empty(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|target| target.is_null() || *target == json!(0) || *target == json!("")) {
            let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    service_traffic(spec);
    if text(spec, "type") == "LoadBalancer" {
        if_absent(spec, "allocateLoadBalancerNodePorts", true);
        let status = child(object, "status").and_then(|status| child(status, "loadBalancer"));
        for ingress in status.into_iter().flat_map(|status| children(status, "ingress")) {
            if !is_empty(ingress, "ip") {
                if_absent(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn service_traffic(spec: &mut Object) {
    let kind = text(spec, "type").to_string();
    let external =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !is_empty(spec, "externalIPs"));
    if external {
        if_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        if_absent(spec, "internalTrafficPolicy", "Cluster");
    }
}

fn secret(object: &mut Object) {
    if_empty(object, "type", "Opaque");
}

/// `stringData` is for writing only: it goes into `data`.
fn secret_data(object: &mut Object) {
    let Some(Value::Object(texts)) = object.remove("stringData") else { return };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = make(object, "data") {
        for (key, value) in texts {
            let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, Value::String(encoded));
        }
    }
}

fn persistent_volume(object: &mut Object) {
    if let Some(status) = make(object, "status") {
        if_empty(status, "phase", "Pending");
    }
    if let Some(spec) = make(object, "spec") {
        if_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
        if_absent(spec, "volumeMode", "Filesystem");
    }
}

fn persistent_volume_claim(object: &mut Object) {
    if let Some(status) = make(object, "status") {
        if_empty(status, "phase", "Pending");
    }
}

fn persistent_volume_claim_spec(object: &mut Object) {
    if_absent(object, "volumeMode", "Filesystem");
}

fn endpoint_port(object: &mut Object) {
    if_empty(object, "protocol", "TCP");
}

fn namespace(object: &mut Object) {
    let name = object.get("metadata").and_then(|metadata| metadata.get("name")).cloned();
    if let Some(name) = name.filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
        let labels = make(object, "metadata").and_then(|metadata| make(metadata, "labels"));
        if let Some(labels) = labels {
            labels.insert("kubernetes.io/metadata.name".into(), name);
        }
    }
    if let Some(status) = make(object, "status") {
        if_empty(status, "phase", "Active");
    }
}

fn node_status(object: &mut Object) {
    if is_absent(object, "allocatable")
        && let Some(capacity) = object.get("capacity").filter(|capacity| capacity.is_object()).cloned()
    {
        object.insert("allocatable".into(), capacity);
    }
}

/// The first of the lists is the single value, and a single value alone is the list.
pub(super) fn keep_first(object: &mut Object, single: &str, many: &str, wrap: fn(Value) -> Value) {
    let unwrap = |entry: &Value| entry.get("ip").unwrap_or(entry).clone();
    let first = object.get(many).and_then(|list| list.get(0)).map(unwrap);
    match object.get(single).filter(|value| value.as_str().is_some_and(|text| !text.is_empty())).cloned() {
        Some(value) if first.as_ref() != Some(&value) => {
            object.insert(many.to_string(), Value::Array(vec![wrap(value)]));
        }
        Some(_) => {}
        None => {
            if let Some(first) = first {
                object.insert(single.to_string(), first);
            }
        }
    }
}

fn node_spec(object: &mut Object) {
    keep_first(object, "podCIDR", "podCIDRs", |value| value);
}

fn limit_range_item(object: &mut Object) {
    if text(object, "type") != "Container" {
        return;
    }
    let list = |key: &str| object.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut default: Map<String, Value> = list("default");
    let mut request = list("defaultRequest");
    fill(&mut default, &list("max"));
    fill(&mut request, &default);
    fill(&mut request, &list("min"));
    for (key, map) in [("default", default), ("defaultRequest", request)] {
        if !map.is_empty() {
            object.insert(key.to_string(), Value::Object(map));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use super::*;

    fn defaulted(kind: &str, mut value: Value) -> Value {
        apply("", "v1", kind, &mut value);
        value
    }

    #[test]
    fn a_service_is_completed() {
        let service = defaulted("Service", json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "x"}]}}));
        assert_eq!(
            service["spec"],
            json!({"sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster", "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 1, "protocol": "TCP", "targetPort": "x"}]})
        );
        let service = defaulted(
            "Service",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}}}),
        );
        assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(
            service["status"]["loadBalancer"]["ingress"],
            json!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "h"}])
        );
        let external = defaulted("Service", json!({"spec": {"type": "ExternalName"}}));
        assert!(external["spec"].get("internalTrafficPolicy").is_none());
    }

    #[test]
    fn string_data_becomes_data() {
        let secret = defaulted("Secret", json!({"data": {"a": "eA=="}, "stringData": {"a": "hi", "b": ""}}));
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGk=", "b": ""}}));
    }

    #[test]
    fn a_namespace_labels_itself() {
        let namespace = defaulted("Namespace", json!({"metadata": {"name": "a"}}));
        assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
        assert_eq!(namespace["status"]["phase"], "Active");
    }

    #[test]
    fn lists_and_their_first_entry_agree() {
        let node = defaulted("Node", json!({"spec": {"podCIDR": "10.0.0.0/24"}}));
        assert_eq!(node["spec"]["podCIDRs"], json!(["10.0.0.0/24"]));
        let node = defaulted("Node", json!({"spec": {"podCIDRs": ["a", "b"]}}));
        assert_eq!(node["spec"]["podCIDR"], "a");
        let pod = defaulted("Pod", json!({"status": {"podIP": "1.1.1.1", "podIPs": [{"ip": "2.2.2.2"}]}}));
        assert_eq!(pod["status"]["podIPs"], json!([{"ip": "1.1.1.1"}]));
    }

    #[test]
    fn limits_default_each_other() {
        let limits = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}});
        let limits = defaulted("LimitRange", limits);
        assert_eq!(limits["spec"]["limits"][0]["default"], json!({"cpu": "2"}));
        assert_eq!(limits["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        assert!(limits["spec"]["limits"][1].get("default").is_none());
    }

    #[test]
    fn fine_amounts_are_rounded_up() {
        let quota =
            defaulted("ResourceQuota", json!({"spec": {"hard": {"cpu": "100u", "memory": "1Gi", "pods": "3"}}}));
        assert_eq!(quota["spec"]["hard"], json!({"cpu": "1m", "memory": "1Gi", "pods": "3"}));
    }
}
