//! What services, claims and all other objects use.

use kedge_meta::quantity::Quantity;
use serde_json::Value;

use crate::amounts::Amounts;
use crate::scope::{Requirement, selected};

const SERVICES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];
const CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Resources of the core group that have a name of their own in quotas, beside their count.
const PLAIN: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// What is counted of a service.
#[derive(Debug, Clone, Default)]
pub struct Service<'a> {
    pub kind: &'a str,
    pub ports: usize,
    /// Those of them that name a node port.
    pub named_node_ports: usize,
    pub allocates_node_ports: bool,
}

/// What is counted of a claim.
#[derive(Debug, Clone, Default)]
pub struct Claim<'a> {
    pub class: &'a str,
    pub requested: Option<Quantity>,
    pub allocated: Option<Quantity>,
    /// Classes of attributes that it names or has; empty ones are none.
    pub attributes_classes: Vec<&'a str>,
}

impl<'a> Service<'a> {
    /// A service that is a tree.
    pub fn of(service: &'a Value) -> Self {
        let spec = &service["spec"];
        let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
        Self {
            kind: spec["type"].as_str().unwrap_or_default(),
            ports: ports.len(),
            named_node_ports: ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0).count(),
            allocates_node_ports: spec["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        }
    }

    /// What it uses.
    pub fn usage(&self) -> Amounts {
        let count = |n: usize| Quantity::from_value(i64::try_from(n).unwrap_or(i64::MAX));
        let node_ports = match self.kind {
            "NodePort" => self.ports,
            // Ports are not yet allocated when this is asked: what counts is what is intended.
            "LoadBalancer" if self.allocates_node_ports => self.ports,
            "LoadBalancer" => self.named_node_ports,
            _ => 0,
        };
        let balancers = usize::from(self.kind == "LoadBalancer");
        let used = [1, 1, node_ports, balancers];
        SERVICES.iter().zip(used).map(|(name, n)| ((*name).to_owned(), count(n))).collect()
    }
}

impl<'a> Claim<'a> {
    /// A claim that is a tree.
    pub fn of(claim: &'a Value) -> Self {
        let text = |path: &[&str]| -> &'a str {
            path.iter().try_fold(claim, |value, field| value.get(field)).and_then(Value::as_str).unwrap_or_default()
        };
        let amount = |text: &str| Quantity::parse(text).ok();
        let annotated = text(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
        let has_annotation = claim["metadata"]["annotations"].get("volume.beta.kubernetes.io/storage-class").is_some();
        Self {
            class: if has_annotation { annotated } else { text(&["spec", "storageClassName"]) },
            requested: amount(text(&["spec", "resources", "requests", "storage"])),
            allocated: amount(text(&["status", "allocatedResources", "storage"])),
            attributes_classes: vec![
                text(&["spec", "volumeAttributesClassName"]),
                text(&["status", "currentVolumeAttributesClassName"]),
                text(&["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
            ],
        }
    }

    /// What it uses.
    pub fn usage(&self) -> Amounts {
        let one = Quantity::from_value(1);
        let mut out = Amounts::from([
            ("persistentvolumeclaims".to_owned(), one),
            ("count/persistentvolumeclaims".to_owned(), one),
        ]);
        let of_class = |name: &str| format!("{}{OF_CLASS}{name}", self.class);
        if !self.class.is_empty() {
            out.insert(of_class("persistentvolumeclaims"), one);
        }
        // What has been allocated counts where it is more than what is asked for now.
        let larger = self.requested.map(|asked| self.allocated.map_or(asked, |allocated| allocated.max(asked)));
        if let Some(storage) = larger.map(whole) {
            out.insert("requests.storage".to_owned(), storage);
            if !self.class.is_empty() {
                out.insert(of_class("requests.storage"), storage);
            }
        }
        out
    }

    /// Whether it is in a scope.
    pub fn in_scope(&self, requirement: &Requirement<'_>) -> bool {
        requirement.scope == "VolumeAttributesClass" && selected(requirement, &self.attributes_classes)
    }
}

/// Storage is counted in whole bytes.
fn whole(amount: Quantity) -> Quantity {
    let units = Quantity::from_value(amount.value());
    if units == amount { amount } else { units }
}

/// Whether a quota's name is about claims.
pub(crate) fn concerns_claims(name: &str) -> bool {
    let of_class = || name.split_once(OF_CLASS).is_some_and(|(_, rest)| CLAIMS.contains(&rest));
    name == "count/persistentvolumeclaims" || CLAIMS.contains(&name) || of_class()
}

/// Whether a quota's name is about services.
pub(crate) fn concerns_services(name: &str) -> bool {
    SERVICES.contains(&name)
}

/// What one object of a resource is counted as: `count/deployments.apps`, and for some an older name.
pub fn count_names(group: &str, plural: &str) -> Vec<String> {
    let dotted = if group.is_empty() { String::new() } else { format!(".{group}") };
    let mut names = vec![format!("count/{plural}{dotted}")];
    if group.is_empty() && PLAIN.contains(&plural) {
        names.push(plural.to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amounts::listed;
    use serde_json::json;

    #[test]
    fn services_count_by_what_they_intend() {
        let used = |spec: Value| listed(&Service::of(&json!({ "spec": spec })).usage());
        let ports = json!([{"port": 1, "nodePort": 30000}, {"port": 2}]);
        let said = |node_ports: i64, balancers: i64| {
            format!("count/services=1,services=1,services.loadbalancers={balancers},services.nodeports={node_ports}")
        };
        assert_eq!(used(json!({"type": "ClusterIP", "ports": ports})), said(0, 0));
        assert_eq!(used(json!({"type": "NodePort", "ports": ports})), said(2, 0));
        assert_eq!(used(json!({"type": "LoadBalancer", "ports": ports})), said(2, 1));
        let without = json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false});
        assert_eq!(used(without), said(1, 1));
    }

    #[test]
    fn claims_count_by_class() {
        let mut claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
        let used = listed(&Claim::of(&claim).usage());
        assert_eq!(
            used,
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
        );
        claim["status"] = json!({"allocatedResources": {"storage": "2Gi"}});
        assert_eq!(Claim::of(&claim).usage()["requests.storage"].to_string(), "2Gi");
        claim["spec"] = json!({"resources": {"requests": {"storage": "1500m"}}});
        claim["status"] = Value::Null;
        assert_eq!(
            listed(&Claim::of(&claim).usage()),
            "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=2"
        );
        claim["metadata"] = json!({"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}});
        assert!(Claim::of(&claim).usage().contains_key("old.storageclass.storage.k8s.io/requests.storage"));
    }

    #[test]
    fn names_of_counts_are_upstreams() {
        assert_eq!(count_names("", "configmaps"), ["count/configmaps", "configmaps"]);
        assert_eq!(count_names("apps", "deployments"), ["count/deployments.apps"]);
        assert!(concerns_claims("x.storageclass.storage.k8s.io/requests.storage"));
        assert!(!concerns_claims("requests.cpu") && concerns_services("services.nodeports"));
    }
}
