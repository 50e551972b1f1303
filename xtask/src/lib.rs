//! What the repository's tasks and its tests share.

#![allow(clippy::disallowed_methods, reason = "tasks measure and wait on the real clock")]

pub mod authorization;
pub mod diff;
pub mod pod_security;
pub mod webhook;
