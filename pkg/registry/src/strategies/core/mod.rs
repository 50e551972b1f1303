//! The core group.

pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod limit_range;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(super) mod pod_annotations;
mod pod_resize;
mod pod_scheduling;
mod pod_status;
pub(crate) mod pod_template;
mod pod_update;
pub(crate) mod replication_controller;
pub(crate) mod resource_quota;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
mod service_address_rules;
mod service_allocation;
mod service_families;
mod service_update;
mod service_validation;
mod volume_sources;
