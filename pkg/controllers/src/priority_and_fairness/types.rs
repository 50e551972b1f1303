//! What is read of flow schemas and priority levels.

use kedge_meta::ObjectMeta;
use serde::Deserialize;

use crate::objects::{Condition, keyed};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowSchema {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub priority_level_configuration: Named,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevel {
    pub metadata: ObjectMeta,
}

keyed!(FlowSchema, PriorityLevel);
