//! What to do about a pod: pure decisions from its spec and from what the runtime has.

mod init;
mod plan;
mod restart;
mod sandbox;

pub(crate) use plan::{Actions, Kill, KillReason, ProbeView, compute_actions};
pub(crate) use restart::{should_be_restarted, should_restart};
pub(crate) use sandbox::{has_any_regular_container_created, sandbox_changed};
