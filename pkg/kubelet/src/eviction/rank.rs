//! The order in which pods go: those that use more than they asked for, of them the least important, of them the largest. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::signals::{Condition, Signal};
use crate::pod::{PodExt, amount, pod_limits, pod_requests, request_of};

/// Pods of this priority and above are the cluster's own.
const CRITICAL: i32 = 2_000_000_000;

/// Whether a pod stays, however short everything is.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    pod.is_static() || priority(pod) >= CRITICAL
}

fn priority(pod: &Pod) -> i32 {
    PodExt::spec(pod).priority.unwrap_or_default()
}

/// What a pod uses.
pub(super) struct Used<'a> {
    /// Its part of `/stats/summary`, if it is there.
    pub(super) stats: Option<&'a Value>,
    /// It has more files than were counted: nobody knows how many.
    pub(super) uncounted: bool,
}

impl Used<'_> {
    fn find(&self, path: &[&str]) -> Option<i64> {
        path.iter().try_fold(self.stats?, |at, name| at.get(name))?.as_i64()
    }

    fn number(&self, path: &[&str]) -> i64 {
        self.find(path).unwrap_or_default()
    }

    /// Of all containers together.
    fn sum(&self, part: &str, field: &str) -> i64 {
        let containers = self.stats.and_then(|stats| stats.get("containers")).and_then(Value::as_array);
        let numbers = containers.into_iter().flatten().filter_map(|one| one.get(part)?.get(field)?.as_i64());
        numbers.fold(0, i64::saturating_add)
    }

    fn of(&self, signal: Signal, own_images: bool) -> i64 {
        match signal.resource() {
            // Where pods have no groups, there is what their containers use.
            "memory" => {
                let whole = self.find(&["memory", "workingSetBytes"]);
                whole.unwrap_or_else(|| self.sum("memory", "workingSetBytes"))
            }
            "pids" => self.number(&["process_stats", "process_count"]),
            "inodes" => self.on_disk(signal, own_images, "inodesUsed"),
            _ => self.on_disk(signal, own_images, "usedBytes"),
        }
    }

    /// What it has on the disk that is short: with images on a disk of their own, that has what containers write beside their volumes
    /// and logs, and the node's has the rest.
    fn on_disk(&self, signal: Signal, own_images: bool, field: &str) -> i64 {
        let layers = self.sum("rootfs", field);
        let all = self.number(&["ephemeral-storage", field]);
        match (own_images, signal.is_of_images()) {
            (true, true) => layers,
            (true, false) => all.saturating_sub(layers).max(0),
            (false, _) => all,
        }
    }

    /// Whether it has so much on the disk that is short that nobody could count it.
    fn is_uncounted(&self, signal: Signal, own_images: bool) -> bool {
        self.uncounted && needs_files(signal, own_images)
    }
}

/// Whether files must be counted to tell who uses most: the runtime knows what containers write.
pub(super) fn needs_files(signal: Signal, own_images: bool) -> bool {
    signal.condition() == Condition::Disk && !(own_images && signal.is_of_images())
}

fn requested(pod: &Pod, signal: Signal) -> i64 {
    match signal.resource() {
        name @ ("memory" | "ephemeral-storage") => pod_requests(pod).get(name).map_or(0, |amount| amount.value()),
        _ => 0,
    }
}

/// The indices of the pods, the first to go first; `own_images` says whether images are on a disk of their own.
pub(super) fn rank(pods: &[(Pod, Used<'_>)], signal: Signal, own_images: bool) -> Vec<usize> {
    let key = |index: &usize| {
        let (pod, used) = &pods[*index];
        // Of one about which nothing is known the worst is thought.
        let unknown = used.stats.is_none();
        if signal == Signal::PidAvailable {
            return (true, true, priority(pod), Reverse(used.of(signal, own_images)));
        }
        let over = match used.is_uncounted(signal, own_images) {
            true => i64::MAX,
            false => used.of(signal, own_images).saturating_sub(requested(pod, signal)),
        };
        (!unknown, over <= 0, priority(pod), Reverse(over))
    };
    let mut order: Vec<usize> = (0..pods.len()).collect();
    order.sort_by_key(key);
    order
}

/// A container that writes more than it may, with upstream's message.
pub(super) fn container_over_limit(pod: &Pod, used: &Used<'_>, own_images: bool) -> Option<String> {
    let containers = used.stats?.get("containers")?.as_array()?;
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

/// A pod that has more on disk than its containers may together, with upstream's message.
pub(super) fn pod_over_limit(pod: &Pod, used: &Used<'_>) -> Option<String> {
    let limits = pod_limits(pod);
    let limit = limits.get("ephemeral-storage")?;
    let over = used.find(&["ephemeral-storage", "usedBytes"])? > limit.value();
    over.then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

/// Containers that use more than they asked for: (name, used, requested).
pub(super) fn offenders(pod: &Pod, used: &Used<'_>, resource: &str) -> Vec<(String, i64, String)> {
    let spec = PodExt::spec(pod);
    let all = used.stats.and_then(|stats| stats.get("containers")).and_then(Value::as_array);
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

    fn known(stats: &Value) -> Used<'_> {
        Used { stats: Some(stats), uncounted: false }
    }

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
        let mut all: Vec<(Pod, Used<'_>)> = pods.into_iter().zip(stats.iter().map(known)).collect();
        assert_eq!(rank(&all, Signal::MemoryAvailable, false), [1, 3, 2, 0, 4]);
        all.push((of(100, "1"), Used { stats: None, uncounted: false }));
        assert_eq!(rank(&all, Signal::MemoryAvailable, false)[0], 5, "nobody knows what it uses");
        let stats = [json!({"process_stats": {"process_count": 5}}), json!({"process_stats": {"process_count": 9}})];
        let all: Vec<(Pod, Used<'_>)> = stats.iter().map(|s| (of(0, "1"), known(s))).collect();
        assert_eq!(rank(&all, Signal::PidAvailable, false), [1, 0]);
    }

    #[test]
    fn without_groups_of_pods_the_containers_are_added_up() {
        let container = |bytes: i64| json!({"memory": {"workingSetBytes": bytes}});
        let stats = [
            json!({"containers": [container(300)]}),
            json!({"containers": [container(200), container(200)]}),
            json!({"memory": {"workingSetBytes": 350}, "containers": [container(1)]}),
        ];
        let all: Vec<(Pod, Used<'_>)> = stats.iter().map(|s| (of(0, "1"), known(s))).collect();
        assert_eq!(rank(&all, Signal::MemoryAvailable, false), [1, 2, 0]);
    }

    #[test]
    fn of_a_disk_those_go_that_have_something_on_it() {
        let uses = |layer: i64, rest: i64| {
            let all = json!({"usedBytes": layer + rest, "inodesUsed": rest});
            json!({"containers": [{"name": "c", "rootfs": {"usedBytes": layer, "inodesUsed": 0}}], "ephemeral-storage": all})
        };
        let stats = [uses(900, 10), uses(10, 500), uses(20, 400)];
        let mut all: Vec<(Pod, Used<'_>)> = stats.iter().map(|s| (of(0, "1"), known(s))).collect();
        assert_eq!(rank(&all, Signal::NodefsAvailable, false), [0, 1, 2]);
        assert_eq!(rank(&all, Signal::ImagefsAvailable, false), [0, 1, 2], "it is one disk");
        assert_eq!(rank(&all, Signal::NodefsAvailable, true), [1, 2, 0]);
        assert_eq!(rank(&all, Signal::ImagefsAvailable, true), [0, 2, 1]);
        assert_eq!(rank(&all, Signal::NodefsInodesFree, true), [1, 2, 0]);
        // Whose files could not all be counted has many, but is no less important for it.
        all[2].1.uncounted = true;
        assert_eq!(rank(&all, Signal::NodefsAvailable, false), [2, 0, 1]);
        assert_eq!(rank(&all, Signal::ImagefsAvailable, true), [0, 2, 1], "the runtime counts what is there");
        all[2].0 = of(7, "1");
        assert_eq!(rank(&all, Signal::NodefsAvailable, false), [0, 1, 2]);
    }

    #[test]
    fn a_pod_over_the_limits_of_its_containers_is_told() {
        let limited =
            pod(json!({"containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "1Ki"}}}]}));
        let told = |stats: Value| pod_over_limit(&limited, &known(&stats));
        assert_eq!(
            told(json!({"ephemeral-storage": {"usedBytes": 1025}})).as_deref(),
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. ")
        );
        assert_eq!(told(json!({"ephemeral-storage": {"usedBytes": 1024}})), None);
        assert_eq!(told(json!({})), None, "it was not measured");
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
        let told = container_over_limit(&limited, &known(&stats), false);
        assert_eq!(told.as_deref(), Some("Container c exceeded its local ephemeral storage limit \"1Ki\". "));
        assert_eq!(container_over_limit(&limited, &known(&stats), true), None, "the layer is on another disk");
    }
}
