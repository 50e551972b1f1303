//! Webhooks and admission policies.

pub(crate) mod policy;
mod rule;
pub(crate) mod webhook_configuration;
