//! Ownership of fields as upstream's documentation and tests describe it, and what must hold for any object.
#![allow(clippy::unwrap_used)]

mod apply;
mod conflicts;
mod model;
mod properties;
mod sets;
mod support;
mod update;
