//! Requests and limits as the kernel takes them: CPU shares, quota, memory, and the order in which memory is reclaimed
//! by killing.

use k8s_openapi::api::core::v1::{Container, Pod};
use kedge_cri::v1;

use crate::pod::{Amount, PodExt, is_sidecar, limit_of, pod_limits, pod_requests, qos_class, request_of};

const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// Pods at this priority or above are the node's own.
const NODE_CRITICAL: i32 = 2_000_001_000;

/// What the machine has and what of it pods may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) memory: i64,
    pub(crate) allocatable_cpu_millis: i64,
    pub(crate) allocatable_memory: i64,
    pub(crate) allocatable_ephemeral_storage: i64,
    /// Whether cgroups are version 2.
    pub(crate) unified: bool,
}

impl Machine {
    /// What pods may use of one resource.
    pub(crate) fn allocatable(&self, resource: &str) -> Option<Amount> {
        match resource {
            "cpu" => Some(Amount::from_millis(self.allocatable_cpu_millis)),
            "memory" => Some(Amount::from_bytes(self.allocatable_memory)),
            "ephemeral-storage" => Some(Amount::from_bytes(self.allocatable_ephemeral_storage)),
            _ => None,
        }
    }
}

/// CPU shares for so many thousandths of a CPU.
pub(crate) fn cpu_shares(millis: i64) -> i64 {
    (millis.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CPU time in microseconds per period of 100 ms; 0 for no limit.
pub(crate) fn cpu_quota(millis: i64) -> i64 {
    if millis <= 0 { 0 } else { (millis.saturating_mul(PERIOD) / 1000).max(MIN_QUOTA) }
}

/// The kernel's limits for one container.
pub(crate) fn container_resources(pod: &Pod, container: &Container, machine: &Machine) -> v1::LinuxContainerResources {
    let cpu_limit = limit_of(container, "cpu");
    let cpu_request = request_of(container, "cpu").or(cpu_limit);
    let quota = cpu_quota(cpu_limit.map_or(0, |q| q.milli_value()));
    let hugepages = container.resources.iter().flat_map(|r| r.limits.iter().flatten());
    let hugepage_limits = hugepages
        .filter_map(|(name, q)| {
            let page_size = name.strip_prefix("hugepages-")?.replace('i', "B");
            let limit = u64::try_from(crate::pod::amount(q).value()).ok()?;
            Some(v1::HugepageLimit { page_size, limit })
        })
        .collect();
    let mut resources = v1::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota,
        cpu_shares: cpu_shares(cpu_request.map_or(0, |q| q.milli_value())),
        memory_limit_in_bytes: limit_of(container, "memory").map_or(0, |q| q.value()),
        oom_score_adj: oom_score_adj(pod, container, machine.memory),
        hugepage_limits,
        ..Default::default()
    };
    if machine.unified {
        resources.unified.insert("memory.oom.group".into(), "1".into());
    }
    resources
}

/// The kernel's limits for a whole pod: what its containers may use together, or `overhead` alone.
pub(crate) fn pod_resources(pod: &Pod) -> v1::LinuxContainerResources {
    let (requests, limits) = (pod_requests(pod), pod_limits(pod));
    let cpu = requests.get("cpu").map_or(0, Amount::milli_value);
    let all_limited = |resource: &str| {
        let mut all = PodExt::spec(pod).containers.iter().chain(pod.init_containers());
        PodExt::spec(pod).resources.is_some() || all.all(|c| limit_of(c, resource).is_some())
    };
    let limit = |resource: &str| limits.get(resource).filter(|_| all_limited(resource));
    v1::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: cpu_quota(limit("cpu").map_or(0, Amount::milli_value)),
        cpu_shares: cpu_shares(cpu),
        memory_limit_in_bytes: limit("memory").map_or(0, Amount::value),
        ..Default::default()
    }
}

fn memory_share(request: i64, capacity: i64) -> i64 {
    if capacity <= 0 { 0 } else { request.saturating_mul(1000) / capacity }
}

fn oom_score_adj(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    let spec = PodExt::spec(pod);
    if spec.priority.unwrap_or_default() >= NODE_CRITICAL {
        return -997;
    }
    match qos_class(pod) {
        "Guaranteed" => return -997,
        "BestEffort" => return 1000,
        _ => {}
    }
    let request = |c: &Container| request_of(c, "memory").map_or(0, |q| q.value());
    let mut score = 1000 - memory_share(request(container), capacity);
    if is_sidecar(container) && pod.init_containers().iter().any(|c| c.name == container.name) {
        // A sidecar is not to die before the containers it serves.
        let least = spec.containers.iter().map(request).min().unwrap_or_default();
        score = score.min(1000 - memory_share(least, capacity));
    }
    // Behind all guaranteed pods and before all that asked for nothing.
    score.clamp(3, 999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::{Value, json};

    fn of(resources: Value) -> v1::LinuxContainerResources {
        let pod = pod(json!({"containers": [{"name": "a", "resources": resources}]}));
        let machine = Machine { memory: 1000 << 20, ..Machine::default() };
        container_resources(&pod, &PodExt::spec(&pod).containers[0], &machine)
    }

    #[test]
    fn shares_quota_memory_and_score() {
        let none = of(json!({}));
        assert_eq!((none.cpu_shares, none.cpu_quota, none.oom_score_adj), (2, 0, 1000));
        let limited = of(json!({"limits": {"cpu": "500m", "memory": "100Mi"}}));
        assert_eq!((limited.cpu_shares, limited.cpu_quota), (512, 50_000));
        assert_eq!((limited.memory_limit_in_bytes, limited.oom_score_adj), (100 << 20, -997));
        let burst = of(json!({"requests": {"memory": "100Mi"}}));
        assert_eq!(burst.oom_score_adj, 900);
        assert_eq!(of(json!({"requests": {"cpu": "1"}})).oom_score_adj, 999);
    }

    #[test]
    fn a_pod_is_limited_when_all_its_containers_are() {
        let limit = |c: &str| json!({"name": c, "resources": {"limits": {"memory": "1Mi"}}});
        let all = pod(json!({"containers": [limit("a"), limit("b")]}));
        assert_eq!(pod_resources(&all).memory_limit_in_bytes, 2 << 20);
        let some = pod(json!({"containers": [limit("a"), {"name": "b"}]}));
        assert_eq!(pod_resources(&some).memory_limit_in_bytes, 0);
    }
}
