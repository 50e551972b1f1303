//! Upstream's validation rules, as functions over places in an object.
//!
//! Invariant: a rule reads and reports, it never changes the object and never panics; messages are upstream's.

mod at;
pub(crate) mod conditions;
pub(crate) mod container;
pub(crate) mod diff;
pub(crate) mod dns;
pub(crate) mod env;
pub(crate) mod files;
pub(crate) mod go_url;
pub(crate) mod inner_metadata;
pub(crate) mod operating_system;
pub(crate) mod pod_spec;
mod probe;
pub(crate) mod resources;
pub(crate) mod scalar;
pub(crate) mod scheduling;
pub(crate) mod security;
pub(crate) mod selector;
pub(crate) mod template;
pub(crate) mod volume;
pub(crate) mod webhook;

pub(crate) use at::{At, Report};
