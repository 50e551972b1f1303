//! The patch formats of the API: JSON patch, JSON merge patch and strategic merge patch, each as one pure function over
//! trees.
//!
//! Invariants: a failed patch changes nothing (every function takes the object by reference and gives a new one); no
//! patch panics; work is bounded by the sizes of object and patch, and copying by [`json::MAX_COPIED_BYTES`].

mod error;
pub mod json;
pub mod merge;
pub mod strategic;

pub use error::{PatchError, go_json, go_text, without_html};
