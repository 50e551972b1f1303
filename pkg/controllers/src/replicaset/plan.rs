//! How many pods to make or delete, and the status of a ReplicaSet.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_meta::labels::Selector;

use crate::objects::{Condition, Pod, ReplicaSet, ReplicaSetStatus};
use crate::workload::pod_control::template;

/// Pods made or deleted in one round.
const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Scale {
    Stay,
    Create(usize),
    Delete(usize),
}

/// From how many pods are wanted and how many there are.
pub fn scale(wanted: i64, there: usize) -> Scale {
    let wanted = usize::try_from(wanted).unwrap_or_default();
    match wanted.cmp(&there) {
        std::cmp::Ordering::Equal => Scale::Stay,
        std::cmp::Ordering::Greater => Scale::Create((wanted - there).min(BURST)),
        std::cmp::Ordering::Less => Scale::Delete((there - wanted).min(BURST)),
    }
}

/// The status with these pods. `failure` is why pods could not be made or deleted.
pub fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    terminating: Option<usize>,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| to_i64(pods.iter().filter(|p| test(p)).count());
    let template = template(&set.spec.template);
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
    let labels = serde_json::from_value(labels).map(|l| Selector::from_map(&l)).unwrap_or_default();
    let mut conditions = set.status.conditions.clone();
    match failure {
        None => conditions.retain(|c| c.kind != FAILURE),
        Some(why) if !conditions.iter().any(|c| c.kind == FAILURE) => {
            let reason = match scale(set.spec.replicas, pods.len()) {
                Scale::Create(_) => "FailedCreate",
                Scale::Delete(_) => "FailedDelete",
                Scale::Stay => "",
            };
            conditions.push(Condition::new(FAILURE, true, reason, why, now));
        }
        Some(_) => {}
    }
    ReplicaSetStatus {
        replicas: to_i64(pods.len()),
        fully_labeled_replicas: count(&|p| labels.matches(&p.metadata.labels)),
        ready_replicas: count(&Pod::is_ready),
        available_replicas: count(&|p| p.is_available(set.spec.min_ready_seconds, now)),
        terminating_replicas: terminating.map(to_i64),
        observed_generation: set.metadata.generation,
        conditions,
    }
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// When the next ready pod becomes available, if one is not yet.
pub fn next_availability(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let waits = pods.iter().filter_map(|p| p.available_in(set.spec.min_ready_seconds, now));
    waits.filter(|w| !w.is_zero()).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn scaling_is_bounded() {
        assert_eq!(scale(3, 3), Scale::Stay);
        assert_eq!(scale(3, 1), Scale::Create(2));
        assert_eq!(scale(0, 2), Scale::Delete(2));
        assert_eq!(scale(10_000, 0), Scale::Create(BURST));
    }

    #[test]
    fn pods_are_counted_by_labels_readiness_and_time() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "spec": {"replicas": 3, "minReadySeconds": 10, "selector": {},
                "template": {"metadata": {"labels": {"app": "a", "v": "1"}}}},
        }))
        .unwrap();
        let pod = |labels: serde_json::Value, since: &str| -> Arc<Pod> {
            let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
            Arc::new(
                serde_json::from_value(json!({"metadata": {"labels": labels}, "status": {"conditions": ready}}))
                    .unwrap(),
            )
        };
        let pods = [
            pod(json!({"app": "a", "v": "1"}), "2026-01-01T00:00:00Z"),
            pod(json!({"app": "a"}), "2026-01-01T00:00:55Z"),
        ];
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let status = status(&set, &pods, Some(1), Some("no"), now);
        assert_eq!(
            (status.replicas, status.fully_labeled_replicas, status.ready_replicas, status.available_replicas),
            (2, 1, 2, 1)
        );
        assert_eq!(status.observed_generation, 2);
        assert_eq!(status.conditions[0].reason, "FailedCreate");
        assert_eq!(next_availability(&set, &pods, now), Some(Duration::from_secs(5)));
    }
}
