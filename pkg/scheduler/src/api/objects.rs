//! The other objects that scheduling looks at: namespaces, services, workloads, disruption budgets.

use std::collections::BTreeMap;

use kedge_meta::labels::Selector;
use kedge_meta::{ObjectMeta, StringMap};
use serde::Deserialize;
use serde_json::Value;

use super::podaffinity::selector;

macro_rules! keyed {
    ($($t:ty),*) => { $(impl kedge_client::Keyed for $t {
        fn metadata(&self) -> &kedge_meta::ObjectMeta { &self.metadata }
    })* };
}
pub(super) use keyed;
keyed!(Namespace, Service, Workload, Budget);

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
