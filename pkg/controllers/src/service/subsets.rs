//! The subsets of an Endpoints object: addresses that share their ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kedge_meta::ObjectReference;
use serde::{Deserialize, Serialize};

use super::{addresses, find_port, hostname, is_endpoint, target};
use crate::objects::{Pod, Service};

/// Addresses that an Endpoints object may hold.
const MAX_ADDRESSES: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ready_addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub port: i64,
    pub protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// By address and pod; whether it is ready.
type Members = BTreeMap<(String, String), (bool, Address)>;

/// The subsets for the pods that a service selects.
pub fn of_pods(service: &Service, pods: &[Arc<Pod>]) -> Vec<Subset> {
    let v6 = match service.spec.ip_families.first() {
        Some(family) => family == "IPv6",
        None => service.spec.cluster_ip.contains(':'),
    };
    let mut by_port: BTreeMap<Option<Port>, Members> = BTreeMap::new();
    for pod in pods.iter().filter(|p| is_endpoint(p, service.spec.publish_not_ready_addresses)) {
        let Some(ip) = addresses(pod, v6).into_iter().next() else { continue };
        let ready = service.spec.publish_not_ready_addresses || pod.is_ready();
        let address = Address {
            ip: ip.clone(),
            hostname: hostname(pod, service),
            node_name: Some(&pod.spec.node_name).filter(|n| !n.is_empty()).cloned(),
            target_ref: Some(target(pod)),
        };
        let found = service.spec.ports.iter().filter_map(|p| {
            let (name, protocol) = (p.name.clone(), p.protocol.clone());
            Some(Some(Port { name, port: find_port(pod, p)?, protocol, app_protocol: p.app_protocol.clone() }))
        });
        let without_ports = service.spec.ports.is_empty() && !service.has_ip();
        for port in found.chain(without_ports.then_some(None)) {
            by_port.entry(port).or_default().insert((ip.clone(), pod.metadata.uid.clone()), (ready, address.clone()));
        }
    }
    pack(by_port)
}

/// Existing subsets in the same canonical form.
pub fn repacked(subsets: &[Subset]) -> Vec<Subset> {
    let mut by_port: BTreeMap<Option<Port>, Members> = BTreeMap::new();
    for subset in subsets {
        let ports: Vec<_> = subset.ports.iter().cloned().map(Some).collect();
        for port in if ports.is_empty() { vec![None] } else { ports } {
            let members = by_port.entry(port).or_default();
            let all = subset.not_ready_addresses.iter().map(|a| (false, a));
            for (ready, a) in all.chain(subset.addresses.iter().map(|a| (true, a))) {
                let uid = a.target_ref.as_ref().map(|t| t.uid.clone()).unwrap_or_default();
                members.insert((a.ip.clone(), uid), (ready, a.clone()));
            }
        }
    }
    pack(by_port)
}

/// Ports with the same addresses share a subset.
fn pack(by_port: BTreeMap<Option<Port>, Members>) -> Vec<Subset> {
    let mut groups: Vec<(Members, BTreeSet<Port>)> = Vec::new();
    for (port, members) in by_port {
        match groups.iter_mut().find(|(m, _)| *m == members) {
            Some((_, ports)) => ports.extend(port),
            None => groups.push((members, port.into_iter().collect())),
        }
    }
    let subset = |(members, ports): (Members, BTreeSet<Port>)| {
        let of = |wanted: bool| members.values().filter(|(r, _)| *r == wanted).map(|(_, a)| a.clone()).collect();
        Subset { addresses: of(true), not_ready_addresses: of(false), ports: ports.into_iter().collect() }
    };
    groups.into_iter().map(subset).collect()
}

/// Cuts the subsets down to what one object may hold, ready addresses first; returns whether that was needed.
pub fn truncate(subsets: &mut Vec<Subset>) -> bool {
    let count = |s: &Subset| s.addresses.len() + s.not_ready_addresses.len();
    if subsets.iter().map(count).sum::<usize>() <= MAX_ADDRESSES {
        return false;
    }
    let mut room = MAX_ADDRESSES;
    for subset in subsets.iter_mut() {
        subset.addresses.truncate(room);
        room -= subset.addresses.len();
    }
    for subset in subsets.iter_mut() {
        subset.not_ready_addresses.truncate(room);
        room -= subset.not_ready_addresses.len();
    }
    subsets.retain(|s| count(s) > 0);
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(name: &str, ip: &str, ready: &str, port: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "namespace": "ns"},
                "spec": {"containers": [{"ports": [{"name": port, "containerPort": 81, "protocol": "TCP"}]}]},
                "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn ports_with_the_same_addresses_share_a_subset() {
        let service: Service = serde_json::from_value(json!({"spec": {"clusterIP": "10.0.0.1", "ports": [
            {"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 90, "protocol": "TCP"},
            {"name": "n", "port": 91, "protocol": "TCP", "targetPort": "named"},
        ]}}))
        .unwrap();
        let pods = [pod("x", "10.1.0.1", "True", "named"), pod("y", "10.1.0.2", "False", "other")];
        let subsets = of_pods(&service, &pods);
        assert_eq!(subsets.len(), 2);
        assert_eq!(
            (subsets[0].ports.len(), subsets[0].addresses.len(), subsets[0].not_ready_addresses.len()),
            (2, 1, 1)
        );
        assert_eq!((subsets[1].ports[0].port, subsets[1].addresses.len()), (81, 1));
        assert_eq!(repacked(&subsets), subsets);
    }

    #[test]
    fn too_many_addresses_are_cut_and_ready_ones_stay() {
        let address = |i: usize| Address { ip: i.to_string(), ..Address::default() };
        let mut subsets = vec![Subset {
            addresses: (0..900).map(address).collect(),
            not_ready_addresses: (0..300).map(address).collect(),
            ports: Vec::new(),
        }];
        assert!(truncate(&mut subsets));
        assert_eq!((subsets[0].addresses.len(), subsets[0].not_ready_addresses.len()), (900, 100));
        assert!(!truncate(&mut subsets));
    }
}
