//! Subresources with a behaviour of their own, one a file.

pub(crate) mod binding;
pub(crate) mod eviction;
pub(crate) mod finalize;
mod log_options;
pub(crate) mod proxy;
pub(crate) mod scale;
pub(crate) mod streaming;
pub(crate) mod token;
