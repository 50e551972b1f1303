//! Persistent volumes and storage classes, and what claims have in common with them.

use kedge_meta::quantity::Quantity;
use kedge_meta::{ObjectKey, ObjectMeta, ObjectReference, StringMap, exact, resources};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Claim;
use crate::workload::reference;

/// Set on a claim once it and its volume have been bound to each other.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Set on a claim or a volume whose other side was chosen by the controller, and not by whoever made it.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On both: the driver that has taken the place of a plugin.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a claim: who is to make its volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as it was called first.
pub const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: the node that its volume is made for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who enlarges its volume.
pub const RESIZER: &str = "volume.kubernetes.io/storage-resizer";
/// On a volume that has grown before its file system: what the file system has.
pub const SIZE_BEFORE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

pub(super) const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OF_VOLUMES: [&str; 4] = [BOUND_BY_CONTROLLER, PROVISIONED_BY, MIGRATED_TO, SIZE_BEFORE];
const OF_CLASSES: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// How a volume may be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessMode {
    ReadWriteOnce,
    ReadOnlyMany,
    ReadWriteMany,
    ReadWriteOncePod,
    /// One that is newer than this program, and that no volume here has.
    #[serde(other)]
    Unknown,
}

/// A set of access modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Modes(u8);

impl Modes {
    /// Whether all of the other set are in this one.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// How many there are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }
}

impl FromIterator<AccessMode> for Modes {
    fn from_iter<I: IntoIterator<Item = AccessMode>>(modes: I) -> Self {
        Self(modes.into_iter().fold(0, |set, mode| set | 1 << mode as u8))
    }
}

/// Where a volume stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumePhase {
    Pending,
    Available,
    Bound,
    Released,
    Failed,
    #[default]
    #[serde(other)]
    None,
}

/// What becomes of a volume that nobody claims any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Reclaim {
    Retain,
    Recycle,
    Delete,
    #[default]
    #[serde(other)]
    Unknown,
}

pub(super) fn keep(metadata: &mut ObjectMeta, keys: &[&str]) {
    metadata.annotations.retain(|key, _| keys.contains(&key));
}

pub(super) fn storage_of(amounts: &StringMap) -> Option<Quantity> {
    amounts.get("storage").and_then(|text| Quantity::parse(text).ok())
}

/// Whom a volume belongs to. Without a uid it is reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl ClaimRef {
    /// Which claim it is.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }
}

/// What a volume is made of, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    Csi {
        driver: String,
        handle: String,
    },
    /// A path on whatever node it is used on.
    HostPath(String),
    Nfs,
    /// What the plugin of that name was for, whose place a driver has taken.
    Migrated(&'static str),
    /// Something that nothing is done about here.
    #[default]
    Other,
}

/// A volume. Of its annotations only those are kept that are named here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawVolume")]
pub struct Volume {
    pub metadata: ObjectMeta,
    pub claim: Option<ClaimRef>,
    pub storage_class: String,
    pub attributes_class: Option<String>,
    pub access_modes: Vec<AccessMode>,
    pub block: bool,
    pub storage: Option<Quantity>,
    pub reclaim: Reclaim,
    pub source: Source,
    pub phase: VolumePhase,
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
    claim_ref: Option<ClaimRef>,
    storage_class_name: String,
    volume_attributes_class_name: Option<String>,
    #[serde(deserialize_with = "exact")]
    access_modes: Vec<AccessMode>,
    volume_mode: String,
    capacity: StringMap,
    persistent_volume_reclaim_policy: Reclaim,
    csi: Option<RawCsi>,
    host_path: Option<RawHostPath>,
    nfs: Option<IgnoredAny>,
    aws_elastic_block_store: Option<IgnoredAny>,
    azure_disk: Option<IgnoredAny>,
    azure_file: Option<IgnoredAny>,
    cinder: Option<IgnoredAny>,
    gce_persistent_disk: Option<IgnoredAny>,
    portworx_volume: Option<IgnoredAny>,
    vsphere_volume: Option<IgnoredAny>,
}

impl RawVolumeSpec {
    fn source(&mut self) -> Source {
        match (self.csi.take(), self.host_path.take()) {
            (Some(csi), _) => return Source::Csi { driver: csi.driver, handle: csi.volume_handle },
            (_, Some(host)) => return Source::HostPath(host.path),
            (None, None) if self.nfs.is_some() => return Source::Nfs,
            (None, None) => {}
        }
        let migrated = [
            (&self.aws_elastic_block_store, "kubernetes.io/aws-ebs"),
            (&self.azure_disk, "kubernetes.io/azure-disk"),
            (&self.azure_file, "kubernetes.io/azure-file"),
            (&self.cinder, "kubernetes.io/cinder"),
            (&self.gce_persistent_disk, "kubernetes.io/gce-pd"),
            (&self.portworx_volume, "kubernetes.io/portworx-volume"),
            (&self.vsphere_volume, "kubernetes.io/vsphere-volume"),
        ];
        migrated
            .into_iter()
            .find(|(field, _)| field.is_some())
            .map_or(Source::Other, |(_, name)| Source::Migrated(name))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawCsi {
    driver: String,
    volume_handle: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawHostPath {
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolumeStatus {
    phase: VolumePhase,
}

impl From<RawVolume> for Volume {
    fn from(raw: RawVolume) -> Self {
        let RawVolume { mut metadata, mut spec, status } = raw;
        let older = metadata.annotations.remove(BETA_CLASS);
        keep(&mut metadata, &OF_VOLUMES);
        let source = spec.source();
        Self {
            metadata,
            claim: spec.claim_ref,
            storage_class: older.unwrap_or(spec.storage_class_name),
            attributes_class: spec.volume_attributes_class_name,
            access_modes: spec.access_modes,
            block: spec.volume_mode == "Block",
            storage: storage_of(&spec.capacity),
            reclaim: spec.persistent_volume_reclaim_policy,
            source,
            phase: status.phase,
        }
    }
}

impl Volume {
    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key)
    }

    /// Its access modes.
    pub fn modes(&self) -> Modes {
        self.access_modes.iter().copied().collect()
    }

    /// Whether it is bound to that claim, or reserved for it.
    pub fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|of| {
            of.name == claim.metadata.name
                && of.namespace == claim.metadata.namespace
                && (of.uid.is_empty() || of.uid == claim.metadata.uid)
        })
    }

    /// For events about it.
    pub fn reference(&self) -> ObjectReference {
        reference(&resources::PERSISTENT_VOLUMES, &self.metadata)
    }
}

/// A storage class.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawClass")]
pub struct StorageClass {
    pub metadata: ObjectMeta,
    pub provisioner: String,
    /// Volumes are chosen or made when a pod that uses them has a node.
    pub waits: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClass {
    metadata: ObjectMeta,
    provisioner: String,
    volume_binding_mode: String,
}

impl From<RawClass> for StorageClass {
    fn from(raw: RawClass) -> Self {
        let mut metadata = raw.metadata;
        keep(&mut metadata, &OF_CLASSES);
        let waits = raw.volume_binding_mode == "WaitForFirstConsumer";
        Self { metadata, provisioner: raw.provisioner, waits }
    }
}

impl StorageClass {
    /// Whether claims that say nothing get it.
    pub fn is_default(&self) -> bool {
        OF_CLASSES.iter().any(|key| self.metadata.annotations.get(key) == Some("true"))
    }
}
