//! Which pod of a StatefulSet comes, goes or changes next, and the status.
//!
//! Invariant: with ordered management, a pod is touched only when all before it (or, going down, after it) are as they
//! should be.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::objects::{Pod, StatefulSet, StatefulSetStatus};

/// The label of pods that names their revision.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// The ordinal of a pod by its name, if it is one of the set's names.
pub fn ordinal(set: &StatefulSet, name: &str) -> Option<i64> {
    let digits = name.strip_prefix(&set.metadata.name)?.strip_prefix('-')?;
    let number = digits.parse().ok().filter(|n| *n >= 0)?;
    // `web-01` is not the name of ordinal 1.
    (i64::to_string(&number) == digits).then_some(number)
}

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Failed,
    Succeeded,
    ScaleDown,
    Update,
}

/// One thing to do.
#[derive(Debug)]
pub enum Step {
    /// Of the current revision, or else of the one that is being rolled out.
    Create {
        ordinal: i64,
        current: bool,
    },
    Delete(Arc<Pod>, Why),
    /// Its labels, or claims it has lost, are to be put right.
    Repair(Arc<Pod>),
}

/// Everything that is decided by.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    /// Names of revisions.
    pub current: &'a str,
    pub update: &'a str,
    pub now: Timestamp,
}

fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.get(REVISION_LABEL).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.phase == "Running" && pod.is_ready()
}

fn is_healthy(pod: &Pod) -> bool {
    is_ready(pod) && !pod.metadata.is_deleting()
}

impl View<'_> {
    fn range(&self) -> std::ops::Range<i64> {
        let start = self.set.spec.ordinals.start;
        start..start + self.set.spec.replicas
    }

    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy != "Parallel"
    }

    fn is_rolling(&self) -> bool {
        self.set.spec.update_strategy.kind != "OnDelete"
    }

    fn partition(&self) -> Option<i64> {
        self.set.spec.update_strategy.rolling_update.as_ref().map(|r| r.partition.unwrap_or_default())
    }

    fn pod(&self, wanted: i64) -> Option<&Arc<Pod>> {
        self.pods.iter().find(|p| ordinal(self.set, &p.metadata.name) == Some(wanted))
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_ready(pod) && pod.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    /// Whether a missing pod is made of the current revision: those that the update has not come to yet are.
    fn of_current(&self, ordinal: i64) -> bool {
        let below = self.partition().unwrap_or(self.set.status.current_replicas);
        self.is_rolling() && ordinal < self.range().start + below
    }

    /// Pods that are beyond the wanted ones, highest ordinal first.
    fn condemned(&self) -> Vec<&Arc<Pod>> {
        let range = self.range();
        let of = |p| Some((ordinal(self.set, &Pod::name(p))?, p));
        let mut out: Vec<_> = self.pods.iter().filter_map(of).filter(|(n, _)| !range.contains(n)).collect();
        out.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        out.into_iter().map(|(_, p)| p).collect()
    }

    /// What to do now. `needs_repair` tells of a pod that is not as the set wants it, `is_held_up` of one that cannot be made before what
    /// is left of an earlier one is gone.
    pub fn steps(&self, needs_repair: impl Fn(&Pod) -> bool, is_held_up: impl Fn(i64) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for n in self.range() {
            let Some(pod) = self.pod(n) else {
                if is_held_up(n) {
                    return steps;
                }
                steps.push(Step::Create { ordinal: n, current: self.of_current(n) });
                if self.is_ordered() {
                    return steps;
                }
                continue;
            };
            if pod.is_terminal() {
                if !pod.metadata.is_deleting() {
                    let why = if pod.status.phase == "Failed" { Why::Failed } else { Why::Succeeded };
                    steps.push(Step::Delete(pod.clone(), why));
                }
                if self.is_ordered() {
                    return steps;
                }
                continue;
            }
            if !pod.metadata.is_deleting() && needs_repair(pod) {
                steps.push(Step::Repair(pod.clone()));
            }
            if self.is_ordered() && (pod.metadata.is_deleting() || !self.is_available(pod)) {
                return steps;
            }
        }
        if self.scale_down(&mut steps) {
            return steps;
        }
        steps.extend(self.next_update());
        steps
    }

    /// Deletes what is beyond the wanted number; returns whether the rest must wait for that.
    fn scale_down(&self, steps: &mut Vec<Step>) -> bool {
        let first_unhealthy = self.first_unhealthy();
        for pod in self.condemned() {
            if self.is_ordered() {
                let blocker = first_unhealthy.as_ref().is_some_and(|f| f.metadata.uid == pod.metadata.uid);
                if !pod.metadata.is_deleting() && (self.is_available(pod) || blocker) {
                    steps.push(Step::Delete(pod.clone(), Why::ScaleDown));
                }
                return true;
            }
            if !pod.metadata.is_deleting() {
                steps.push(Step::Delete(pod.clone(), Why::ScaleDown));
            }
        }
        false
    }

    fn first_unhealthy(&self) -> Option<Arc<Pod>> {
        let wanted = self.range().filter_map(|n| self.pod(n));
        let condemned = self.condemned();
        let mut all = wanted.chain(condemned.iter().rev().copied());
        all.find(|p| !is_healthy(p)).cloned()
    }

    /// From the highest ordinal down, one at a time.
    fn next_update(&self) -> Option<Step> {
        let lowest = self.range().start + self.partition().unwrap_or_default();
        if !self.is_rolling() {
            return None;
        }
        for n in self.range().rev().filter(|n| *n >= lowest) {
            let pod = self.pod(n)?;
            if revision(pod) != self.update && !pod.metadata.is_deleting() {
                return Some(Step::Delete(pod.clone(), Why::Update));
            }
            if !is_healthy(pod) {
                return None;
            }
        }
        None
    }

    /// When the next ready pod becomes available.
    pub fn next_availability(&self) -> Option<Duration> {
        let waits = self.pods.iter().filter_map(|p| p.available_in(self.set.spec.min_ready_seconds, self.now));
        waits.filter(|w| !w.is_zero()).min()
    }

    /// The status with the pods as they are.
    pub fn status(&self) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            i64::try_from(self.pods.iter().filter(|p| test(p)).count()).unwrap_or(i64::MAX)
        };
        let of = |name: &str| count(&|p| !p.metadata.is_deleting() && revision(p) == name);
        let mut s = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas: count(&|_| true),
            ready_replicas: count(&is_ready),
            available_replicas: count(&|p| self.is_available(p)),
            current_replicas: of(self.current),
            updated_replicas: of(self.update),
            current_revision: self.current.to_owned(),
            update_revision: self.update.to_owned(),
            collision_count: self.set.status.collision_count,
        };
        let all = self.set.spec.replicas;
        if self.is_rolling() && (s.updated_replicas, s.ready_replicas, s.replicas) == (all, all, all) {
            s.current_replicas = s.updated_replicas;
            s.current_revision.clone_from(&s.update_revision);
        }
        s
    }
}

impl Pod {
    fn name(pod: &Arc<Self>) -> String {
        pod.metadata.name.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn set(spec: Value) -> StatefulSet {
        let mut value = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}});
        value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn pod(n: i64, revision: &str, phase: &str, ready: bool) -> Arc<Pod> {
        let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("web-{n}"), "uid": n.to_string(), "labels": {REVISION_LABEL: revision}},
                "status": {"phase": phase, "conditions": ready},
            }))
            .unwrap(),
        )
    }

    fn run(n: i64, revision: &str) -> Arc<Pod> {
        pod(n, revision, "Running", true)
    }

    fn steps(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
        let view = View { set, pods, current: "a", update: "b", now: Timestamp::UNIX_EPOCH };
        let text = |s: Step| match s {
            Step::Create { ordinal, current } => format!("create {ordinal} {}", if current { "a" } else { "b" }),
            Step::Delete(p, why) => format!("delete {} {why:?}", p.metadata.name),
            Step::Repair(p) => format!("repair {}", p.metadata.name),
        };
        view.steps(|_| false, |_| false).into_iter().map(text).collect()
    }

    #[test]
    fn names_have_their_ordinal() {
        let set = set(json!({}));
        assert_eq!(ordinal(&set, "web-10"), Some(10));
        assert_eq!(ordinal(&set, "web-01"), None);
        assert_eq!(ordinal(&set, "web-x"), None);
        assert_eq!(ordinal(&set, "other-1"), None);
    }

    #[test]
    fn pods_come_one_after_the_other() {
        let ordered = set(json!({}));
        assert_eq!(steps(&ordered, &[]), ["create 0 b"]);
        assert_eq!(steps(&ordered, &[pod(0, "b", "Pending", false)]), [""; 0]);
        assert_eq!(steps(&ordered, &[run(0, "b")]), ["create 1 b"]);
        let parallel = set(json!({"podManagementPolicy": "Parallel"}));
        assert_eq!(steps(&parallel, &[]), ["create 0 b", "create 1 b", "create 2 b"]);
    }

    #[test]
    fn pods_go_from_the_highest_ordinal_down() {
        let one = set(json!({"replicas": 1}));
        let pods = [run(0, "b"), run(1, "b"), run(2, "b")];
        assert_eq!(steps(&one, &pods), ["delete web-2 ScaleDown"]);
        let pods = [run(0, "b"), pod(1, "b", "Running", false), run(2, "b")];
        assert_eq!(steps(&one, &pods), ["delete web-2 ScaleDown"]);
        let pods = [run(0, "b"), run(1, "b"), pod(2, "b", "Running", false)];
        assert_eq!(steps(&one, &pods), ["delete web-2 ScaleDown"], "the unhealthy one itself may go");
    }

    #[test]
    fn updates_go_down_to_the_partition() {
        let rolling = set(json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}}));
        let pods = [run(0, "a"), run(1, "a"), run(2, "a")];
        assert_eq!(steps(&rolling, &pods), ["delete web-2 Update"]);
        assert_eq!(steps(&rolling, &[run(0, "a"), run(1, "a")]), ["create 2 b"]);
        let pods = [run(0, "a"), run(1, "b"), run(2, "b")];
        assert_eq!(steps(&rolling, &pods), [""; 0]);
        assert_eq!(
            steps(&rolling, &[run(1, "b"), run(2, "b")]),
            ["create 0 a"],
            "below the partition the old one stays"
        );
        let on_delete = set(json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(steps(&on_delete, &[run(0, "a"), run(1, "a"), run(2, "a")]), [""; 0]);
    }

    #[test]
    fn failed_pods_are_made_again() {
        assert_eq!(steps(&set(json!({})), &[pod(0, "b", "Failed", false)]), ["delete web-0 Failed"]);
    }

    #[test]
    fn an_update_is_complete_when_all_are_ready() {
        let set = set(json!({}));
        let pods = [run(0, "b"), run(1, "b"), run(2, "b")];
        let view = View { set: &set, pods: &pods, current: "a", update: "b", now: Timestamp::UNIX_EPOCH };
        let status = view.status();
        assert_eq!((status.current_revision.as_str(), status.current_replicas, status.available_replicas), ("b", 3, 3));
        let view = View { pods: &pods[..2], ..view };
        assert_eq!((view.status().current_revision.as_str(), view.status().updated_replicas), ("a", 2));
    }
}
