//! The EndpointSlices of a service: what should be there, and the fewest changes that lead there.
//!
//! Invariants: a slice has endpoints of one address family and one set of ports, at most a hundred; an endpoint stays in
//! the slice it is in; every address family of the service has at least one slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kedge_meta::{ObjectMeta, ObjectReference, StringMap, resources};
use serde::{Deserialize, Serialize};

use super::hints::{self, Said, Shares, Slices};
use super::{HEADLESS_LABEL, addresses, find_port, hostname, is_endpoint, target};
use crate::objects::{Node, Pod, Service, keyed, nullable};
use crate::workload::controller_ref;

pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const MAX_ENDPOINTS: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: ObjectMeta,
    pub address_type: String,
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<EndpointPort>,
}
keyed!(EndpointSlice);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Hints>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub for_nodes: Vec<Named>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    pub name: String,
    pub protocol: String,
    pub port: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// The changes to make.
#[derive(Debug, Default)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
    /// Pods that were left out because their nodes are not known.
    pub homeless: Vec<String>,
    /// What is to be said of hints.
    pub said: Vec<Said>,
    /// Whether endpoints have hints by the shares of zones.
    pub hinted: bool,
}

/// What is known of zones.
#[derive(Debug, Default)]
pub struct Topology {
    /// What each has of the CPU, if that is known.
    pub shares: Option<Shares>,
    /// Whether the service's endpoints had hints by them.
    pub hinted: bool,
}

type Ports = BTreeSet<EndpointPort>;
type Key = (Vec<String>, Option<String>, Option<(String, String)>);

fn key(endpoint: &Endpoint) -> Key {
    let target = endpoint.target_ref.as_ref().map(|t| (t.namespace.clone(), t.name.clone()));
    (endpoint.addresses.clone(), endpoint.hostname.clone(), target)
}

/// The address types of a service; both for a headless one that does not say.
fn address_types(service: &Service) -> Vec<&'static str> {
    let named: Vec<_> = service
        .spec
        .ip_families
        .iter()
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    match named.as_slice() {
        [] if service.has_ip() => vec![if service.spec.cluster_ip.contains(':') { "IPv6" } else { "IPv4" }],
        [] => vec!["IPv4", "IPv6"],
        _ => named,
    }
}

/// The labels of a service's slices.
fn labels(service: &Service) -> StringMap {
    let mut labels = service.metadata.labels.clone();
    labels.remove(HEADLESS_LABEL);
    if !service.has_ip() {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_LABEL.to_owned(), service.metadata.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

fn new_slice(service: &Service, address_type: &str, ports: &Ports) -> EndpointSlice {
    let metadata = ObjectMeta {
        generate_name: format!("{}-", service.metadata.name),
        namespace: service.metadata.namespace.clone(),
        labels: labels(service),
        owner_references: vec![controller_ref(&resources::SERVICES, &service.metadata)],
        ..ObjectMeta::default()
    };
    EndpointSlice {
        metadata,
        address_type: address_type.to_owned(),
        ports: ports.iter().cloned().collect(),
        endpoints: Vec::new(),
    }
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let port = |p: &crate::objects::ServicePort| {
        Some(EndpointPort {
            name: p.name.clone(),
            protocol: p.protocol.clone(),
            port: find_port(pod, p)?,
            app_protocol: p.app_protocol.clone(),
        })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, v6: bool) -> Endpoint {
    let (serving, terminating) = (pod.is_ready(), pod.metadata.is_deleting());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let node_name = Some(&pod.spec.node_name).filter(|n| !n.is_empty()).cloned();
    let zone = node.and_then(|n| n.metadata.labels.get(ZONE_LABEL)).filter(|z| !z.is_empty()).map(str::to_owned);
    let by_share = hints::are_wanted(&service.metadata.annotations);
    let distribution = if by_share { "" } else { service.spec.traffic_distribution.as_str() };
    let hints = nearby(distribution, node_name.as_ref(), zone.as_ref()).filter(|_| ready);
    Endpoint {
        addresses: addresses(pod, v6),
        conditions: Conditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: hostname(pod, service),
        target_ref: Some(target(pod)),
        node_name,
        zone,
        hints,
    }
}

/// The hints of a service that prefers what is near.
fn nearby(distribution: &str, node: Option<&String>, zone: Option<&String>) -> Option<Hints> {
    let named = |name: Option<&String>| name.map(|n| Named { name: n.clone() }).into_iter().collect();
    let hints = match distribution {
        "PreferClose" | "PreferSameZone" => Hints { for_zones: named(zone), for_nodes: Vec::new() },
        "PreferSameNode" => Hints { for_zones: named(zone), for_nodes: named(node) },
        _ => return None,
    };
    (hints != Hints::default()).then_some(hints)
}

/// Compares `existing` slices with what the pods that the service selects ask for.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    existing: Vec<Arc<EndpointSlice>>,
    topology: &Topology,
) -> Changes {
    let mut changes = Changes::default();
    let types = address_types(service);
    let (kept, foreign): (Vec<_>, Vec<_>) =
        existing.into_iter().partition(|s| types.contains(&s.address_type.as_str()));
    for address_type in types {
        let of_type = kept.iter().filter(|s| s.address_type == address_type).cloned().collect();
        let desired = desired(service, pods, &node, address_type == "IPv6", &mut changes.homeless);
        let mut group = of_family(service, address_type, desired, of_type);
        give_hints(service, address_type, topology, &mut group, &kept);
        changes.create.extend(group.create);
        changes.update.extend(group.update);
        changes.delete.extend(group.delete);
        changes.said.extend(group.said);
        changes.hinted |= group.hinted;
    }
    changes.delete.extend(foreign);
    changes
}

type Desired = BTreeMap<Ports, BTreeMap<Key, Endpoint>>;

fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    node: &impl Fn(&str) -> Option<Arc<Node>>,
    v6: bool,
    homeless: &mut Vec<String>,
) -> Desired {
    let mut desired = Desired::new();
    for pod in pods.iter().filter(|p| is_endpoint(p, true)) {
        let group = desired.entry(ports(service, pod)).or_default();
        let node = node(&pod.spec.node_name);
        if node.is_none() && !service.spec.publish_not_ready_addresses {
            homeless.push(pod.metadata.name.clone());
            continue;
        }
        let endpoint = endpoint(service, pod, node.as_deref(), v6);
        if !endpoint.addresses.is_empty() {
            group.insert(key(&endpoint), endpoint);
        }
    }
    desired
}

fn of_family(service: &Service, address_type: &str, desired: Desired, existing: Vec<Arc<EndpointSlice>>) -> Changes {
    let there = existing.len();
    let (mut create, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
    let mut by_ports: BTreeMap<Ports, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let owned = slice.metadata.owner_references.iter().any(|o| o.uid == service.metadata.uid);
        if owned {
            by_ports.entry(slice.ports.iter().cloned().collect()).or_default().push(slice);
        } else {
            delete.push(slice);
        }
    }
    for (ports, endpoints) in desired {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        let group = fit(service, address_type, &ports, endpoints, slices);
        create.extend(group.create);
        update.extend(group.update);
        delete.extend(group.delete);
    }
    delete.extend(by_ports.into_values().flatten());
    if there == delete.len() && create.is_empty() {
        let placeholder = new_slice(service, address_type, &Ports::new());
        let same = |s: &EndpointSlice| {
            s.endpoints.is_empty()
                && s.ports.is_empty()
                && s.metadata.labels == placeholder.metadata.labels
                && s.metadata.owner_references == placeholder.metadata.owner_references
        };
        if delete.len() == 1 && same(&delete[0]) {
            delete.clear();
        } else {
            create.push(placeholder);
        }
    }
    // A slice that is no longer needed becomes one that is: one change for watchers instead of two.
    let mut i = 0;
    while i < delete.len() && !create.is_empty() {
        let owned = delete[i].metadata.owner_references.iter().any(|o| o.uid == service.metadata.uid);
        if !owned || delete[i].metadata.is_deleting() {
            i += 1;
            continue;
        }
        let old = delete.remove(i);
        let new = create.remove(create.len() - 1);
        let metadata = ObjectMeta { labels: new.metadata.labels.clone(), ..old.metadata.clone() };
        update.push(EndpointSlice { metadata, ..new });
    }
    Changes { create, update, delete, ..Changes::default() }
}

/// Gives the endpoints of a family hints by the shares of zones if the service asks for them, and takes them away if it does no more.
fn give_hints(
    service: &Service,
    address_type: &str,
    topology: &Topology,
    changes: &mut Changes,
    existing: &[Arc<EndpointSlice>],
) {
    let wanted = hints::are_wanted(&service.metadata.annotations);
    if !wanted {
        if topology.hinted {
            changes.said.push(hints::say_ended(address_type));
        }
        return;
    }
    let name = |slice: &EndpointSlice| slice.metadata.name.clone();
    let written: BTreeSet<String> =
        changes.update.iter().map(name).chain(changes.delete.iter().map(|slice| name(slice))).collect();
    let stays = |slice: &&Arc<EndpointSlice>| slice.address_type == address_type && !written.contains(&name(slice));
    let unchanged = existing.iter().filter(stays).cloned().collect();
    let mut slices = Slices { create: &mut changes.create, update: &mut changes.update, unchanged };
    let outcome = hints::distribute(&mut slices, topology.shares.as_ref());
    changes.said.extend(hints::say(&outcome, topology.hinted, address_type));
    changes.hinted = outcome.is_ok();
}

/// Distributes endpoints of one set of ports over slices.
fn fit(
    service: &Service,
    address_type: &str,
    ports: &Ports,
    mut endpoints: BTreeMap<Key, Endpoint>,
    existing: Vec<Arc<EndpointSlice>>,
) -> Changes {
    let mut changes = Changes::default();
    let mut unchanged = Vec::new();
    let wanted_labels = labels(service);
    let hints_by_share = hints::are_wanted(&service.metadata.annotations);
    for slice in existing {
        let still = |e: &Endpoint| {
            let mut endpoint = endpoints.remove(&key(e))?;
            if hints_by_share && endpoint.conditions.ready == Some(true) {
                // They are looked at later, all together.
                endpoint.hints.clone_from(&e.hints);
            }
            Some(endpoint)
        };
        let still: Vec<Endpoint> = slice.endpoints.iter().filter_map(still).collect();
        if still.is_empty() && !slice.endpoints.is_empty() {
            changes.delete.push(slice);
        } else if still != slice.endpoints || slice.metadata.labels != wanted_labels {
            let metadata = ObjectMeta { labels: wanted_labels.clone(), ..slice.metadata.clone() };
            changes.update.push(EndpointSlice { metadata, endpoints: still, ..(*slice).clone() });
        } else {
            unchanged.push(slice);
        }
    }
    let mut rest: Vec<Endpoint> = endpoints.into_values().collect();
    // First those that change anyway, the fullest first.
    changes.update.sort_by_key(|s| std::cmp::Reverse(s.endpoints.len()));
    for slice in &mut changes.update {
        let room = MAX_ENDPOINTS.saturating_sub(slice.endpoints.len()).min(rest.len());
        slice.endpoints.extend(rest.drain(..room));
    }
    while !rest.is_empty() {
        let n = rest.len().min(MAX_ENDPOINTS);
        let fits = |s: &&Arc<EndpointSlice>| s.endpoints.len() + n <= MAX_ENDPOINTS;
        let fullest = unchanged.iter().filter(fits).max_by_key(|s| s.endpoints.len()).cloned();
        match fullest {
            Some(slice) => {
                unchanged.retain(|s| s.metadata.name != slice.metadata.name);
                let mut slice = (*slice).clone();
                slice.endpoints.extend(rest.drain(..n));
                changes.update.push(slice);
            }
            None => {
                let mut slice = new_slice(service, address_type, ports);
                slice.endpoints.extend(rest.drain(..n));
                changes.create.push(slice);
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn plan(
        service: &Service,
        pods: &[Arc<Pod>],
        node: impl Fn(&str) -> Option<Arc<Node>>,
        existing: Vec<Arc<EndpointSlice>>,
    ) -> Changes {
        super::plan(service, pods, node, existing, &Topology::default())
    }

    /// One that is hinted stays as it is, and one that is no more asked for it loses its hints.
    #[test]
    fn hints_by_share_come_stay_and_go() {
        let mut service = service();
        service.metadata.annotations.insert("service.kubernetes.io/topology-mode", "Auto");
        let zone = |name: &str| -> Option<Arc<Node>> {
            let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": name}}});
            Some(Arc::new(serde_json::from_value(labels).unwrap()))
        };
        let pods: Vec<Arc<Pod>> = (0..4)
            .map(|i| {
                let mut pod = (*pod(i, "True")).clone();
                pod.spec.node_name = if i % 2 == 0 { "a" } else { "b" }.into();
                Arc::new(pod)
            })
            .collect();
        let shares = Some(Shares::from([("a".to_owned(), 0.5), ("b".to_owned(), 0.5)]));
        let topology = Topology { shares: shares.clone(), hinted: false };
        let first = super::plan(&service, &pods, zone, vec![], &topology);
        assert!(first.hinted && first.said[0].1 == "TopologyAwareHintsEnabled");
        assert!(
            first.create[0]
                .endpoints
                .iter()
                .all(|e| e.hints.as_ref().unwrap().for_zones[0].name == *e.zone.as_ref().unwrap())
        );
        let slices = stored(first.create);
        let topology = Topology { shares, hinted: true };
        let again = super::plan(&service, &pods, zone, slices.clone(), &topology);
        assert!(again.update.is_empty() && again.create.is_empty() && again.said.is_empty() && again.hinted);
        let unknown = super::plan(&service, &pods, zone, slices.clone(), &Topology { shares: None, hinted: true });
        assert!(!unknown.hinted && unknown.update[0].endpoints.iter().all(|e| e.hints.is_none()));
        service.metadata.annotations.remove("service.kubernetes.io/topology-mode");
        let ended = super::plan(&service, &pods, zone, slices, &topology);
        assert_eq!(ended.said[0].2, "Topology Aware Hints has been disabled, addressType: IPv4");
        assert!(!ended.hinted && ended.update[0].endpoints.iter().all(|e| e.hints.is_none()));
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "ns", "uid": "su", "labels": {"team": "x"}},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"a": "b"},
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]},
        }))
        .unwrap()
    }

    fn pod(i: usize, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{i}"), "namespace": "ns", "uid": format!("u{i}")},
                "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.{}.{}", i / 250, i % 250)}],
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    fn node(_: &str) -> Option<Arc<Node>> {
        Some(Arc::default())
    }

    fn stored(slices: Vec<EndpointSlice>) -> Vec<Arc<EndpointSlice>> {
        let name = |(i, mut s): (usize, EndpointSlice)| {
            s.metadata.name = format!("s-{i}");
            Arc::new(s)
        };
        slices.into_iter().enumerate().map(name).collect()
    }

    #[test]
    fn without_pods_there_is_one_empty_slice_and_it_stays() {
        let changes = plan(&service(), &[], node, vec![]);
        assert_eq!((changes.create.len(), changes.create[0].endpoints.len()), (1, 0));
        assert_eq!(&changes.create[0].metadata.labels[SERVICE_LABEL], "s");
        assert_eq!(&changes.create[0].metadata.labels["team"], "x");
        let again = plan(&service(), &[], node, stored(changes.create));
        assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0));
        // The first pod turns the placeholder into a real slice.
        let first = plan(&service(), &[pod(1, "True")], node, stored(plan(&service(), &[], node, vec![]).create));
        assert_eq!((first.create.len(), first.update.len(), first.delete.len()), (0, 1, 0));
        assert_eq!(first.update[0].ports[0].port, 8080);
    }

    #[test]
    fn slices_hold_a_hundred_and_are_not_reshuffled() {
        let pods: Vec<_> = (0..250).map(|i| pod(i, "True")).collect();
        let changes = plan(&service(), &pods, node, vec![]);
        let sizes: Vec<_> = changes.create.iter().map(|s| s.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let slices = stored(changes.create);
        assert_eq!(plan(&service(), &pods, node, slices.clone()).update.len(), 0);
        let one_more: Vec<_> = (0..251).map(|i| pod(i, "True")).collect();
        let changes = plan(&service(), &one_more, node, slices);
        assert_eq!((changes.update.len(), changes.update[0].endpoints.len()), (1, 51));
    }

    #[test]
    fn conditions_follow_the_pod() {
        let mut leaving = (*pod(1, "True")).clone();
        leaving.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let changes = plan(&service(), &[Arc::new(leaving), pod(2, "False")], node, vec![]);
        let conditions: Vec<_> = changes.create[0].endpoints.iter().map(|e| e.conditions.clone()).collect();
        let of = |ready, serving, terminating| Conditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        };
        assert_eq!(conditions, [of(false, true, true), of(false, false, false)]);
    }

    #[test]
    fn pods_on_unknown_nodes_are_left_out() {
        let changes = plan(&service(), &[pod(1, "True")], |_| None, vec![]);
        assert_eq!(changes.homeless, ["p1"]);
        assert!(changes.create[0].endpoints.is_empty());
    }
}
