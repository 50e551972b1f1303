//! Autoscalers, as far as the controller reads them, and what it writes of them.

use kedge_base::time;
use kedge_client::Keyed;
use kedge_meta::{ObjectMeta, nullable};
use serde::Deserialize;
use serde_json::{Value, json};

use jiff::Timestamp;

use crate::objects::{Condition, omit_zero};

pub const ABLE_TO_SCALE: &str = "AbleToScale";
pub const SCALING_ACTIVE: &str = "ScalingActive";
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// Of clusters that scale to nothing, which is off by default.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";

/// `autoscaling/v2` HorizontalPodAutoscaler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Autoscaler {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

impl Keyed for Autoscaler {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub scale_target_ref: Target,
    pub min_replicas: Option<i32>,
    pub max_replicas: i32,
    #[serde(deserialize_with = "nullable")]
    pub metrics: Vec<Metric>,
    pub behavior: Option<Behavior>,
}

/// `CrossVersionObjectReference`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl Target {
    /// As it is written.
    pub fn written(&self) -> Value {
        let mut written = json!({"kind": self.kind, "name": self.name});
        if !self.api_version.is_empty() {
            written["apiVersion"] = self.api_version.as_str().into();
        }
        written
    }
}

/// A metric that is aimed at, of one of the sources by its type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metric {
    #[serde(rename = "type")]
    pub kind: String,
    pub resource: Option<Box<Source>>,
    pub container_resource: Option<Box<Source>>,
    pub pods: Option<Box<Source>>,
    pub object: Option<Box<Source>>,
    pub external: Option<Box<Source>>,
}

/// What the sources of metrics have, each of them a part of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// The resource.
    pub name: String,
    pub container: String,
    pub described_object: Target,
    pub metric: Identifier,
    pub target: Aim,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Identifier {
    pub name: String,
    /// A label selector; `null` when there is none.
    pub selector: Value,
}

impl Identifier {
    /// As it is written.
    pub fn written(&self) -> Value {
        let mut written = json!({"name": self.name});
        if !self.selector.is_null() {
            written["selector"] = self.selector.clone();
        }
        written
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Aim {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: Option<String>,
    pub average_value: Option<String>,
    pub average_utilization: Option<i32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    pub scale_up: Option<Rules>,
    pub scale_down: Option<Rules>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    pub stabilization_window_seconds: Option<i32>,
    pub select_policy: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub policies: Vec<Policy>,
    pub tolerance: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: i32,
    pub period_seconds: i32,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub observed_generation: Option<i64>,
    pub last_scale_time: Option<String>,
    pub current_replicas: i32,
    pub desired_replicas: i32,
    #[serde(deserialize_with = "nullable")]
    pub current_metrics: Vec<Value>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

impl Status {
    /// Says `kind` of the autoscaler. The time is that of the last change of what holds.
    pub fn set(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>, now: Timestamp) {
        let mut new = Condition::new(kind, holds, reason, message, now);
        match self.conditions.iter_mut().find(|c| c.kind == kind) {
            Some(old) => {
                if old.status == new.status {
                    new.last_transition_time.clone_from(&old.last_transition_time);
                }
                *old = new;
            }
            None => self.conditions.push(new),
        }
    }

    /// Says `kind` no more.
    pub fn unset(&mut self, kind: &str) {
        self.conditions.retain(|c| c.kind != kind);
    }

    /// What there is and what is wanted, with what is kept of before.
    pub fn renew(&mut self, current: i32, desired: i32, metrics: Vec<Value>, rescaled: Option<Timestamp>) {
        self.observed_generation = None;
        self.current_replicas = current;
        self.desired_replicas = desired;
        self.current_metrics = metrics;
        if let Some(now) = rescaled {
            self.last_scale_time = Some(time::rfc3339(now));
        }
    }

    /// As a merge patch has it.
    pub fn written(&self) -> Value {
        let metrics = if self.current_metrics.is_empty() { Value::Null } else { json!(self.current_metrics) };
        json!({
            "observedGeneration": self.observed_generation,
            "lastScaleTime": self.last_scale_time,
            "currentReplicas": omit_zero(self.current_replicas.into()),
            "desiredReplicas": self.desired_replicas,
            "currentMetrics": metrics,
            "conditions": self.conditions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_of_its_change() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
        let mut status = Status::default();
        status.set(ABLE_TO_SCALE, true, "A", "", at("2026-01-01T00:00:00Z"));
        status.set(ABLE_TO_SCALE, true, "B", "", at("2026-01-01T00:01:00Z"));
        assert_eq!(status.conditions[0].last_transition_time.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(status.conditions[0].reason, "B");
        status.set(ABLE_TO_SCALE, false, "B", "", at("2026-01-01T00:02:00Z"));
        assert_eq!(status.conditions[0].last_transition_time.as_deref(), Some("2026-01-01T00:02:00Z"));
    }
}
