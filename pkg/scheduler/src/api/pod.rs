//! A pod as the scheduler sees it.
//!
//! Invariant: what only matters until a pod has a node is kept only until then ([`Pending`]).

use std::sync::Arc;

use kedge_base::Alike;
use kedge_client::Keyed;
use kedge_meta::labels::{Operator, Selector};
use kedge_meta::{ObjectMeta, ObjectReference, StringMap, exact};
use serde::Deserialize;
use serde_json::Value;

use super::amount::{ResourceList, Resources};
use super::nodeselector::{NodeSelector, PreferredTerm};
use super::podaffinity::{PodAffinity, RawAffinityTerms, selector, with_own_labels};
use super::requests::{Parts, RawContainer, RawContainerStatus, RawRequirements};
use super::taints::Toleration;

/// A pod, bound or not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawPod")]
pub struct Pod {
    pub metadata: ObjectMeta,
    /// Empty until it is bound.
    pub node_name: String,
    pub scheduler_name: String,
    pub priority: i32,
    /// Succeeded or failed: it occupies nothing.
    pub finished: bool,
    pub requests: Resources,
    /// The requests as scoring sees them, with defaults for containers that ask for nothing.
    pub scored_requests: Resources,
    pub host_ports: Vec<HostPort>,
    pub affinity: Option<Arc<PodAffinity>>,
    /// Claims used by this pod's volumes.
    pub volumes: Vec<PodVolume>,
    /// Being deleted because the scheduler preempted it.
    pub preempted: bool,
    pub start_time: Option<String>,
    pub nominated_node: String,
    /// Present while it has no node.
    pub pending: Option<Arc<Pending>>,
    /// The condition `PodScheduled` as it stands, while it has no node.
    pub condition: Option<Box<Condition>>,
}

/// Pods of one template wait with the same wishes.
static PENDING: Alike<Pending> = Alike::new();

/// The part of a pod that scheduling it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    pub node_selector: StringMap,
    pub required_nodes: Option<NodeSelector>,
    pub preferred_nodes: Vec<PreferredTerm>,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<SpreadConstraint>,
    pub images: Vec<String>,
    pub gates: Vec<String>,
    pub never_preempts: bool,
}

/// A condition of the pod's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// A port of the host; the address is empty for all addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: u16,
}

/// A volume backed by a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    pub claim: String,
    /// The claim is made from the pod's own template and must be owned by it.
    pub ephemeral: bool,
}

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: String,
    /// `DoNotSchedule`, or else `ScheduleAnyway`.
    pub hard: bool,
    pub selector: Selector,
    pub min_domains: usize,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip.is_empty() || other.ip.is_empty() || self.ip == other.ip)
    }
}

impl Pod {
    /// For events about it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            ..ObjectReference::default()
        }
    }

    /// What tells it from all other pods, also from one of the same name.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }
}

impl Keyed for Pod {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPod {
    metadata: ObjectMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: String,
    scheduler_name: String,
    priority: Option<i32>,
    preemption_policy: String,
    node_selector: StringMap,
    affinity: Option<RawAffinity>,
    #[serde(deserialize_with = "exact")]
    tolerations: Vec<Toleration>,
    topology_spread_constraints: Vec<RawSpread>,
    scheduling_gates: Vec<RawGate>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    overhead: ResourceList,
    resources: RawRequirements,
    volumes: Vec<RawVolume>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: String,
    conditions: Vec<Condition>,
    nominated_node_name: String,
    start_time: Option<String>,
    container_statuses: Vec<RawContainerStatus>,
    init_container_statuses: Vec<RawContainerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAffinity {
    node_affinity: RawNodeAffinity,
    pod_affinity: RawAffinityTerms,
    pod_anti_affinity: RawAffinityTerms,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    preferred_during_scheduling_ignored_during_execution: Vec<PreferredTerm>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawGate {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpread {
    max_skew: i64,
    topology_key: String,
    when_unsatisfiable: String,
    label_selector: Value,
    match_label_keys: Vec<String>,
    min_domains: Option<usize>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaimSource>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSource {
    claim_name: String,
}

impl From<RawPod> for Pod {
    fn from(raw: RawPod) -> Self {
        let RawPod { mut metadata, mut spec, status } = raw;
        metadata.annotations.clear();
        metadata.finalizers = Vec::new();
        metadata.generate_name = String::new();
        let has = |kind: &str, reason: &str| {
            status.conditions.iter().any(|c| c.kind == kind && c.status == "True" && c.reason == reason)
        };
        let preempted = metadata.is_deleting() && has("DisruptionTarget", "PreemptionByScheduler");
        let statuses: Vec<_> = status.container_statuses.into_iter().chain(status.init_container_statuses).collect();
        let parts = Parts {
            containers: &spec.containers,
            init_containers: &spec.init_containers,
            statuses: &statuses,
            overhead: &spec.overhead,
            pod_level: spec.resources.requests.as_ref(),
            resize_infeasible: has("PodResizePending", "Infeasible"),
        };
        let (requests, scored_requests) = parts.total();
        let affinity = spec.affinity.take().unwrap_or_default();
        let terms = (affinity.pod_affinity, affinity.pod_anti_affinity);
        let pod_affinity = PodAffinity::parse(terms.0, terms.1, &metadata.namespace, &metadata.labels);
        let waits = spec.node_name.is_empty();
        let pending = waits.then(|| PENDING.share(pending(&mut spec, affinity.node_affinity, &metadata.labels)));
        let condition = status.conditions.into_iter().find(|c| waits && c.kind == "PodScheduled").map(Box::new);
        Self {
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            priority: spec.priority.unwrap_or_default(),
            finished: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            requests,
            scored_requests,
            host_ports: spec.containers.iter().chain(&spec.init_containers).flat_map(host_ports).collect(),
            affinity: pod_affinity.map(Arc::new),
            volumes: spec.volumes.into_iter().filter_map(|v| volume(v, &metadata.name)).collect(),
            preempted,
            start_time: status.start_time,
            nominated_node: status.nominated_node_name,
            pending,
            condition,
            metadata,
        }
    }
}

fn pending(spec: &mut RawSpec, nodes: RawNodeAffinity, labels: &StringMap) -> Pending {
    Pending {
        node_selector: std::mem::take(&mut spec.node_selector),
        required_nodes: nodes.required_during_scheduling_ignored_during_execution,
        preferred_nodes: nodes.preferred_during_scheduling_ignored_during_execution,
        tolerations: std::mem::take(&mut spec.tolerations),
        spread: spec.topology_spread_constraints.drain(..).map(|raw| spread(raw, labels)).collect(),
        images: spec.init_containers.iter().chain(&spec.containers).map(|c| normalized_image(&c.image)).collect(),
        gates: spec.scheduling_gates.drain(..).map(|g| g.name).collect(),
        never_preempts: spec.preemption_policy == "Never",
    }
}

fn host_ports(container: &RawContainer) -> impl Iterator<Item = HostPort> + '_ {
    // Ports of init containers are free again when they have ended; sidecars keep theirs.
    container.ports.iter().filter(|p| p.host_port > 0).map(|p| HostPort {
        ip: if p.host_ip == "0.0.0.0" { String::new() } else { p.host_ip.clone() },
        protocol: if p.protocol.is_empty() { "TCP".into() } else { p.protocol.clone() },
        port: p.host_port,
    })
}

fn volume(raw: RawVolume, pod: &str) -> Option<PodVolume> {
    match (raw.persistent_volume_claim, raw.ephemeral) {
        (Some(source), _) => Some(PodVolume { claim: source.claim_name, ephemeral: false }),
        (None, Some(_)) => Some(PodVolume { claim: format!("{pod}-{}", raw.name), ephemeral: true }),
        (None, None) => None,
    }
}

fn spread(raw: RawSpread, labels: &StringMap) -> SpreadConstraint {
    SpreadConstraint {
        max_skew: raw.max_skew,
        topology_key: raw.topology_key,
        hard: raw.when_unsatisfiable == "DoNotSchedule",
        selector: with_own_labels(selector(&raw.label_selector), &raw.match_label_keys, Operator::In, labels),
        min_domains: raw.min_domains.unwrap_or(1),
        honor_affinity: raw.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: raw.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// An image name with the tag it has when none is written.
fn normalized_image(name: &str) -> String {
    let tagged = name.rfind(':').is_some_and(|colon| name.rfind('/').is_none_or(|slash| colon > slash));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}
