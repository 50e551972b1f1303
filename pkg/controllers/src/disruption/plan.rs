//! How many pods of a budget may be disrupted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time;

use crate::objects::{BudgetStatus, Condition, IntOrString, Pod, PodDisruptionBudget};

/// An evicted pod that is not gone after this time was not evicted after all.
const EVICTION: Duration = Duration::from_secs(120);
pub const CONDITION: &str = "DisruptionAllowed";

/// What was found out.
#[derive(Debug)]
pub struct Outcome {
    pub status: BudgetStatus,
    /// Pods that should be gone and are not.
    pub not_deleted: Vec<Arc<Pod>>,
    /// When an eviction expires next.
    pub recheck: Option<Duration>,
}

/// Whether it counts what the managers of the pods want.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget.spec.max_unavailable.is_some() || matches!(budget.spec.min_available, Some(IntOrString::String(_)))
}

/// The pods that are expected, and how many of them must stay healthy. `scale` is what the managers of the pods want.
pub fn expected(budget: &PodDisruptionBudget, pods: usize, scale: i64) -> (i64, i64) {
    let spec = &budget.spec;
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => (scale, (scale - max.scaled(scale, true)).max(0)),
        (None, Some(IntOrString::Int(n))) => (i64::try_from(pods).unwrap_or(i64::MAX), *n),
        (None, Some(percent)) => (scale, percent.scaled(scale, true)),
        (None, None) => (0, 0),
    }
}

/// The status with these pods.
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    (expected, desired): (i64, i64),
    now: Timestamp,
) -> Outcome {
    let (mut not_deleted, mut recheck) = (Vec::new(), None::<Duration>);
    let mut disrupted: BTreeMap<&str, &str> = BTreeMap::new();
    for pod in pods.iter().filter(|p| !p.metadata.is_deleting()) {
        let name = &pod.metadata.name;
        let Some(text) = budget.status.disrupted_pods.get(name) else { continue };
        let since = time::parse(text).unwrap_or(now);
        let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if elapsed > EVICTION {
            not_deleted.push(pod.clone());
        } else {
            disrupted.insert(name, text);
            // Then it is over, and not just about to be.
            let left = EVICTION - elapsed + Duration::from_millis(1);
            recheck = Some(recheck.map_or(left, |r| r.min(left)));
        }
    }
    let healthy =
        |p: &&Arc<Pod>| !p.metadata.is_deleting() && !disrupted.contains_key(p.metadata.name.as_str()) && p.is_ready();
    let current = i64::try_from(pods.iter().filter(healthy).count()).unwrap_or(i64::MAX);
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    let mut status = BudgetStatus {
        observed_generation: budget.metadata.generation,
        disrupted_pods: disrupted.into_iter().collect(),
        disruptions_allowed: allowed,
        current_healthy: current,
        desired_healthy: desired,
        expected_pods: expected,
        conditions: budget.status.conditions.clone(),
    };
    let (reason, message) = if allowed > 0 { ("SufficientPods", "") } else { ("InsufficientPods", "") };
    set_condition(&mut status, allowed > 0, reason, message, now);
    Outcome { status, not_deleted, recheck }
}

/// The status when it could not be found out: nothing may be disrupted.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> BudgetStatus {
    let mut status = BudgetStatus { disruptions_allowed: 0, ..budget.status.clone() };
    set_condition(&mut status, false, "SyncFailed", why, now);
    status
}

/// It is about what the status is about: when nothing could be found out, that is what was found out before.
fn set_condition(status: &mut BudgetStatus, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let generation = Some(status.observed_generation).filter(|generation| *generation != 0);
    let mut new =
        Condition { observed_generation: generation, ..Condition::new(CONDITION, holds, reason, message, now) };
    if let Some(old) = status.conditions.iter_mut().find(|c| c.kind == CONDITION) {
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
        *old = new;
    } else {
        status.conditions.push(new);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, disrupted: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"spec": spec, "status": {"disruptedPods": disrupted}})).unwrap()
    }

    fn pods(ready: &[bool]) -> Vec<Arc<Pod>> {
        let pod = |(i, ready): (usize, &bool)| {
            let status = if *ready { "True" } else { "False" };
            let value = json!({
                "metadata": {"name": format!("p{i}")}, "status": {"conditions": [{"type": "Ready", "status": status}]}
            });
            Arc::new(serde_json::from_value(value).unwrap())
        };
        ready.iter().enumerate().map(pod).collect()
    }

    #[test]
    fn expectations_follow_the_spec() {
        let of = |spec| expected(&budget(spec, json!({})), 4, 10);
        assert_eq!(of(json!({"minAvailable": 2})), (4, 2));
        assert_eq!(of(json!({"minAvailable": "25%"})), (10, 3));
        assert_eq!(of(json!({"maxUnavailable": "25%"})), (10, 7));
        assert_eq!(of(json!({"maxUnavailable": 20})), (10, 0));
        let needs = |spec| needs_scale(&budget(spec, json!({})));
        assert!(!needs(json!({"minAvailable": 2})) && needs(json!({"minAvailable": "2%"})));
        assert!(needs(json!({"maxUnavailable": 1})));
    }

    #[test]
    fn healthy_pods_beyond_the_needed_may_go() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let none = budget(json!({}), json!({}));
        let allowed = |pods: &[Arc<Pod>], desired| status(&none, pods, (3, desired), now).status.disruptions_allowed;
        assert_eq!(allowed(&pods(&[true, true, false]), 1), 1);
        assert_eq!(allowed(&pods(&[true, false, false]), 1), 0);
        let evicted = budget(json!({}), json!({"p0": "2026-01-01T00:00:30Z", "p1": "2025-12-31T00:00:00Z"}));
        let outcome = status(&evicted, &pods(&[true, true, true]), (3, 1), now);
        assert_eq!(outcome.status.disruptions_allowed, 1, "p0 is on its way out");
        assert_eq!(outcome.recheck, Some(Duration::from_millis(90_001)));
        assert_eq!(outcome.not_deleted[0].metadata.name, "p1");
        assert_eq!(failed(&evicted, "why", now).conditions[0].reason, "SyncFailed");
    }
}
