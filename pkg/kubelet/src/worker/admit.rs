//! Whether a pod that was bound to this node can run here at all. The scheduler has asked the same, but pods can also
//! be bound by hand, and two bindings can race.

use kedge_meta::StringMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::generate::Machine;
use crate::pod::{Amount, PodExt, pod_requests};

/// Why a pod fails as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) message: String,
}

/// What the node offers.
pub(super) struct Offer<'a> {
    pub(super) node_name: &'a str,
    pub(super) labels: &'a StringMap,
    pub(super) machine: &'a Machine,
    pub(super) max_pods: u32,
}

/// Checks a pod against what the node has left beside `others`.
///
/// # Errors
/// The reason and message of the pod's failure.
pub(super) fn admit(pod: &Pod, others: &[Pod], offer: &Offer<'_>) -> Result<(), Failure> {
    if PodExt::spec(pod).os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(Failure {
            reason: "PodOSNotSupported".into(),
            message: "Failed to admit pod as the OS field doesn't match node OS".into(),
        });
    }
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= i64::from(offer.max_pods) {
        return Err(out_of("pods", 1, count, i64::from(offer.max_pods)));
    }
    let requests = pod_requests(pod);
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        let number = |q: &Amount| if resource == "cpu" { q.milli_value() } else { q.value() };
        let of = |pod: &Pod| pod_requests(pod).get(resource).map_or(0, number);
        let asked = requests.get(resource).map_or(0, number);
        let capacity = offer.machine.allocatable(resource).as_ref().map_or(0, number);
        let used: i64 = others.iter().map(of).sum();
        if asked > 0 && asked > capacity.saturating_sub(used) {
            return Err(out_of(resource, asked, used, capacity));
        }
    }
    if !selected(pod, offer) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let taken: Vec<_> = others.iter().flat_map(host_ports).collect();
    if host_ports(pod).iter().any(|port| taken.iter().any(|other| collide(port, other))) {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn out_of(resource: &str, asked: i64, used: i64, capacity: i64) -> Failure {
    Failure {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn predicate(name: &str, why: &str) -> Failure {
    Failure { reason: name.into(), message: format!("Predicate {name} failed: {why}") }
}

/// (address, protocol, port); an empty address is all of them.
fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let containers = PodExt::spec(pod).containers.iter();
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let ip = p.host_ip.clone().filter(|ip| ip != "0.0.0.0").unwrap_or_default();
            Some((ip, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}

fn collide(a: &(String, String, i32), b: &(String, String, i32)) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty())
}

/// Whether the node is one that the pod asks for.
fn selected(pod: &Pod, offer: &Offer<'_>) -> bool {
    let spec = PodExt::spec(pod);
    let wanted = spec.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| offer.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) else {
        return true;
    };
    required.node_selector_terms.iter().any(|term| term_matches(term, offer))
}

fn term_matches(term: &NodeSelectorTerm, offer: &Offer<'_>) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // An empty term matches nothing.
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| requirement(r, offer.labels.get(&r.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && requirement(r, Some(offer.node_name)))
}

fn requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let pair = number(value).zip(number(values.first().map(String::as_str)));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => pair.is_some_and(|(have, limit)| have > limit),
        "Lt" => pair.is_some_and(|(have, limit)| have < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::{Value, json};

    fn check(spec: Value, others: &[Pod]) -> Result<(), String> {
        let labels = StringMap::from([("disk", "ssd"), ("n", "5")]);
        let machine = Machine { allocatable_cpu_millis: 1000, allocatable_memory: 1 << 30, ..Machine::default() };
        let offer = Offer { node_name: "node", labels: &labels, machine: &machine, max_pods: 2 };
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        admit(&pod(spec), others, &offer).map_err(|f| format!("{}: {}", f.reason, f.message))
    }

    #[test]
    fn resources_are_counted() {
        let of = |cpu: &str| json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
        assert_eq!(check(of("1"), &[]), Ok(()));
        assert_eq!(
            check(of("500m"), &[pod(of("600m"))]),
            Err("OutOfcpu: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000".into())
        );
        let none = || pod(json!({"containers": []}));
        assert!(check(json!({}), &[none(), none()]).is_err_and(|e| e.starts_with("OutOfpods: ")));
    }

    #[test]
    fn selectors_and_affinity() {
        assert_eq!(check(json!({"nodeSelector": {"disk": "ssd"}}), &[]), Ok(()));
        assert_eq!(
            check(json!({"nodeSelector": {"disk": "hdd"}}), &[]),
            Err("NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".into())
        );
        let affinity = |term: Value| {
            let required = json!({"nodeSelectorTerms": [term]});
            check(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}),
                &[],
            )
        };
        let expression = |op: &str, value: &str| {
            affinity(json!({"matchExpressions": [{"key": "n", "operator": op, "values": [value]}]}))
        };
        assert!(expression("Gt", "4").is_ok() && expression("Gt", "5").is_err() && expression("NotIn", "6").is_ok());
        let field = |name: &str| {
            affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}))
        };
        assert!(field("node").is_ok() && field("other").is_err() && affinity(json!({})).is_err());
    }

    #[test]
    fn host_ports_collide() {
        let of = |port: i32, ip: &str| json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip}]}]});
        assert!(check(of(80, ""), &[pod(of(81, ""))]).is_ok());
        assert!(check(of(80, "127.0.0.1"), &[pod(of(80, ""))]).is_err());
        assert!(check(of(80, "127.0.0.1"), &[pod(of(80, "127.0.0.2"))]).is_ok());
    }
}
