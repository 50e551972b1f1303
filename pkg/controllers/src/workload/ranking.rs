//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::objects::{Pod, parse_time};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `n` of `pods` that are missed least. `related` are the pods, these included, that do the same work: where many of
/// them share a node, those on it go first.
pub fn least_missed(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>], n: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if n < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|p| p.is_active()) {
            *on_node.entry(&pod.spec.node_name).or_default() += 1;
        }
        let rank = |p: &Pod| on_node.get(p.spec.node_name.as_str()).copied().unwrap_or_default();
        pods.sort_by(|a, b| compare(a, b, rank(a), rank(b), now));
    }
    pods.truncate(n);
    pods
}

/// `Less` when `a` is missed less than `b`.
fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let phase = |p: &Pod| match p.status.phase.as_str() {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let restarts = |p: &Pod| p.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or_default();
    let unassigned = |p: &Pod| p.spec.node_name.is_empty();
    let created = |p: &Pod| parse_time(p.metadata.creation_timestamp.as_ref());
    let both_ready = a.is_ready() && b.is_ready();
    unassigned(b)
        .cmp(&unassigned(a))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| Reverse(rank_a).cmp(&Reverse(rank_b)))
        .then_with(|| if both_ready { younger(a, b, a.ready_since(), b.ready_since(), now) } else { Ordering::Equal })
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| younger(a, b, created(a), created(b), now))
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata.annotations.get(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or_default()
}

/// The younger goes first, but ages of the same order of magnitude count as equal, and then chance (the uid) decides: so
/// that it is not always the newest zone or node that loses its pods.
fn younger(a: &Pod, b: &Pod, at_a: Option<Timestamp>, at_b: Option<Timestamp>, now: Timestamp) -> Ordering {
    if at_a == at_b {
        return Ordering::Equal;
    }
    let (Some(at_a), Some(at_b)) = (at_a, at_b) else {
        // Without a time it is the youngest.
        return at_a.is_some().cmp(&at_b.is_some());
    };
    let magnitude = |at: Timestamp| {
        let age = now.duration_since(at).as_nanos();
        u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
    };
    magnitude(at_a).cmp(&magnitude(at_b)).then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, ready: Option<&str>, more: serde_json::Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node},
            "status": {"phase": phase},
        });
        if let Some(at) = ready {
            value["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": at}]);
        }
        if let Some(more) = more.as_object() {
            value["metadata"].as_object_mut().unwrap().extend(more.clone());
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_order_is_upstreams() {
        let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-01T09:59:00Z");
        let cheap = json!({"annotations": {DELETION_COST: "-1"}});
        let pods = vec![
            pod("old", "n1", "Running", Some(old), json!({})),
            pod("young", "n2", "Running", Some(young), json!({})),
            pod("cheap", "n3", "Running", Some(old), cheap),
            pod("unready", "n4", "Running", None, json!({})),
            pod("pending", "n5", "Pending", None, json!({})),
            pod("unassigned", "", "Pending", None, json!({})),
        ];
        let now = "2026-01-01T10:00:00Z".parse().unwrap();
        let order = least_missed(pods.clone(), &pods, 5, now);
        let names: Vec<&str> = order.iter().map(|p| p.metadata.name.as_str()).collect();
        assert_eq!(names, ["unassigned", "pending", "unready", "cheap", "young"]);
    }

    #[test]
    fn a_crowded_node_gives_first() {
        let at = "2026-01-01T00:00:00Z";
        let pods = vec![
            pod("alone", "n1", "Running", Some(at), json!({})),
            pod("b", "n2", "Running", Some(at), json!({})),
            pod("c", "n2", "Running", Some(at), json!({})),
        ];
        let gone = least_missed(pods.clone(), &pods, 1, at.parse().unwrap());
        assert_eq!(gone[0].metadata.name, "b");
    }
}
