//! Slim forms of the API objects: only the fields that controllers read. What is not here is not kept in memory.
//!
//! Invariant: none of these is ever written back as a whole; writes are patches or objects built from stored JSON.

mod claim;
mod core;
mod daemon;
mod job;
mod pod;
mod policy;
mod printed;
mod stateful;
pub mod volume;
mod workload;

pub use self::core::{Lease, Namespace, Node, Service, ServicePort, Taint};
pub use claim::{Claim, ClaimPhase};
pub use daemon::{DaemonSet, DaemonSetStatus};
pub use job::{CronJob, FailureRule, Job, JobStatus, OnExitCodes, SuccessPolicy, SuccessRule};
pub use pod::{Container, ContainerPort, Pod, PodClaim, PodVolume, Resources, Toleration};
pub use policy::{BudgetStatus, PodDisruptionBudget, QuotaSpec, ResourceQuota};
pub use printed::printed_selector;
pub use stateful::{StatefulSet, StatefulSetStatus};
pub use volume::{StorageClass, Volume};
pub use workload::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};

use jiff::Timestamp;
use kedge_base::time;
use kedge_meta::ObjectMeta;
pub use kedge_meta::nullable;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Any object of which only the metadata matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub metadata: ObjectMeta,
}

/// A condition of any kind of status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    /// A condition with a transition at `now`.
    pub fn new(kind: &str, status: bool, reason: &str, message: impl Into<String>, now: Timestamp) -> Self {
        Self {
            kind: kind.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(time::rfc3339(now)),
            reason: reason.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// Whether it holds.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of that type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

/// A number or a percentage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Int(i64),
    String(String),
}

impl IntOrString {
    /// The number, or that share of `total`. Text that is no percentage counts as zero.
    pub fn scaled(&self, total: i64, round_up: bool) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::String(text) => {
                let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or_default();
                let product = percent.saturating_mul(total);
                if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) }
            }
        }
    }
}

/// Reads a time of the API; none when absent or unreadable.
pub fn parse_time(text: Option<&String>) -> Option<Timestamp> {
    text.and_then(|t| time::parse(t).ok())
}

/// What `omitempty` makes of a number: zero is absent, and in a merge patch removes the field.
pub fn omit_zero(n: i64) -> Value {
    if n == 0 { Value::Null } else { n.into() }
}

macro_rules! keyed {
    ($($t:ty),* $(,)?) => { $(impl kedge_client::Keyed for $t {
        fn metadata(&self) -> &kedge_meta::ObjectMeta {
            &self.metadata
        }
    })* };
}
pub(crate) use keyed;

keyed!(
    Meta,
    PodDisruptionBudget,
    ResourceQuota,
    CronJob,
    StatefulSet,
    DaemonSet,
    Job,
    Lease,
    Namespace,
    Node,
    Service,
    Pod,
    ReplicaSet,
    Deployment,
    Claim,
    Volume,
    StorageClass
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(quarter.scaled(10, true), 3);
        assert_eq!(quarter.scaled(10, false), 2);
        assert_eq!(quarter.scaled(0, true), 0);
        assert_eq!(IntOrString::Int(4).scaled(10, true), 4);
    }
}
