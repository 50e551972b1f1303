//! What objects use up of a quota.

use std::collections::BTreeMap;

use kedge_meta::StringMap;
use kedge_meta::quantity::Quantity;

use crate::objects::{Pod, QuotaSpec, Service};

/// Amounts by the names that quotas use.
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds amounts up.
pub fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = into.get(name).map_or(*amount, |old| old.add(amount));
        into.insert(name.clone(), sum);
    }
}

/// The larger of each.
fn max(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        if into.get(name).is_none_or(|old| old < amount) {
            into.insert(name.clone(), *amount);
        }
    }
}

fn parsed(map: &StringMap) -> Amounts {
    map.iter().filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(text).ok()?))).collect()
}

/// What all containers of a pod ask for together: those that run at a time, or one that runs before them if that is more.
fn of_containers(pod: &Pod, limits: bool) -> Amounts {
    let of = |c: &crate::objects::Container| parsed(if limits { &c.resources.limits } else { &c.resources.requests });
    let mut total = Amounts::new();
    pod.spec.containers.iter().for_each(|c| add(&mut total, &of(c)));
    let (mut sidecars, mut before) = (Amounts::new(), Amounts::new());
    for container in pod.spec.init_containers.iter() {
        let mut at_once = of(container);
        if container.restart_policy == "Always" {
            add(&mut total, &at_once);
            add(&mut sidecars, &at_once);
            at_once = sidecars.clone();
        } else {
            add(&mut at_once, &sidecars);
        }
        max(&mut before, &at_once);
    }
    max(&mut total, &before);
    add(&mut total, &parsed(&pod.spec.overhead));
    total
}

/// What a pod uses; nothing once it has ended.
pub fn of_pod(pod: &Pod) -> Amounts {
    let mut out = Amounts::from([("count/pods".to_owned(), Quantity::from_value(1))]);
    if pod.is_terminal() {
        return out;
    }
    out.insert("pods".to_owned(), Quantity::from_value(1));
    for (name, amount) in of_containers(pod, false) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            out.insert(name.clone(), amount);
        }
        out.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in of_containers(pod, true) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            out.insert(format!("limits.{name}"), amount);
        }
    }
    out
}

/// What a service uses.
pub fn of_service(service: &Service) -> Amounts {
    let one = Quantity::from_value(1);
    let mut out = Amounts::from([("services".to_owned(), one), ("count/services".to_owned(), one)]);
    let ports = Quantity::from_value(i64::try_from(service.spec.ports.len()).unwrap_or(i64::MAX));
    match service.spec.kind.as_str() {
        "NodePort" => {
            out.insert("services.nodeports".to_owned(), ports);
        }
        "LoadBalancer" => {
            out.insert("services.loadbalancers".to_owned(), one);
            if service.spec.allocate_load_balancer_node_ports != Some(false) {
                out.insert("services.nodeports".to_owned(), ports);
            }
        }
        _ => {}
    }
    out
}

/// Whether the quota has scopes, which makes it one of pods only.
pub fn is_scoped(spec: &QuotaSpec) -> bool {
    !spec.scopes.is_empty() || spec.scope_selector.is_some()
}

/// Whether the pod is in all scopes of the quota.
pub fn matches(spec: &QuotaSpec, pod: &Pod) -> bool {
    let selected = spec.scope_selector.iter().flat_map(|s| &s.match_expressions);
    spec.scopes.iter().all(|scope| in_scope(pod, scope))
        && selected.into_iter().all(|e| match (e.scope_name.as_str(), e.operator.as_str()) {
            ("PriorityClass", "In") => e.values.contains(&pod.spec.priority_class_name),
            ("PriorityClass", "NotIn") => !e.values.contains(&pod.spec.priority_class_name),
            ("PriorityClass", "DoesNotExist") => pod.spec.priority_class_name.is_empty(),
            (scope, _) => in_scope(pod, scope),
        })
}

fn in_scope(pod: &Pod, scope: &str) -> bool {
    let containers = || pod.spec.containers.iter().chain(pod.spec.init_containers.iter());
    let asks = |map: &StringMap| map.contains_key("cpu") || map.contains_key("memory");
    let best_effort = || !containers().any(|c| asks(&c.resources.requests) || asks(&c.resources.limits));
    match scope {
        "Terminating" => pod.spec.active_deadline_seconds.is_some(),
        "NotTerminating" => pod.spec.active_deadline_seconds.is_none(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => !pod.spec.priority_class_name.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec, "status": {"phase": "Running"}})).unwrap()
    }

    fn c(cpu: &str, restart: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}, "restartPolicy": restart})
    }

    #[test]
    fn containers_that_run_at_a_time_add_up() {
        let used = of_pod(&pod(json!({
            "containers": [c("100m", ""), c("200m", "")],
            "initContainers": [c("50m", "Always"), c("400m", "")],
        })));
        assert_eq!(used["requests.cpu"].to_string(), "450m", "the second one runs beside the sidecar");
        assert_eq!(used["cpu"], used["requests.cpu"]);
        assert_eq!(used["limits.cpu"].to_string(), "6");
        assert_eq!(used["pods"].to_string(), "1");
    }

    #[test]
    fn an_ended_pod_only_counts_as_an_object() {
        let mut ended = pod(json!({"containers": [c("1", "")]}));
        ended.status.phase = "Succeeded".into();
        assert_eq!(of_pod(&ended).keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn scopes_select_pods() {
        let spec = |value: Value| -> QuotaSpec { serde_json::from_value(value).unwrap() };
        let best = pod(json!({"containers": [{}], "priorityClassName": "high"}));
        assert!(matches(&spec(json!({"scopes": ["BestEffort", "NotTerminating"]})), &best));
        assert!(!matches(&spec(json!({"scopes": ["Terminating"]})), &best));
        let class = |operator: &str, values: Value| {
            let e = json!([{"scopeName": "PriorityClass", "operator": operator, "values": values}]);
            matches(&spec(json!({"scopeSelector": {"matchExpressions": e}})), &best)
        };
        assert!(class("In", json!(["high"])));
        assert!(!class("NotIn", json!(["high"])));
    }
}
