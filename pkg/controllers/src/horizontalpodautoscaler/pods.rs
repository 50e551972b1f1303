//! Which pods count for a metric, and what they request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_meta::quantity::Quantity;

use super::calculator::{PodMetric, PodMetrics, Workload};
use crate::objects::{Container, Pod, condition, parse_time};

const CPU: &str = "cpu";

/// Pods by what is known of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// How many count in full.
    pub ready: usize,
    pub unready: BTreeSet<String>,
    pub missing: BTreeSet<String>,
    pub ignored: BTreeSet<String>,
}

/// Sorts pods by what is known of them.
pub fn group(workload: &Workload<'_>, metrics: &PodMetrics, resource: &str) -> Groups {
    let mut groups = Groups::default();
    for pod in workload.pods {
        let name = || pod.metadata.name.clone();
        if pod.metadata.is_deleting() || pod.status.phase == "Failed" {
            groups.ignored.insert(name());
        } else if pod.status.phase == "Pending" {
            groups.unready.insert(name());
        } else if let Some(metric) = metrics.get(&pod.metadata.name) {
            if resource == CPU && is_unready(workload, pod, metric) {
                groups.unready.insert(name());
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name());
        }
    }
    groups
}

/// Whether what a pod uses of the CPU says nothing yet.
fn is_unready(workload: &Workload<'_>, pod: &Pod, metric: &PodMetric) -> bool {
    let (Some(ready), Some(started)) =
        (condition(&pod.status.conditions, "Ready"), parse_time(pod.status.start_time.as_ref()))
    else {
        return true;
    };
    let since = parse_time(ready.last_transition_time.as_ref()).unwrap_or(Timestamp::UNIX_EPOCH);
    let after = |time: Timestamp, wait: Duration| time.checked_add(wait).unwrap_or(Timestamp::MAX);
    let unready = ready.status == "False";
    if after(started, workload.cpu_initialization) > workload.now {
        // Not before it is ready, and for a whole window was.
        return unready || metric.timestamp < after(since, metric.window);
    }
    // One that has never been ready.
    unready && after(started, workload.initial_readiness) > since
}

/// What the pods request of a resource, in thousandths. An empty `container` is all of them.
///
/// # Errors
/// When one requests nothing.
pub fn requests(pods: &[Arc<Pod>], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let request = |pod: &Arc<Pod>| {
        let whole = pod.spec.resources.as_ref().is_some_and(|r| r.requests.keys().any(is_of_pods));
        let amount = if whole && container.is_empty() {
            of_pod(pod, resource)
                .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {}", pod.metadata.name))
        } else {
            of_containers(pod, container, resource)
        };
        Ok((pod.metadata.name.clone(), amount?))
    };
    pods.iter().map(request).collect()
}

/// Whether a pod as a whole can have it.
fn is_of_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

fn amount(text: &str) -> i64 {
    Quantity::parse(text).map(|q| q.milli_value()).unwrap_or_default()
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == "Always"
}

/// Of the pod as a whole, or else what its containers need, and what running it costs.
fn of_pod(pod: &Pod, resource: &str) -> Option<i64> {
    let whole = pod.spec.resources.as_ref().and_then(|r| r.requests.get(resource));
    let own = match whole.filter(|_| is_of_pods(resource)) {
        Some(text) => Some(amount(text)),
        None => of_all_containers(pod, resource),
    };
    let overhead = pod.spec.overhead.get(resource).map(amount);
    own.map_or(overhead, |own| Some(own.saturating_add(overhead.unwrap_or_default())))
}

/// What the containers need at once: those that run together, or one that runs before them beside the sidecars that have started.
fn of_all_containers(pod: &Pod, resource: &str) -> Option<i64> {
    let of = |c: &Container| c.resources.requests.get(resource).map(amount);
    let sum = |into: Option<i64>, more: Option<i64>| {
        more.map_or(into, |more| Some(into.unwrap_or_default().saturating_add(more)))
    };
    let (mut sidecars, mut before) = (None, None);
    for container in pod.spec.init_containers.iter() {
        if is_sidecar(container) {
            sidecars = sum(sidecars, of(container));
            before = before.max(sidecars);
        } else if let Some(own) = of(container) {
            before = before.max(sum(sidecars, Some(own)));
        }
    }
    pod.spec.containers.iter().fold(sidecars, |all, container| sum(all, of(container))).max(before)
}

fn of_containers(pod: &Pod, name: &str, resource: &str) -> Result<i64, String> {
    let mut all = 0_i64;
    let lasting = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
    for container in pod.spec.containers.iter().chain(lasting) {
        if !name.is_empty() && container.name != name {
            continue;
        }
        let request = container.resources.requests.get(resource).ok_or_else(|| {
            format!("missing request for {resource} in container {} of Pod {}", container.name, pod.metadata.name)
        })?;
        all = all.saturating_add(amount(request));
        if container.name == name {
            return Ok(all);
        }
    }
    if name.is_empty() { Ok(all) } else { Err(format!("container {name} not found in Pod {}", pod.metadata.name)) }
}
