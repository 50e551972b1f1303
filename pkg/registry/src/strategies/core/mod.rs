//! The core group.

pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod pod;
pub(crate) mod service;
