//! Writing objects: as JSON with fields in upstream's order, and as protobuf.
//!
//! Invariant: what is written is what the tree holds. A field that the type does not have comes after those that it has (JSON), or
//! is left out (protobuf, which has no place for it).

mod json;
pub mod protobuf;

pub use json::{own_type, to_json, write_json, write_json_fields};
pub use protobuf::{object_to_protobuf, to_protobuf, write_protobuf};
