//! The order in which pods go: those that use more than they asked for, of them the least important, of them the largest. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::signals::Signal;
use crate::pod::{PodExt, amount, pod_requests, request_of};

/// Pods of this priority and above are the cluster's own.
const CRITICAL: i32 = 2_000_000_000;

/// Whether a pod stays, however short everything is.
pub(super) fn is_critical(pod: &Pod) -> bool {
    pod.is_static() || priority(pod) >= CRITICAL
}

fn priority(pod: &Pod) -> i32 {
    PodExt::spec(pod).priority.unwrap_or_default()
}

/// What a pod uses: its part of `/stats/summary`, if it is there.
pub(super) struct Used<'a>(pub(super) Option<&'a Value>);

impl Used<'_> {
    fn number(&self, path: &[&str]) -> i64 {
        let mut at = self.0;
        for name in path {
            at = at.and_then(|value| value.get(name));
        }
        at.and_then(Value::as_i64).unwrap_or_default()
    }

    fn of(&self, signal: Signal) -> i64 {
        match signal.resource() {
            "memory" => self.number(&["memory", "workingSetBytes"]),
            "ephemeral-storage" => self.number(&["ephemeral-storage", "usedBytes"]),
            "inodes" => self.number(&["ephemeral-storage", "inodesUsed"]),
            _ => self.number(&["process_stats", "process_count"]),
        }
    }
}

fn requested(pod: &Pod, signal: Signal) -> i64 {
    match signal.resource() {
        name @ ("memory" | "ephemeral-storage") => pod_requests(pod).get(name).map_or(0, |amount| amount.value()),
        _ => 0,
    }
}

/// The indices of the pods, the first to go first.
pub(super) fn rank(pods: &[(Pod, Used<'_>)], signal: Signal) -> Vec<usize> {
    let key = |index: &usize| {
        let (pod, used) = &pods[*index];
        // Of one about which nothing is known the worst is thought.
        let unknown = used.0.is_none();
        if signal == Signal::PidAvailable {
            return (true, true, priority(pod), Reverse(used.of(signal)));
        }
        let over = used.of(signal) - requested(pod, signal);
        (!unknown, over <= 0, priority(pod), Reverse(over))
    };
    let mut order: Vec<usize> = (0..pods.len()).collect();
    order.sort_by_key(key);
    order
}

/// A container that writes more than it may, with upstream's message.
pub(super) fn container_over_limit(pod: &Pod, used: &Used<'_>, own_images: bool) -> Option<String> {
    let containers = used.0?.get("containers")?.as_array()?;
    containers.iter().find_map(|stats| {
        let name = stats.get("name")?.as_str()?;
        let container = PodExt::spec(pod).containers.iter().find(|c| c.name == name)?;
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?;
        let limit = amount(limit);
        let bytes =
            |part: &str| stats.get(part).and_then(|p| p.get("usedBytes")).and_then(Value::as_i64).unwrap_or_default();
        // What is on the disk of images is none of the node's.
        let total = bytes("logs") + if own_images { 0 } else { bytes("rootfs") };
        let over = !limit.is_zero() && total > limit.value();
        over.then(|| format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", limit.to_string()))
    })
}

/// Containers that use more than they asked for: (name, used, requested).
pub(super) fn offenders(pod: &Pod, used: &Used<'_>, resource: &str) -> Vec<(String, i64, String)> {
    let spec = PodExt::spec(pod);
    let all = used.0.and_then(|used| used.get("containers")).and_then(Value::as_array);
    let offender = |stats: &Value| {
        let name = stats.get("name")?.as_str()?;
        let container = spec.containers.iter().chain(pod.init_containers()).find(|c| c.name == name)?;
        let bytes = |part: &str, field: &str| stats.get(part).and_then(|p| p.get(field)).and_then(Value::as_i64);
        let used = match resource {
            "memory" => bytes("memory", "workingSetBytes")?,
            "ephemeral-storage" => bytes("rootfs", "usedBytes")?.saturating_add(bytes("logs", "usedBytes")?),
            _ => return None,
        };
        let request = request_of(container, resource);
        let asked = request.as_ref().map_or(0, |request| request.value());
        (used > asked).then(|| (name.to_owned(), used, request.map_or("0".to_owned(), |request| request.to_string())))
    };
    all.into_iter().flatten().filter_map(offender).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::{pod, pod_with};
    use serde_json::json;

    fn of(priority: i32, request: &str) -> Pod {
        pod(
            json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]}),
        )
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_the_less_important_then_the_larger() {
        let memory = |bytes: i64| json!({"memory": {"workingSetBytes": bytes}});
        let stats = [memory(50), memory(150), memory(400), memory(120), memory(900)];
        let pods = [of(0, "100"), of(0, "100"), of(10, "100"), of(0, "100"), of(5, "1000")];
        let mut all: Vec<(Pod, Used<'_>)> = pods.into_iter().zip(stats.iter().map(|s| Used(Some(s)))).collect();
        assert_eq!(rank(&all, Signal::MemoryAvailable), [1, 3, 2, 0, 4]);
        all.push((of(100, "1"), Used(None)));
        assert_eq!(rank(&all, Signal::MemoryAvailable)[0], 5, "nobody knows what it uses");
        let stats = [json!({"process_stats": {"process_count": 5}}), json!({"process_stats": {"process_count": 9}})];
        let all: Vec<(Pod, Used<'_>)> = stats.iter().map(|s| (of(0, "1"), Used(Some(s)))).collect();
        assert_eq!(rank(&all, Signal::PidAvailable), [1, 0]);
    }

    #[test]
    fn critical_pods_stay() {
        assert!(is_critical(&of(2_000_000_000, "1")) && !is_critical(&of(1_999_999_999, "1")));
        let of_file = pod_with(
            json!({"annotations": {"kubernetes.io/config.source": "file"}}),
            json!({"containers": []}),
            json!({}),
        );
        assert!(is_critical(&of_file));
    }

    #[test]
    fn a_container_over_its_own_limit_is_named() {
        let limited =
            pod(json!({"containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "1Ki"}}}]}));
        let stats = json!({"containers": [{"name": "c", "logs": {"usedBytes": 600}, "rootfs": {"usedBytes": 600}}]});
        let told = container_over_limit(&limited, &Used(Some(&stats)), false);
        assert_eq!(told.as_deref(), Some("Container c exceeded its local ephemeral storage limit \"1Ki\". "));
        assert_eq!(container_over_limit(&limited, &Used(Some(&stats)), true), None, "the layer is on another disk");
    }
}
