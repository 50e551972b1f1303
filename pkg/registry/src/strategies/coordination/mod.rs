//! Coordination.

pub(crate) mod lease;
