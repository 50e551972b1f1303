//! A whole pod status: containers, probes' verdicts, phase, conditions and addresses.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};

use super::convert::Source;
use super::phase::phase;
use super::{StartErrors, conditions, find_condition};
use crate::pod::{PodExt, ephemeral_as_container, is_sidecar, pod_requests, qos_class, resource_list};
use crate::runtime::PodRuntime;

/// What the probes say about a running container.
pub(crate) trait ReadinessView {
    /// Whether it has started, as far as a startup probe tells; `None` when it has none.
    fn started(&self, pod_uid: &str, container: &str, container_id: &str) -> Option<bool>;
    /// Whether it is ready; `None` when it has no readiness probe.
    fn ready(&self, pod_uid: &str, container: &str, container_id: &str) -> Option<bool>;
}

/// The node's addresses, the first one its main address.
pub(crate) type HostAddresses = [IpAddr];

/// What a status is made of.
pub(crate) struct Subject<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) runtime: &'a PodRuntime,
    /// The status written last, which may be newer than the one in `pod`.
    pub(crate) old: &'a PodStatus,
    pub(crate) start_errors: &'a StartErrors,
    pub(crate) probes: &'a dyn ReadinessView,
    pub(crate) host: &'a HostAddresses,
    /// Whether nothing of the pod runs any more nor will again.
    pub(crate) terminal: bool,
}

/// Computes the status. Reason and message stay as they were while the phase does.
pub(crate) fn generate(subject: &Subject<'_>) -> PodStatus {
    let Subject { pod, runtime, old, .. } = subject;
    let mut status = container_statuses(subject);
    let all: Vec<ContainerStatus> = both(&status);
    let initialized =
        PodExt::spec(*pod).containers.iter().any(|c| runtime.active_containers().any(|run| run.name == c.name));
    update_from_probes(subject, &mut status);
    let mut now = phase(pod, &all, subject.terminal, initialized).to_string();
    // What has ended never lives again.
    for known in [old.phase.as_deref(), pod.status().phase.as_deref()].into_iter().flatten() {
        if matches!(known, "Succeeded" | "Failed") {
            now = known.to_string();
        }
    }
    if old.phase.as_deref() == Some(now.as_str()) {
        status.reason = old.reason.clone().or_else(|| pod.status().reason.clone());
        status.message = old.message.clone().or_else(|| pod.status().message.clone());
    }
    status.qos_class = Some(qos_class(pod).to_string());
    status.conditions = Some(all_conditions(subject, &both(&status), &now));
    status.phase = Some(now);
    addresses(subject, &mut status);
    status.observed_generation = pod.metadata.generation;
    status.start_time = old.start_time.clone().or_else(|| pod.status().start_time.clone());
    status.resource_claim_statuses = pod.status().resource_claim_statuses.clone();
    status.nominated_node_name = pod.status().nominated_node_name.clone();
    if PodExt::spec(*pod).resources.is_some() {
        status.resources.clone_from(&PodExt::spec(*pod).resources);
    }
    status.allocated_resources = Some(resource_list(&pod_requests(pod))).filter(|list| !list.is_empty());
    status
}

fn both(status: &PodStatus) -> Vec<ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).cloned().collect()
}

fn container_statuses(subject: &Subject<'_>) -> PodStatus {
    let Subject { pod, runtime, old, start_errors, .. } = *subject;
    let source = Source { pod, runtime, start_errors };
    let old_of = |list: &Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
    let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(ephemeral_as_container).collect();
    let filled = |list: Vec<ContainerStatus>| Some(list).filter(|l| !l.is_empty());
    PodStatus {
        container_statuses: filled(source.statuses(
            &PodExt::spec(pod).containers,
            &old_of(&old.container_statuses),
            false,
        )),
        init_container_statuses: filled(source.statuses(
            pod.init_containers(),
            &old_of(&old.init_container_statuses),
            true,
        )),
        ephemeral_container_statuses: filled(source.statuses(
            &ephemeral,
            &old_of(&old.ephemeral_container_statuses),
            false,
        )),
        ..PodStatus::default()
    }
}

/// Fills in `started` and `ready`.
fn update_from_probes(subject: &Subject<'_>, status: &mut PodStatus) {
    for container in status.container_statuses.iter_mut().flatten() {
        set_probed(subject, container);
    }
    for container in status.init_container_statuses.iter_mut().flatten() {
        let spec = subject.pod.init_containers().iter().find(|c| c.name == container.name);
        if spec.is_some_and(is_sidecar) {
            set_probed(subject, container);
            continue;
        }
        container.started = Some(container.state.as_ref().is_some_and(|s| s.running.is_some()));
        let done = container.state.as_ref().and_then(|s| s.terminated.as_ref());
        container.ready = done.is_some_and(|t| t.exit_code == 0);
    }
    for container in status.ephemeral_container_statuses.iter_mut().flatten() {
        container.ready = false;
    }
}

fn set_probed(subject: &Subject<'_>, status: &mut ContainerStatus) {
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let id = status.container_id.clone().unwrap_or_default();
    let id = id.split_once("://").map_or(id.as_str(), |(_, id)| id);
    let uid = subject.pod.uid();
    let started = running && subject.probes.started(uid, &status.name, id).unwrap_or(true);
    status.started = Some(started);
    status.ready = started && subject.probes.ready(uid, &status.name, id).unwrap_or(true);
}

fn all_conditions(subject: &Subject<'_>, statuses: &[ContainerStatus], phase: &str) -> Vec<PodCondition> {
    let Subject { pod, runtime, old, .. } = subject;
    let others = pod.status().conditions.iter().flatten().filter(|c| !conditions::is_owned(&c.type_));
    let mut all: Vec<PodCondition> = others.cloned().collect();
    all.extend(find_condition(old, "DisruptionTarget").cloned());
    let ready = conditions::containers_ready(pod, statuses, phase);
    let was = find_condition(old, "Initialized").is_some_and(|c| c.status == "True");
    let own = [
        conditions::ready_to_start(pod, runtime),
        conditions::initialized(pod, statuses, phase, was),
        conditions::ready(pod, &ready, &all),
        ready,
        conditions::condition(pod, "PodScheduled", true, "", ""),
    ];
    all.extend(own);
    all
}

/// One address of each family, the node's own family first.
fn sorted_ips(subject: &Subject<'_>) -> Vec<IpAddr> {
    let ips: Vec<IpAddr> = subject.runtime.ips().iter().filter_map(|ip| ip.parse().ok()).collect();
    let v4_first = subject.host.first().is_none_or(IpAddr::is_ipv4);
    let first = ips.iter().find(|ip| ip.is_ipv4() == v4_first);
    let second = ips.iter().find(|ip| ip.is_ipv4() != v4_first);
    first.into_iter().chain(second).copied().collect()
}

fn addresses(subject: &Subject<'_>, status: &mut PodStatus) {
    let mut ips = sorted_ips(subject);
    let host: Vec<IpAddr> = subject.host.iter().take(2).copied().collect();
    if subject.pod.host_network() && ips.is_empty() {
        ips.clone_from(&host);
    }
    // An address is kept after the end, for those who look up what the pod was.
    let as_pod_ip = |ip: &IpAddr| PodIP { ip: ip.to_string() };
    if !ips.is_empty() {
        status.pod_ip = Some(ips[0].to_string());
        status.pod_ips = Some(ips.iter().map(as_pod_ip).collect());
    }
    if let Some(first) = host.first() {
        status.host_ip = Some(first.to_string());
        status.host_ips = Some(host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
