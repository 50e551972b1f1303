//! The other objects that scheduling looks at: namespaces, services, workloads, volumes, disruption budgets.

use std::collections::BTreeMap;

use kedge_client::Keyed;
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectMeta, ObjectReference, StringMap};
use serde::Deserialize;
use serde_json::Value;

use super::amount::{ResourceList, bytes};
use super::nodeselector::{NodeSelector, Term};
use super::podaffinity::selector;

macro_rules! keyed {
    ($($t:ty),*) => { $(impl Keyed for $t {
        fn metadata(&self) -> &ObjectMeta { &self.metadata }
    })* };
}
keyed!(Namespace, Service, Workload, Claim, Volume, StorageClass, Budget);

/// A namespace: only its labels are read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: ObjectMeta,
}

/// A service: its selector.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawSelecting")]
pub struct Service {
    pub metadata: ObjectMeta,
    pub selector: StringMap,
}

/// A replication controller, replica set or stateful set: its selector.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawSelecting")]
pub struct Workload {
    pub metadata: ObjectMeta,
    pub selector: Selector,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSelecting {
    metadata: ObjectMeta,
    spec: RawSelectingSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSelectingSpec {
    selector: Value,
}

/// A plain map, as services and replication controllers have it; empty if it is none.
fn plain_map(value: &Value) -> StringMap {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

impl From<RawSelecting> for Service {
    fn from(raw: RawSelecting) -> Self {
        Self { selector: plain_map(&raw.spec.selector), metadata: raw.metadata }
    }
}

impl From<RawSelecting> for Workload {
    fn from(raw: RawSelecting) -> Self {
        let value = &raw.spec.selector;
        let structured = value.get("matchLabels").is_some_and(Value::is_object)
            || value.get("matchExpressions").is_some_and(Value::is_array);
        let selector = if structured { selector(value) } else { Selector::from_map(&plain_map(value)) };
        Self { metadata: raw.metadata, selector }
    }
}

/// A pod disruption budget.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawBudget")]
pub struct Budget {
    pub metadata: ObjectMeta,
    pub selector: Selector,
    pub allowed: i32,
    /// Pods whose eviction is already counted.
    pub disrupted: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawBudget {
    metadata: ObjectMeta,
    spec: RawSelectingSpec,
    status: RawBudgetStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawBudgetStatus {
    disruptions_allowed: i32,
    disrupted_pods: BTreeMap<String, serde::de::IgnoredAny>,
}

impl From<RawBudget> for Budget {
    fn from(raw: RawBudget) -> Self {
        Self {
            metadata: raw.metadata,
            selector: selector(&raw.spec.selector),
            allowed: raw.status.disruptions_allowed,
            disrupted: raw.status.disrupted_pods.into_keys().collect(),
        }
    }
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ClaimPhase {
    #[default]
    Pending,
    Bound,
    Lost,
}

/// A persistent volume claim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawClaim")]
pub struct Claim {
    pub metadata: ObjectMeta,
    pub phase: ClaimPhase,
    pub volume_name: String,
    pub storage_class: String,
    pub access_modes: Vec<String>,
    pub volume_mode: String,
    pub selector: Option<Selector>,
    /// Bytes.
    pub storage: i64,
}

/// Set by the volume controller when claim and volume are bound to each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Names the node a dynamically provisioned volume shall be reachable from.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

impl Claim {
    /// Bound in both directions.
    pub fn is_bound(&self) -> bool {
        !self.volume_name.is_empty() && self.metadata.annotations.contains_key(BIND_COMPLETED)
    }

    /// The node chosen for its volume.
    pub fn selected_node(&self) -> Option<&str> {
        self.metadata.annotations.get(SELECTED_NODE)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaim {
    metadata: ObjectMeta,
    spec: RawClaimSpec,
    status: RawClaimStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSpec {
    volume_name: String,
    storage_class_name: String,
    access_modes: Vec<String>,
    volume_mode: String,
    selector: Option<Value>,
    resources: RawClaimResources,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaimResources {
    requests: ResourceList,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaimStatus {
    phase: ClaimPhase,
}

impl From<RawClaim> for Claim {
    fn from(raw: RawClaim) -> Self {
        let RawClaim { mut metadata, spec, status } = raw;
        let old_class = metadata.annotations.remove("volume.beta.kubernetes.io/storage-class");
        metadata.annotations.retain(|k, _| k == BIND_COMPLETED || k == SELECTED_NODE);
        Self {
            metadata,
            phase: status.phase,
            volume_name: spec.volume_name,
            storage_class: old_class.unwrap_or(spec.storage_class_name),
            access_modes: spec.access_modes,
            volume_mode: spec.volume_mode,
            selector: spec.selector.as_ref().map(selector),
            storage: bytes(spec.resources.requests.get("storage")),
        }
    }
}

/// A persistent volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawVolume")]
pub struct Volume {
    pub metadata: ObjectMeta,
    pub required_nodes: Option<NodeSelector>,
    pub claim: Option<ObjectReference>,
    pub available: bool,
    pub storage_class: String,
    pub access_modes: Vec<String>,
    pub volume_mode: String,
    /// Bytes.
    pub storage: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolume {
    metadata: ObjectMeta,
    spec: RawVolumeSpec,
    status: RawVolumeStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolumeSpec {
    node_affinity: RawVolumeNodes,
    claim_ref: Option<ObjectReference>,
    storage_class_name: String,
    access_modes: Vec<String>,
    volume_mode: String,
    capacity: ResourceList,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolumeNodes {
    required: Option<NodeSelector>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolumeStatus {
    phase: String,
}

impl From<RawVolume> for Volume {
    fn from(raw: RawVolume) -> Self {
        let RawVolume { mut metadata, spec, status } = raw;
        metadata.annotations.clear();
        Self {
            metadata,
            required_nodes: spec.node_affinity.required,
            claim: spec.claim_ref,
            available: matches!(status.phase.as_str(), "Available" | ""),
            storage_class: spec.storage_class_name,
            access_modes: spec.access_modes,
            volume_mode: spec.volume_mode,
            storage: bytes(spec.capacity.get("storage")),
        }
    }
}

/// A storage class.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageClass {
    pub metadata: ObjectMeta,
    pub provisioner: String,
    pub volume_binding_mode: String,
    allowed_topologies: Vec<RawTopology>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTopology {
    match_label_expressions: Vec<RawTopologyExpression>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawTopologyExpression {
    key: String,
    values: Vec<String>,
}

impl StorageClass {
    /// Volumes are bound only when a pod that uses them is scheduled.
    pub fn waits_for_consumer(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }

    /// Whether volumes may be made for a node with those labels.
    pub fn allows(&self, labels: &StringMap) -> bool {
        let holds =
            |e: &RawTopologyExpression| labels.get(&e.key).is_some_and(|v| e.values.iter().any(|value| value == v));
        self.allowed_topologies.is_empty()
            || self.allowed_topologies.iter().any(|t| t.match_label_expressions.iter().all(holds))
    }
}

/// Whether a volume's node affinity admits a node.
pub fn volume_reaches(volume: &Volume, name: &str, labels: &StringMap) -> bool {
    volume.required_nodes.as_ref().is_none_or(|s: &NodeSelector| {
        let usable: &[Term] = &s.node_selector_terms;
        usable.iter().any(|t| t.matches(name, labels))
    })
}
