//! What is known about the built-in types: which resources exist, what their fields are called, which types they have,
//! how they decode, what they default to, how they merge, and how all of that is described to clients.
//!
//! Everything is driven by one generated table of facts ([`table`]); only computed defaults are handwritten.
//! Invariants: the table is read once and never changes; no function here panics on any input; objects are
//! `serde_json::Value` trees in the shape of their own API version (there is no internal version).
//!
//! The way of an incoming object: [`decode::decode_object`] (size, nesting, duplicates, then [`conform`]),
//! [`defaults::apply`], whatever the server does to it, and [`normalize`] before it is encoded.

pub mod conform;
pub mod decode;
pub mod defaults;
pub mod definition;
pub mod discovery;
pub mod encode;
pub mod former;
pub mod normalize;
pub mod openapi;
pub mod protobuf;
mod scalar;
mod schema_ref;
pub mod structural;
pub mod table;
mod yaml;

pub use conform::{TypeError, conform, convert};
pub use decode::{DecodeError, Decoded, Limits, StrictError, decode_json, decode_object, decode_yaml};
pub use normalize::{normalize, normalize_stored};
pub use schema_ref::SchemaRef;
pub use table::{
    Builtin, Elsewhere, FieldDef, FieldType, GroupInfo, KindInfo, Kinds, ListType, ResourceInfo, SubresourceInfo,
    TypeDef, TypeId, Verb, groups, kind, list_kind, optional_groups, optional_resources, resource, resources,
    type_by_name,
};
pub use yaml::to_yaml;
