//! Claims, volumes, their classes and drivers.

use std::collections::BTreeMap;

use kedge_meta::labels::Selector;
use kedge_meta::quantity::Quantity;
use kedge_meta::{ObjectMeta, ObjectReference, StringMap, nullable};
use serde::Deserialize;
use serde_json::Value;

use super::amount::{ResourceList, bytes};
use super::nodeselector::{NodeSelector, Term};
use super::objects::keyed;
use super::podaffinity::selector;

keyed!(Claim, Volume, StorageClass, CsiNode, CsiDriver, Capacity, Attachment);

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
    /// Empty for none.
    pub attributes_class: String,
    pub access_modes: Vec<String>,
    pub volume_mode: String,
    pub selector: Option<Selector>,
    /// Bytes.
    pub storage: i64,
}

/// The older place of a class's name.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
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
    volume_attributes_class_name: String,
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
        let old_class = metadata.annotations.remove(BETA_CLASS);
        metadata.annotations.retain(|k, _| k == BIND_COMPLETED || k == SELECTED_NODE);
        Self {
            metadata,
            phase: status.phase,
            volume_name: spec.volume_name,
            storage_class: old_class.unwrap_or(spec.storage_class_name),
            attributes_class: spec.volume_attributes_class_name,
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
    /// Empty for none.
    pub attributes_class: String,
    /// Of a driver.
    pub csi: Option<CsiSource>,
    pub access_modes: Vec<String>,
    pub volume_mode: String,
    /// Bytes.
    pub storage: i64,
}

/// A volume of a driver, by the names that both have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiSource {
    pub driver: String,
    pub volume_handle: String,
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
    volume_attributes_class_name: String,
    csi: Option<CsiSource>,
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
        let old_class = metadata.annotations.remove(BETA_CLASS);
        metadata.annotations.clear();
        Self {
            metadata,
            required_nodes: spec.node_affinity.required,
            claim: spec.claim_ref,
            available: status.phase == "Available",
            storage_class: old_class.unwrap_or(spec.storage_class_name),
            attributes_class: spec.volume_attributes_class_name,
            csi: spec.csi,
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

/// What drivers there are on a node, and how many volumes each of them can have there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiNode {
    pub metadata: ObjectMeta,
    spec: CsiNodeSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CsiNodeSpec {
    #[serde(deserialize_with = "nullable")]
    drivers: Vec<NodeDriver>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeDriver {
    name: String,
    allocatable: DriverLimit,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DriverLimit {
    count: Option<i64>,
}

impl CsiNode {
    /// The drivers that can have so many volumes only.
    pub fn limits(&self) -> BTreeMap<&str, i64> {
        self.spec.drivers.iter().filter_map(|driver| Some((driver.name.as_str(), driver.allocatable.count?))).collect()
    }
}

/// A storage driver.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiDriver {
    pub metadata: ObjectMeta,
    spec: CsiDriverSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CsiDriverSpec {
    storage_capacity: bool,
}

impl CsiDriver {
    /// It publishes how much storage is left where.
    pub fn tells_capacity(&self) -> bool {
        self.spec.storage_capacity
    }
}

/// How much storage is left for volumes of a class on some nodes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawCapacity")]
pub struct Capacity {
    pub metadata: ObjectMeta,
    pub storage_class: String,
    /// The nodes; none where it is said of no node.
    pub nodes: Option<Selector>,
    /// The largest volume, in bytes, where that is known.
    pub limit: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCapacity {
    metadata: ObjectMeta,
    storage_class_name: String,
    node_topology: Option<Value>,
    capacity: Option<String>,
    maximum_volume_size: Option<String>,
}

impl From<RawCapacity> for Capacity {
    fn from(raw: RawCapacity) -> Self {
        // The largest volume says it better, where it is known.
        let limit = raw.maximum_volume_size.or(raw.capacity).and_then(|text| Quantity::parse(&text).ok());
        Self {
            metadata: raw.metadata,
            storage_class: raw.storage_class_name,
            nodes: raw.node_topology.as_ref().map(selector),
            limit: limit.map(|limit| limit.value()),
        }
    }
}

/// The attachment of a volume to a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawAttachment")]
pub struct Attachment {
    pub metadata: ObjectMeta,
    pub driver: String,
    pub node: String,
    pub volume: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAttachment {
    metadata: ObjectMeta,
    spec: RawAttachmentSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAttachmentSpec {
    attacher: String,
    node_name: String,
    source: RawAttachmentSource,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAttachmentSource {
    persistent_volume_name: String,
}

impl From<RawAttachment> for Attachment {
    fn from(RawAttachment { metadata, spec }: RawAttachment) -> Self {
        Self { metadata, driver: spec.attacher, node: spec.node_name, volume: spec.source.persistent_volume_name }
    }
}

/// Whether a volume's node affinity admits a node.
pub fn volume_reaches(volume: &Volume, name: &str, labels: &StringMap) -> bool {
    volume.required_nodes.as_ref().is_none_or(|s: &NodeSelector| {
        let usable: &[Term] = &s.node_selector_terms;
        usable.iter().any(|t| t.matches(name, labels))
    })
}
