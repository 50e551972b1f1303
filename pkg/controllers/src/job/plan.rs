//! Whether a Job has ended, and which pods it needs or has too many of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time;

use super::backoff::{self, Record, finished_at};
use super::count::{Count, failures_before, index_of, is_failed, only_replaces_failed};
use super::policy::{Failure, of_failure, of_success};
use crate::objects::{Condition, Job, JobStatus, Pod, condition, parse_time};
use crate::workload::pod_control::template;
use crate::workload::ranking::least_missed;

/// Pods made or deleted in one round.
const BURST: i64 = 500;
pub const FAILURE_TARGET: &str = "FailureTarget";
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// A condition that holds from now on.
pub fn holds(kind: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> Condition {
    let probed = Some(time::rfc3339(now));
    Condition { last_probe_time: probed, ..Condition::new(kind, true, reason, message, now) }
}

/// Why the Job is about to end, if it is: the condition that says so before its pods are gone.
pub fn ending(job: &Job, status: &JobStatus, pods: &[Arc<Pod>], count: &Count, now: Timestamp) -> Option<Condition> {
    for kind in [SUCCESS_CRITERIA_MET, FAILURE_TARGET] {
        if let Some(known) = condition(&status.conditions, kind).filter(|c| c.is_true()) {
            return Some(known.clone());
        }
    }
    let failure = |reason: &str, message: &str| Some(holds(FAILURE_TARGET, reason, message, now));
    let spec = &job.spec;
    for pod in pods.iter().filter(|p| is_failed(job, p)) {
        if let Failure::FailJob(message) = of_failure(job, pod) {
            return failure("PodFailurePolicy", &message);
        }
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if count.failed > limit || too_many_restarts(job, pods, limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline_in(job, status, now) == Some(Duration::ZERO) {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if !job.is_indexed() {
        return None;
    }
    if spec.backoff_limit_per_index.is_some() {
        let failed = count.failed_indexes.len();
        if spec.max_failed_indexes.is_some_and(|max| failed > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return failure("MaxFailedIndexesExceeded", message);
        }
        if failed > 0 && failed + count.succeeded_indexes.len() >= spec.completions.unwrap_or_default() {
            return failure("FailedIndexes", "Job has failed indexes");
        }
    }
    let completions = spec.completions.unwrap_or_default();
    let met = of_success(spec.success_policy.as_ref(), completions, &count.succeeded_indexes)?;
    Some(holds(SUCCESS_CRITERIA_MET, "SuccessPolicy", met, now))
}

/// Containers that the node restarts count too.
fn too_many_restarts(job: &Job, pods: &[Arc<Pod>], limit: i64) -> bool {
    if template(&job.spec.template).pointer("/spec/restartPolicy").is_none_or(|p| p != "OnFailure") {
        return false;
    }
    let running = pods.iter().filter(|p| matches!(p.status.phase.as_str(), "Running" | "Pending"));
    let of = |p: &Arc<Pod>| {
        let all = p.status.init_container_statuses.iter().chain(&p.status.container_statuses);
        all.map(|c| c.restart_count).sum::<i64>()
    };
    let restarts: i64 = running.map(of).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// How long until the Job's deadline, if it has one and runs.
pub fn deadline_in(job: &Job, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let deadline = job.spec.active_deadline_seconds.filter(|_| !job.spec.suspend)?;
    let start = parse_time(status.start_time.as_ref())?;
    let left = i128::from(deadline) * 1000 - now.duration_since(start).as_millis();
    Some(Duration::from_millis(u64::try_from(left.max(0)).unwrap_or(u64::MAX)))
}

/// Whether enough pods have succeeded and none runs any more.
pub fn is_complete(job: &Job, succeeded: i64, active: i64) -> bool {
    let enough = match job.spec.completions {
        None => succeeded > 0,
        Some(completions) => succeeded >= completions,
    };
    enough && active == 0
}

/// What to do with the pods of a Job that goes on.
#[derive(Debug)]
pub enum Action {
    Keep,
    Delete(Vec<Arc<Pod>>),
    /// One pod for each; with its index if the Job is indexed.
    Create(Vec<Option<i64>>),
    /// Pods are missing, but it is too early to replace those that failed.
    Wait(Duration),
}

/// Decides by the numbers.
pub fn manage(job: &Job, count: &Count, record: &Record, now: Timestamp) -> Action {
    let active = to_i64(count.active.len());
    let parallelism = job.spec.parallelism.unwrap_or(1);
    let wanted = match job.spec.completions {
        _ if job.spec.suspend => 0,
        None if count.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => (completions - count.succeeded).clamp(0, parallelism),
    };
    let surplus = for_removal(job, &count.active, (active - wanted).max(0), now);
    if !surplus.is_empty() {
        return Action::Delete(surplus);
    }
    if job.spec.suspend {
        return Action::Keep;
    }
    let terminating = if only_replaces_failed(job) { count.terminating } else { 0 };
    let missing = (wanted - terminating - active).min(BURST);
    if missing <= 0 {
        return Action::Keep;
    }
    if job.spec.backoff_limit_per_index.is_none() {
        let wait = record.remaining(now);
        if !wait.is_zero() {
            return Action::Wait(wait);
        }
    }
    if !job.is_indexed() {
        return Action::Create(vec![None; usize::try_from(missing).unwrap_or_default()]);
    }
    create_indexes(job, count, missing, now)
}

fn create_indexes(job: &Job, count: &Count, missing: i64, now: Timestamp) -> Action {
    let mut taken: HashSet<i64> = count.active.iter().filter_map(|p| index_of(job, p)).collect();
    taken.extend(&count.succeeded_indexes.0);
    taken.extend(&count.failed_indexes.0);
    let free = (0..job.spec.completions.unwrap_or_default()).filter(|i| !taken.contains(i));
    let mut waits = Vec::new();
    let mut indexes = Vec::new();
    for index in free.take(usize::try_from(missing).unwrap_or_default()) {
        let wait = count.to_replace.get(&index).map_or(Duration::ZERO, |pod| {
            let failures = u32::try_from(failures_before(pod) + 1).unwrap_or(u32::MAX);
            backoff::remaining(failures, finished_at(pod), now)
        });
        if wait.is_zero() { indexes.push(Some(index)) } else { waits.push(wait) }
    }
    match waits.into_iter().min() {
        Some(wait) if indexes.is_empty() => Action::Wait(wait),
        _ if indexes.is_empty() => Action::Keep,
        _ => Action::Create(indexes),
    }
}

/// Pods without a valid index, second pods of an index, and as many more as needed.
fn for_removal(job: &Job, active: &[Arc<Pod>], at_least: i64, now: Timestamp) -> Vec<Arc<Pod>> {
    let (mut remove, mut left) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for pod in least_missed(active.to_vec(), active, active.len(), now).into_iter().rev() {
        let doubled = job.is_indexed() && !index_of(job, &pod).is_some_and(|i| seen.insert(i));
        if doubled { remove.push(pod) } else { left.push(pod) }
    }
    let more = usize::try_from(at_least).unwrap_or_default().saturating_sub(remove.len());
    if more > 0 {
        let related = left.clone();
        remove.extend(least_missed(left, &related, more, now));
    }
    remove.truncate(usize::try_from(BURST).unwrap_or_default());
    remove
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::count::{FINALIZER, INDEX, count};
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: Value) -> Job {
        let mut value =
            json!({"metadata": {"name": "j"}, "spec": {"parallelism": 2, "backoffLimit": 1, "template": {}}});
        value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn pod(uid: &str, phase: &str, index: Option<i64>) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": uid, "uid": uid, "finalizers": [FINALIZER], "creationTimestamp": "1970-01-01T00:00:00Z"},
            "status": {"phase": phase},
        });
        if let Some(index) = index {
            value["metadata"]["annotations"] = json!({INDEX: index.to_string()});
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn action(job: &Job, pods: &[Arc<Pod>]) -> Action {
        let now = Timestamp::from_second(10_000).unwrap();
        manage(job, &count(job, pods, &HashSet::new()), &Record::default(), now)
    }

    #[test]
    fn as_many_run_as_are_still_needed() {
        let three = job(json!({"completions": 3}));
        assert!(matches!(action(&three, &[]), Action::Create(p) if p.len() == 2));
        let pods = [pod("a", "Succeeded", None), pod("b", "Succeeded", None), pod("c", "Running", None)];
        assert!(matches!(action(&three, &pods), Action::Keep));
        let more = [&pods[..], &[pod("d", "Running", None)]].concat();
        assert!(matches!(action(&three, &more), Action::Delete(p) if p.len() == 1));
        let suspended = job(json!({"completions": 3, "suspend": true}));
        assert!(matches!(action(&suspended, &pods), Action::Delete(p) if p.len() == 1));
    }

    #[test]
    fn each_index_has_one_pod() {
        let indexed = job(json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"}));
        let pods = [pod("a", "Succeeded", Some(0)), pod("b", "Running", Some(2))];
        assert!(matches!(action(&indexed, &pods), Action::Create(p) if p == [Some(1), Some(3)]));
        let doubled = [pod("a", "Running", Some(0)), pod("b", "Running", Some(0)), pod("c", "Running", None)];
        assert!(matches!(action(&indexed, &doubled), Action::Delete(p) if p.len() == 2));
    }

    #[test]
    fn failures_beyond_the_limit_end_the_job() {
        let job = job(json!({"completions": 1}));
        let now = Timestamp::from_second(10_000).unwrap();
        let end = |pods: &[Arc<Pod>]| {
            let count = count(&job, pods, &HashSet::new());
            ending(&job, &job.status, pods, &count, now).map(|c| c.reason)
        };
        assert_eq!(end(&[pod("a", "Failed", None)]), None);
        assert_eq!(end(&[pod("a", "Failed", None), pod("b", "Failed", None)]).unwrap(), "BackoffLimitExceeded");
    }

    #[test]
    fn a_failing_index_fails_alone() {
        let job =
            job(json!({"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 99}));
        let pods = [pod("a", "Failed", Some(0)), pod("b", "Running", Some(1))];
        let c = count(&job, &pods, &HashSet::new());
        assert_eq!(c.failed_indexes.to_string(), "0");
        assert!(matches!(action(&job, &pods), Action::Keep));
        let pods = [pod("a", "Failed", Some(0)), pod("b", "Succeeded", Some(1))];
        let c = count(&job, &pods, &HashSet::new());
        assert_eq!(ending(&job, &job.status, &pods, &c, Timestamp::UNIX_EPOCH).unwrap().reason, "FailedIndexes");
    }
}
