//! Claims of persistent volumes.

use kedge_meta::labels::Selector;
use kedge_meta::quantity::Quantity;
use kedge_meta::{ObjectMeta, ObjectReference, StringMap, exact, resources};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::volume::{
    AccessMode, BETA_CLASS, BETA_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONER, RESIZER,
    SELECTED_NODE, keep, storage_of,
};
use crate::workload::reference;

const OF_CLAIMS: [&str; 7] =
    [BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONER, BETA_PROVISIONER, SELECTED_NODE, RESIZER];

/// Where a claim stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimPhase {
    Pending,
    Bound,
    Lost,
    #[default]
    #[serde(other)]
    None,
}

/// A claim. Of its annotations only those are kept that are named here, and of its labels none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawClaim")]
pub struct Claim {
    pub metadata: ObjectMeta,
    pub volume_name: String,
    /// None, where nothing is said; that is not the same as a class without a name.
    pub storage_class: Option<String>,
    pub attributes_class: Option<String>,
    pub access_modes: Vec<AccessMode>,
    pub block: bool,
    pub selector: Option<Selector>,
    /// What is asked for.
    pub storage: Option<Quantity>,
    pub phase: ClaimPhase,
    pub has: Granted,
}

/// What a claim has got.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    pub access_modes: Vec<AccessMode>,
    pub capacity: StringMap,
    pub attributes_class: Option<String>,
    /// The class that its volume is being given.
    pub coming_class: String,
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
    storage_class_name: Option<String>,
    volume_attributes_class_name: Option<String>,
    #[serde(deserialize_with = "exact")]
    access_modes: Vec<AccessMode>,
    volume_mode: String,
    selector: Option<Value>,
    resources: RawRequests,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRequests {
    requests: StringMap,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimStatus {
    phase: ClaimPhase,
    #[serde(deserialize_with = "exact")]
    access_modes: Vec<AccessMode>,
    capacity: StringMap,
    current_volume_attributes_class_name: Option<String>,
    modify_volume_status: RawModified,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawModified {
    target_volume_attributes_class_name: String,
}

impl From<RawClaim> for Claim {
    fn from(raw: RawClaim) -> Self {
        let RawClaim { mut metadata, spec, status } = raw;
        let older = metadata.annotations.remove(BETA_CLASS);
        keep(&mut metadata, &OF_CLAIMS);
        metadata.labels.clear();
        // What selects nothing that could be understood selects nothing.
        let selector = |value: &Value| Selector::from_label_selector(value).unwrap_or_else(|_| Selector::nothing());
        Self {
            metadata,
            volume_name: spec.volume_name,
            storage_class: older.or(spec.storage_class_name),
            attributes_class: spec.volume_attributes_class_name,
            access_modes: spec.access_modes,
            block: spec.volume_mode == "Block",
            selector: spec.selector.as_ref().map(selector),
            storage: storage_of(&spec.resources.requests),
            phase: status.phase,
            has: Granted {
                access_modes: status.access_modes,
                capacity: status.capacity,
                attributes_class: status.current_volume_attributes_class_name,
                coming_class: status.modify_volume_status.target_volume_attributes_class_name,
            },
        }
    }
}

impl Claim {
    /// The name of its class; empty when it has none.
    pub fn class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or_default()
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key)
    }

    /// Whether it and its volume have been bound to each other.
    pub fn is_bound(&self) -> bool {
        self.annotation(BIND_COMPLETED).is_some()
    }

    /// What it has got of storage.
    pub fn capacity(&self) -> Option<Quantity> {
        storage_of(&self.has.capacity)
    }

    /// For events about it.
    pub fn reference(&self) -> ObjectReference {
        reference(&resources::PERSISTENT_VOLUME_CLAIMS, &self.metadata)
    }
}
