//! Webhooks and admission policies.

pub(crate) mod policy;
pub(crate) mod webhook_configuration;
