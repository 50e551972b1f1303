//! Layer 2: the patches of the Kubernetes API on trees of JSON.
//!
//! Invariants: a patch either applies as a whole or fails; the object that it is applied to is never changed; no patch
//! makes this panic.

pub mod json;
pub mod merge;
pub mod strategic;

/// A patch that cannot be applied. The words are upstream's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unapplicable(String),
    /// More operations than are allowed.
    #[error("The allowed maximum operations in a JSON patch is {limit}, got {got}")]
    TooMany { limit: usize, got: usize },
}
