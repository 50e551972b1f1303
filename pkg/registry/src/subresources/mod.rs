//! What subresources with rules of their own do to an object. Who calls has decoded the request and passed it through admission.

pub mod binding;
mod budget;
pub mod eviction;
pub mod finalize;
pub mod scale;
pub mod token;
