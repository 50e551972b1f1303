//! The verbs of stored objects, one a file. None knows another: what they share lies beneath them.
//!
//! # Layers
//!
//! 1. `apply`, `create`, `delete`, `get`, `list`, `patch`, `update`, `watch`

pub(crate) mod apply;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod patch;
pub(crate) mod update;
pub(crate) mod watch;
