//! Pods, and what is asked of them: readiness, availability, activity.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::Alike;
use kedge_meta::{ObjectMeta, ObjectReference, StringMap, exact, nullable};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Condition, condition, parse_time};
use crate::workload::node_affinity::Affinity;

/// Pods of one template have the same.
static CONTAINERS: Alike<[Container]> = Alike::new();
static TOLERATIONS: Alike<[Toleration]> = Alike::new();

fn containers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Container]>, D::Error> {
    Ok(CONTAINERS.share(Vec::deserialize(deserializer)?))
}

fn tolerations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Toleration]>, D::Error> {
    Ok(TOLERATIONS.share(Vec::deserialize(deserializer)?))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: ObjectMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: String,
    pub host_network: bool,
    pub hostname: String,
    pub subdomain: String,
    #[serde(deserialize_with = "tolerations")]
    pub tolerations: Arc<[Toleration]>,
    pub affinity: Option<Box<Affinity>>,
    #[serde(deserialize_with = "containers")]
    pub containers: Arc<[Container]>,
    #[serde(deserialize_with = "containers")]
    pub init_containers: Arc<[Container]>,
    pub overhead: StringMap,
    /// Of the pod as a whole.
    pub resources: Option<Box<Resources>>,
    pub active_deadline_seconds: Option<i64>,
    pub priority_class_name: String,
    /// Those that come from claims.
    #[serde(deserialize_with = "claimed")]
    pub volumes: Vec<PodVolume>,
    pub resource_claims: Box<[PodClaim]>,
}

/// A volume that comes from a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    pub name: String,
    /// The claim's name; none where it is one of the pod's own, which has the names of both.
    pub claim: Option<String>,
}

impl PodVolume {
    /// The name of its claim.
    pub fn claim_name(&self, pod: &str) -> String {
        self.claim.clone().unwrap_or_else(|| format!("{pod}-{}", self.name))
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaimSource>,
    ephemeral: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSource {
    claim_name: String,
}

fn claimed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PodVolume>, D::Error> {
    let all: Vec<RawVolume> = nullable(deserializer)?;
    let claimed = all.into_iter().filter_map(|raw| match (raw.persistent_volume_claim, raw.ephemeral) {
        (Some(source), _) => Some(PodVolume { name: raw.name, claim: Some(source.claim_name) }),
        (None, Some(_)) => Some(PodVolume { name: raw.name, claim: None }),
        (None, None) => None,
    });
    let mut claimed: Vec<PodVolume> = claimed.collect();
    claimed.shrink_to_fit();
    Ok(claimed)
}

/// A claim of devices, as a pod names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodClaim {
    pub name: String,
    pub resource_claim_name: Option<String>,
    pub resource_claim_template_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    #[serde(deserialize_with = "exact")]
    pub ports: Vec<ContainerPort>,
    pub resources: Resources,
    pub restart_policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub requests: StringMap,
    pub limits: StringMap,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: String,
    pub container_port: i64,
    pub protocol: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    pub key: String,
    pub operator: String,
    pub value: String,
    pub effect: String,
    pub toleration_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub reason: String,
    #[serde(deserialize_with = "exact")]
    pub conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "exact")]
    pub pod_ips: Vec<PodIp>,
    pub start_time: Option<String>,
    #[serde(deserialize_with = "exact")]
    pub container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "exact")]
    pub init_container_statuses: Vec<ContainerStatus>,
    pub resource_claim_statuses: Box<[PodClaimStatus]>,
    pub extended_resource_claim_status: Option<Box<ExtendedClaimStatus>>,
}

/// The claim that was made for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodClaimStatus {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_claim_name: Option<String>,
}

/// The claim that stands for resources which pods ask for by number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtendedClaimStatus {
    pub resource_claim_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    pub ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    pub restart_count: i64,
    /// `running`, `waiting` or `terminated`, as stored; read for exit codes and finish times.
    pub state: Value,
}

impl Pod {
    /// The Ready condition, if it holds.
    fn ready_condition(&self) -> Option<&Condition> {
        condition(&self.status.conditions, "Ready").filter(|c| c.is_true())
    }

    /// Whether the pod is ready.
    pub fn is_ready(&self) -> bool {
        self.ready_condition().is_some()
    }

    /// Since when the pod is ready.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.ready_condition().and_then(|c| parse_time(c.last_transition_time.as_ref()))
    }

    /// How long until the pod counts as available, if it is ready; zero when it does already.
    pub fn available_in(&self, min_ready_seconds: i64, now: Timestamp) -> Option<Duration> {
        self.ready_condition()?;
        if min_ready_seconds <= 0 {
            return Some(Duration::ZERO);
        }
        let since = self.ready_since()?;
        let age = now.duration_since(since).as_millis();
        let left = i128::from(min_ready_seconds) * 1000 - age;
        Some(Duration::from_millis(u64::try_from(left.max(0)).unwrap_or(u64::MAX)))
    }

    /// Whether the pod has been ready for long enough.
    pub fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.available_in(min_ready_seconds, now).is_some_and(|left| left.is_zero())
    }

    /// Whether the pod has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Neither ended nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.metadata.is_deleting()
    }

    /// Being deleted and not yet ended.
    pub fn is_terminating(&self) -> bool {
        !self.is_terminal() && self.metadata.is_deleting()
    }

    /// Whether nothing of it runs any more.
    pub fn has_ended(&self) -> bool {
        let runs = |status: &ContainerStatus| {
            ["terminated", "waiting"].iter().all(|state| status.state.get(*state).is_none_or(Value::is_null))
        };
        let statuses = self.status.init_container_statuses.iter().chain(&self.status.container_statuses);
        self.is_terminal() || (self.metadata.is_deleting() && !statuses.into_iter().any(runs))
    }

    /// The claims that it names.
    pub fn claims(&self) -> impl Iterator<Item = String> {
        self.spec.volumes.iter().map(|volume| volume.claim_name(&self.metadata.name))
    }

    /// For events about the pod.
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
}
