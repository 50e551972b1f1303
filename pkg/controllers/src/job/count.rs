//! What the pods of a Job amount to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::indexes::Indexes;
use super::policy::{Failure, of_failure};
use crate::objects::{Job, Pod};

/// Pods carry it until their end is counted in the Job's status.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The pods of a Job, sorted into what matters.
#[derive(Debug, Default)]
pub struct Count {
    pub active: Vec<Arc<Pod>>,
    pub ready: i64,
    pub terminating: i64,
    /// In all; of an indexed Job, indexes.
    pub succeeded: i64,
    /// In all, without those that the failure policy ignores.
    pub failed: i64,
    /// Ended and not yet noted in the status.
    pub new_succeeded: Vec<Arc<Pod>>,
    pub new_failed: Vec<Arc<Pod>>,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Indexes,
    /// By index, with its own limit of failures: the failed pod that its replacement must take the number from.
    pub to_replace: HashMap<i64, Arc<Pod>>,
}

/// Whether the pod still waits to be counted. `settled` are those whose finalizer has just been removed.
pub fn is_tracked(pod: &Pod, settled: &HashSet<String>) -> bool {
    pod.metadata.finalizers.iter().any(|f| f == FINALIZER) && !settled.contains(&pod.metadata.uid)
}

/// Whether a deleted pod is replaced only when it has ended.
pub fn only_replaces_failed(job: &Job) -> bool {
    job.spec.pod_replacement_policy == "Failed"
}

/// Whether the pod counts as failed. Unless the Job waits for pods to end, one that was deleted does.
pub fn is_failed(job: &Job, pod: &Pod) -> bool {
    pod.status.phase == "Failed"
        || (!only_replaces_failed(job) && pod.metadata.is_deleting() && pod.status.phase != "Succeeded")
}

/// The completion index of a pod of an indexed Job, if it is one of its indexes.
pub fn index_of(job: &Job, pod: &Pod) -> Option<i64> {
    let index: i64 = pod.metadata.annotations.get(INDEX)?.parse().ok()?;
    (0..job.spec.completions.unwrap_or_default()).contains(&index).then_some(index)
}

/// How often the index had failed before this pod.
pub fn failures_before(pod: &Pod) -> i64 {
    pod.metadata.annotations.get(FAILURES).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Counts.
pub fn count(job: &Job, pods: &[Arc<Pod>], settled: &HashSet<String>) -> Count {
    let uncounted = &job.status.uncounted_terminated_pods;
    let mut c = Count::default();
    for pod in pods {
        if pod.is_active() {
            c.ready += i64::from(pod.is_ready());
            c.active.push(pod.clone());
        }
        c.terminating += i64::from(pod.is_terminating());
        let usable = !job.is_indexed() || index_of(job, pod).is_some();
        if !usable || !is_tracked(pod, settled) {
            continue;
        }
        let uid = &pod.metadata.uid;
        if pod.status.phase == "Succeeded" {
            if !uncounted.succeeded.contains(uid) {
                c.new_succeeded.push(pod.clone());
            }
        } else if is_failed(job, pod) && !uncounted.failed.contains(uid) {
            c.new_failed.push(pod.clone());
        }
    }
    let counted = c.new_failed.iter().filter(|p| of_failure(job, p) != Failure::Ignore).count();
    c.failed = job.status.failed + to_i64(counted) + to_i64(uncounted.failed.len());
    c.succeeded = job.status.succeeded + to_i64(c.new_succeeded.len()) + to_i64(uncounted.succeeded.len());
    if job.is_indexed() {
        count_indexes(job, pods, settled, &mut c);
    }
    c
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count_indexes(job: &Job, pods: &[Arc<Pod>], settled: &HashSet<String>, c: &mut Count) {
    let below = job.spec.completions.unwrap_or_default();
    c.succeeded_indexes = Indexes::parse(&job.status.completed_indexes, below);
    let done = c.new_succeeded.iter().filter_map(|p| index_of(job, p));
    c.succeeded_indexes.0.extend(done);
    c.succeeded = c.succeeded_indexes.len();
    let Some(limit) = job.spec.backoff_limit_per_index else { return };
    c.failed_indexes = Indexes::parse(job.status.failed_indexes.as_deref().unwrap_or_default(), below);
    let failed = pods.iter().filter(|p| is_failed(job, p) && is_tracked(p, settled));
    let failed: Vec<(i64, &Arc<Pod>)> = failed.filter_map(|p| Some((index_of(job, p)?, p))).collect();
    for (index, pod) in &failed {
        let verdict = of_failure(job, pod);
        let over = verdict != Failure::Ignore && failures_before(pod) >= limit;
        if over || verdict == Failure::FailIndex {
            c.failed_indexes.0.insert(*index);
        }
    }
    let replaced: HashSet<i64> = c.active.iter().filter_map(|p| index_of(job, p)).collect();
    for (index, pod) in failed {
        let over = c.failed_indexes.0.contains(&index) || c.succeeded_indexes.0.contains(&index);
        if over || replaced.contains(&index) {
            continue;
        }
        let last = c.to_replace.entry(index).or_insert_with(|| pod.clone());
        if failures_before(last) < failures_before(pod) {
            *last = pod.clone();
        }
    }
}
