//! The status of a Deployment and its conditions, in upstream's words.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time;

use super::scaling::max_unavailable;
use crate::objects::{Condition, Deployment, DeploymentStatus, ReplicaSet, condition, parse_time};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

type Set = Arc<ReplicaSet>;

/// Whether progress is watched.
pub fn has_deadline(d: &Deployment) -> bool {
    d.spec.progress_deadline_seconds.is_some_and(|s| s != i64::from(i32::MAX))
}

fn new_condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> Condition {
    let now = Some(time::rfc3339(now));
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_update_time: now.clone(),
        last_transition_time: now,
        ..Condition::default()
    }
}

/// Sets a condition, unless status and reason are the same already.
fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    if let Some(old) = condition(conditions, &new.kind) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    conditions.retain(|c| c.kind != new.kind);
    conditions.push(new);
}

/// Notes something about the progress.
pub fn note_progress(
    conditions: &mut Vec<Condition>,
    status: &'static str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    set(conditions, new_condition(PROGRESSING, status, reason, message, now));
}

/// Whether progress has been noted at all.
pub fn has_progress(conditions: &[Condition]) -> bool {
    condition(conditions, PROGRESSING).is_some()
}

/// Notes that the Deployment was paused or resumed.
pub fn note_pause(d: &Deployment, conditions: &mut Vec<Condition>, now: Timestamp) {
    let old = condition(conditions, PROGRESSING).map(|c| c.reason.as_str());
    if !has_deadline(d) || old == Some(DEADLINE_EXCEEDED) {
        return;
    }
    let was_paused = old == Some("DeploymentPaused");
    if d.spec.paused && !was_paused {
        note_progress(conditions, "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
    } else if !d.spec.paused && was_paused {
        note_progress(conditions, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now);
    }
}

/// The numbers, and the condition Available. `base` is the status so far.
pub fn counts(
    d: &Deployment,
    base: &DeploymentStatus,
    new: Option<&Set>,
    old: &[Set],
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: &dyn Fn(&ReplicaSet) -> i64| old.iter().chain(new).map(|s| f(s)).sum::<i64>();
    let available = sum(&|s| s.status.available_replicas);
    let terminating: Option<i64> = old.iter().chain(new).map(|s| s.status.terminating_replicas).sum();
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: sum(&|s| s.status.replicas),
        updated_replicas: new.map_or(0, |s| s.status.replicas),
        ready_replicas: sum(&|s| s.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (sum(&|s| s.spec.replicas) - available).max(0),
        terminating_replicas: terminating,
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let (state, reason, message) = if available >= d.spec.replicas - max_unavailable(d) {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status.conditions, new_condition(AVAILABLE, state, reason, message.into(), now));
    status
}

/// Whether all pods are of the current template and available.
pub fn is_complete(d: &Deployment, status: &DeploymentStatus) -> bool {
    let all = d.spec.replicas;
    (status.updated_replicas, status.replicas, status.available_replicas) == (all, all, all)
        && status.observed_generation >= d.metadata.generation
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// When the deadline passes, from the last progress.
fn deadline(d: &Deployment, progress: &Condition) -> Option<Timestamp> {
    let from = parse_time(progress.last_update_time.as_ref())?;
    let seconds = u64::try_from(d.spec.progress_deadline_seconds?).ok()?;
    from.checked_add(Duration::from_secs(seconds)).ok()
}

fn is_timed_out(d: &Deployment, conditions: &[Condition], now: Timestamp) -> bool {
    match condition(conditions, PROGRESSING) {
        None => false,
        Some(c) if c.reason == NEW_SET_AVAILABLE => false,
        Some(c) if c.reason == DEADLINE_EXCEEDED => true,
        Some(c) => deadline(d, c).is_some_and(|at| at < now),
    }
}

/// The status during a rollout.
pub fn rollout(
    d: &Deployment,
    base: &DeploymentStatus,
    new: Option<&Set>,
    old: &[Set],
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counts(d, base, new, old, now);
    let progress = condition(&base.conditions, PROGRESSING).cloned();
    if !has_deadline(d) {
        status.conditions.retain(|c| c.kind != PROGRESSING);
    }
    let was_complete =
        status.replicas == status.updated_replicas && progress.as_ref().is_some_and(|c| c.reason == NEW_SET_AVAILABLE);
    let what = match new {
        Some(set) => format!("ReplicaSet {:?}", set.metadata.name),
        None => format!("Deployment {:?}", d.metadata.name),
    };
    let (complete, progressing) = (is_complete(d, &status), is_progressing(base, &status));
    if has_deadline(d) && !was_complete {
        let conditions = &mut status.conditions;
        if complete {
            note_progress(conditions, "True", NEW_SET_AVAILABLE, format!("{what} has successfully progressed."), now);
        } else if progressing {
            let mut c = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
            if let Some(old) = progress.filter(Condition::is_true) {
                c.last_transition_time = old.last_transition_time;
            }
            conditions.retain(|c| c.kind != PROGRESSING);
            conditions.push(c);
        } else if is_timed_out(d, conditions, now) {
            note_progress(conditions, "False", DEADLINE_EXCEEDED, format!("{what} has timed out progressing."), now);
        }
    }
    match replica_failure(new, old) {
        Some(failure) => set(&mut status.conditions, failure),
        None => status.conditions.retain(|c| c.kind != REPLICA_FAILURE),
    }
    status
}

fn replica_failure(new: Option<&Set>, old: &[Set]) -> Option<Condition> {
    let failure = new.into_iter().chain(old).find_map(|s| condition(&s.status.conditions, REPLICA_FAILURE))?;
    Some(Condition { last_update_time: failure.last_transition_time.clone(), ..failure.clone() })
}

/// How long until the deadline should be checked, when nothing else happens before.
pub fn check_in(d: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let progress = condition(&status.conditions, PROGRESSING)?;
    if !has_deadline(d) || is_complete(d, status) || progress.reason == DEADLINE_EXCEEDED {
        return None;
    }
    let left = deadline(d, progress)?.duration_since(now).as_secs().max(0);
    Some(Duration::from_secs(left.unsigned_abs() + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 1},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 60, "strategy": {"rollingUpdate": {"maxSurge": 1}}},
        }))
        .unwrap()
    }

    fn replica_set(available: i64) -> Set {
        let status = json!({"replicas": 2, "readyReplicas": available, "availableReplicas": available});
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "web-x"}, "spec": {"replicas": 2}, "status": status}))
                .unwrap(),
        )
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn progress(status: &DeploymentStatus) -> (&str, &str, &str) {
        let c = condition(&status.conditions, PROGRESSING).unwrap();
        (&c.status, &c.reason, &c.message)
    }

    #[test]
    fn a_rollout_progresses_and_completes_and_stays_complete() {
        let d = deployment();
        let first = rollout(&d, &DeploymentStatus::default(), Some(&replica_set(1)), &[], at(0));
        assert_eq!(progress(&first), ("True", "ReplicaSetUpdated", "ReplicaSet \"web-x\" is progressing."));
        assert_eq!((first.replicas, first.unavailable_replicas), (2, 1));
        assert_eq!(condition(&first.conditions, AVAILABLE).unwrap().reason, "MinimumReplicasUnavailable");
        let done = rollout(&d, &first, Some(&replica_set(2)), &[], at(5));
        let words = "ReplicaSet \"web-x\" has successfully progressed.";
        assert_eq!(progress(&done), ("True", "NewReplicaSetAvailable", words));
        let later = rollout(&d, &done, Some(&replica_set(1)), &[], at(500));
        assert_eq!(progress(&later).1, "NewReplicaSetAvailable", "a lost pod is no failed rollout");
    }

    #[test]
    fn a_stuck_rollout_exceeds_its_deadline() {
        let d = deployment();
        let first = rollout(&d, &DeploymentStatus::default(), Some(&replica_set(1)), &[], at(0));
        assert_eq!(check_in(&d, &first, at(10)), Some(Duration::from_secs(51)));
        let stuck = rollout(&d, &first, Some(&replica_set(1)), &[], at(61));
        assert_eq!(progress(&stuck).1, "ProgressDeadlineExceeded");
        assert_eq!(check_in(&d, &stuck, at(61)), None);
    }

    #[test]
    fn pause_and_resume_are_noted() {
        let mut d = deployment();
        let mut conditions = Vec::new();
        d.spec.paused = true;
        note_pause(&d, &mut conditions, at(0));
        assert_eq!(conditions[0].reason, "DeploymentPaused");
        d.spec.paused = false;
        note_pause(&d, &mut conditions, at(1));
        assert_eq!(conditions[0].reason, "DeploymentResumed");
    }
}
