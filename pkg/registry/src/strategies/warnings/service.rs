//! Services with fields that do nothing for them.

use serde_json::Value;

use super::{At, address};
use crate::value::ValueExt;

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

pub(super) fn service(service: &Value, warnings: &mut Vec<String>) {
    if service.at(&["metadata", "annotations", HINTS]).is_some() {
        warnings.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let spec = At::field(service, "spec");
    let text = |field: &str| spec.child(field).text();
    let headless = text("clusterIP") == "None";
    let external_name = text("type") == "ExternalName";
    let external = spec.child("externalIPs");
    if !headless && !text("clusterIP").is_empty() {
        spec.child("clusterIPs").items().for_each(|ip| address::ip(&ip, warnings));
    }
    let mut say = |when: bool, what: &str| {
        if when {
            warnings.push(what.to_owned());
        }
    };
    if headless {
        say(!text("loadBalancerIP").is_empty(), "spec.loadBalancerIP is ignored for headless services");
        say(external.len() > 0, "spec.externalIPs is ignored for headless services");
        say(text("sessionAffinity") != "None", "spec.SessionAffinity is ignored for headless services");
    }
    external.items().for_each(|ip| address::ip(&ip, warnings));
    if external.len() > 0 && !headless && !external_name {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if !text("loadBalancerIP").is_empty() {
        address::ip(&spec.child("loadBalancerIP"), warnings);
    }
    spec.child("loadBalancerSourceRanges").items().for_each(|range| address::range(&range, warnings));
    if external_name && external.len() > 0 {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external_name && !text("externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text("trafficDistribution") == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_without_effect_are_named() {
        let of = |spec: Value| {
            let mut warnings = Vec::new();
            service(&json!({"metadata": {}, "spec": spec}), &mut warnings);
            warnings
        };
        let plain = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "ClusterIP", "sessionAffinity": "None"});
        assert!(of(plain).is_empty());
        assert_eq!(
            of(
                json!({"clusterIP": "None", "type": "ClusterIP", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]})
            ),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services"
            ]
        );
        assert_eq!(
            of(json!({"type": "ExternalName", "externalName": "x", "externalIPs": ["1.2.3.4"]})),
            ["spec.externalIPs is ignored when spec.type is \"ExternalName\""]
        );
        assert_eq!(
            of(json!({"type": "LoadBalancer", "externalIPs": ["1.2.3.4"], "loadBalancerSourceRanges": ["10.0.0.1/8"]}))
                .len(),
            2
        );
    }
}
