//! Webhooks and admission policies.

pub(crate) mod binding;
mod expressions;
mod matching;
pub(crate) mod mutating_policy;
mod policy;
mod reserved;
mod rule;
pub(crate) mod validating_policy;
pub(crate) mod webhook_configuration;
