//! Counting ended pods exactly once: first their uids go into the status, then their finalizers go, then the numbers grow.
//!
//! Invariant: whenever the process stops, what is in the status and on the pods is enough to go on without counting a pod
//! twice or not at all.

use std::collections::HashSet;
use std::sync::Arc;

use super::count::{Count, index_of, is_failed, is_tracked};
use super::policy::{Failure, of_failure};
use crate::objects::{Job, JobStatus, Pod};

/// Uids that the status may hold.
const MAX_UNCOUNTED: usize = 500;

/// Notes ended pods in `status`; returns those whose finalizers can go once it is written, and whether some were left for
/// another round. `ending` says how the Job is about to end: none, well or badly.
pub fn note(
    job: &Job,
    status: &mut JobStatus,
    pods: &[Arc<Pod>],
    count: &Count,
    settled: &HashSet<String>,
    ending: Option<bool>,
) -> (Vec<Arc<Pod>>, bool) {
    let mut release = Vec::new();
    let mut full = false;
    let mut noted_indexes = 0;
    for pod in pods.iter().filter(|p| is_tracked(p, settled)) {
        let failed = is_failed(job, pod);
        if !may_release(job, pod, count, failed, ending.is_some()) {
            continue;
        }
        let uncounted = &mut status.uncounted_terminated_pods;
        if uncounted.succeeded.len() + uncounted.failed.len() + noted_indexes >= MAX_UNCOUNTED {
            full = true;
            break;
        }
        let uid = &pod.metadata.uid;
        if pod.status.phase == "Succeeded" {
            if job.is_indexed() {
                noted_indexes += 1;
            } else if !uncounted.succeeded.contains(uid) {
                uncounted.succeeded.push(uid.clone());
            }
        } else if failed || ending == Some(false) {
            let usable = !job.is_indexed() || index_of(job, pod).is_some();
            let ignored = of_failure(job, pod) == Failure::Ignore;
            if usable && !ignored && !uncounted.failed.contains(uid) {
                uncounted.failed.push(uid.clone());
            }
        }
        release.push(pod.clone());
    }
    if job.is_indexed() {
        status.succeeded = count.succeeded_indexes.len();
        status.completed_indexes = count.succeeded_indexes.to_string();
        status.failed_indexes = job.spec.backoff_limit_per_index.map(|_| count.failed_indexes.to_string());
    }
    (release, full)
}

fn may_release(job: &Job, pod: &Pod, count: &Count, failed: bool, ending: bool) -> bool {
    if job.metadata.is_deleting() || ending || pod.status.phase == "Succeeded" {
        return true;
    }
    // Its replacement must learn from it how often the index has failed.
    let needed = |i: i64| count.to_replace.get(&i).is_some_and(|p| p.metadata.uid == pod.metadata.uid);
    failed && !index_of(job, pod).is_some_and(needed)
}

/// Moves noted pods whose finalizers are gone from the lists into the numbers. `tracked` are the uids of pods that still
/// have theirs.
pub fn settle(status: &mut JobStatus, tracked: &HashSet<String>) {
    let uncounted = &mut status.uncounted_terminated_pods;
    for (list, number) in
        [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)]
    {
        let before = list.len();
        list.retain(|uid| tracked.contains(uid));
        *number += i64::try_from(before - list.len()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::count::{FINALIZER, count};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_counted_once() {
        let job: Job = serde_json::from_value(json!({"spec": {"template": {}}})).unwrap();
        let pod = |uid: &str, phase: &str| -> Arc<Pod> {
            let metadata = json!({"name": uid, "uid": uid, "finalizers": [FINALIZER]});
            Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap())
        };
        let pods = [pod("s", "Succeeded"), pod("f", "Failed"), pod("r", "Running")];
        let none = HashSet::new();
        let mut status = job.status.clone();
        let (release, full) = note(&job, &mut status, &pods, &count(&job, &pods, &none), &none, None);
        assert_eq!((release.len(), full), (2, false));
        assert_eq!((status.succeeded, status.failed), (0, 0));
        settle(&mut status, &HashSet::from(["s".to_owned(), "r".to_owned()]));
        assert_eq!((status.succeeded, status.failed), (0, 1));
        assert_eq!(status.uncounted_terminated_pods.succeeded, ["s"]);
        // The cache still shows the pod with its finalizer, but its removal is known.
        let job = Job { status, ..job };
        let c = count(&job, &pods, &HashSet::from(["f".to_owned()]));
        assert_eq!((c.succeeded, c.failed), (1, 1));
    }
}
