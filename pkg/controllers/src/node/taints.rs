//! Which taints a node has by its conditions, and how pods tolerate them.

use jiff::Timestamp;
use kedge_base::time;

use crate::objects::{Node, Taint, Toleration, condition};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// Conditions that taint while they hold.
const BY_CONDITION: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

/// Whether pods have to leave the node because it is unwell.
pub fn is_emptied(node: &Node) -> bool {
    node.spec.taints.iter().any(|t| t.effect == NO_EXECUTE && is_ours(t))
}

/// The node's taints as they should be, or none if they are so. With `spare` no pods have to leave, however unwell it is.
pub fn plan(node: &Node, spare: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let wanted = wanted(node, spare);
    let mut taints: Vec<Taint> = node.spec.taints.clone();
    taints.retain(|t| !is_ours(t) || wanted.iter().any(|w| w.matches(t)));
    for taint in wanted {
        if !taints.iter().any(|t| t.matches(&taint)) {
            taints.push(Taint { time_added: Some(time::rfc3339(now)), ..taint });
        }
    }
    let same = taints.len() == node.spec.taints.len() && taints.iter().all(|t| node.spec.taints.contains(t));
    (!same).then_some(taints)
}

fn is_ours(taint: &Taint) -> bool {
    let ready = taint.key == NOT_READY || taint.key == UNREACHABLE;
    match taint.effect.as_str() {
        NO_EXECUTE => ready,
        NO_SCHEDULE => ready || taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, key)| taint.key == *key),
        _ => false,
    }
}

fn wanted(node: &Node, spare: bool) -> Vec<Taint> {
    let taint = |key: &str, effect: &str| Taint { key: key.into(), effect: effect.into(), ..Taint::default() };
    let mut out = Vec::new();
    let conditions = &node.status.conditions;
    let ready = condition(conditions, "Ready").map(|c| c.status.as_str());
    let key = match ready {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    if let Some(key) = key {
        out.push(taint(key, NO_SCHEDULE));
    }
    for (kind, key) in BY_CONDITION {
        if condition(conditions, kind).is_some_and(|c| c.is_true()) {
            out.push(taint(key, NO_SCHEDULE));
        }
    }
    if node.spec.unschedulable {
        out.push(taint(UNSCHEDULABLE, NO_SCHEDULE));
    }
    if let Some(key) = key.filter(|_| !spare) {
        out.push(taint(key, NO_EXECUTE));
    }
    // A node that has never said anything keeps what it was registered with.
    if ready.is_none() {
        let kept = node.spec.taints.iter().filter(|t| t.key == NOT_READY || t.key == UNREACHABLE);
        out.extend(kept.filter(|t| t.effect == NO_SCHEDULE).cloned());
    }
    out
}

/// Whether the toleration covers the taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if !toleration.effect.is_empty() && toleration.effect != taint.effect {
        return false;
    }
    if !toleration.key.is_empty() && toleration.key != taint.key {
        return false;
    }
    match toleration.operator.as_str() {
        "" | "Equal" => toleration.value == taint.value,
        "Exists" => true,
        "Gt" | "Lt" => {
            let (Ok(limit), Ok(value)) = (toleration.value.parse::<i64>(), taint.value.parse::<i64>()) else {
                return false;
            };
            if toleration.operator == "Gt" { value > limit } else { value < limit }
        }
        _ => false,
    }
}

/// For how long a pod may stay on a node with these taints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Forever,
    Seconds(u64),
}

/// The shortest toleration of all taints with effect NoExecute; zero when one is not tolerated.
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut least = Stay::Forever;
    for taint in taints.iter().filter(|t| t.effect == NO_EXECUTE) {
        let Some(toleration) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Stay::Seconds(0);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            least = match least {
                Stay::Seconds(other) if other <= seconds => least,
                _ => Stay::Seconds(seconds),
            };
        }
    }
    least
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn node(ready: &str, taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({
            "spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}
        }))
        .unwrap()
    }

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect()
    }

    #[test]
    fn an_unwell_node_is_tainted_and_a_well_one_is_not() {
        let now = Timestamp::UNIX_EPOCH;
        let taints = plan(&node("False", json!([{"key": "own", "effect": "NoSchedule"}])), false, now).unwrap();
        let both =
            ["own:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"];
        assert_eq!(keys(&taints), both);
        let mut tainted = node("Unknown", json!([]));
        tainted.spec.taints = taints;
        let swapped = keys(&plan(&tainted, false, now).unwrap());
        assert!(swapped.contains(&"node.kubernetes.io/unreachable:NoExecute".to_owned()) && swapped.len() == 3);
        tainted.status.conditions[0].status = "True".into();
        assert_eq!(keys(&plan(&tainted, false, now).unwrap()), ["own:NoSchedule"]);
        assert!(plan(&node("True", json!([])), false, now).is_none());
    }

    #[test]
    fn nothing_is_evicted_when_all_nodes_are_unwell() {
        let taints = plan(&node("Unknown", json!([])), true, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(keys(&taints), ["node.kubernetes.io/unreachable:NoSchedule"]);
    }

    #[test]
    fn the_shortest_toleration_counts() {
        let taint = |key: &str| Taint { key: key.into(), effect: NO_EXECUTE.into(), ..Taint::default() };
        let toleration = |key: &str, seconds| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: NO_EXECUTE.into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let both = [taint("a"), taint("b")];
        assert_eq!(stay(&both, &[toleration("a", Some(300))]), Stay::Seconds(0));
        assert_eq!(stay(&both, &[toleration("a", Some(300)), toleration("b", Some(20))]), Stay::Seconds(20));
        assert_eq!(stay(&both, &[toleration("", None)]), Stay::Forever);
        assert_eq!(stay(&[], &[]), Stay::Forever);
    }
}
