//! Layer 3: REST semantics of objects, and what each kind adds to them.
//!
//! [`verbs`] holds create, update, patch and delete as they are for every kind; a [`Strategy`] brings a kind's own
//! preparation and validation; [`Registry`] names what is served. Objects are trees only while they are changed.
//!
//! Invariants: a write is a compare-and-swap of what was validated; nothing is stored that did not pass admission, the
//! strategy and the rules for metadata; errors are [`kedge_meta::Status`] and know no HTTP.

mod attributes;
mod catalogue;
mod change;
mod coming;
mod conversions;
pub mod convert;
pub mod endpoint_slices;
mod metadata;
mod notes;
mod ownership;
pub mod printers;
pub mod priorities;
mod registry;
mod remote;
mod served;
mod strategies;
mod strategy;
pub mod subresources;
mod unavailable;
pub mod value;
pub mod verbs;

pub use attributes::{
    Admission, Attributes, NoAdmission, Operation, Options, Reinvocation, WriteOptions, stored_namespace,
};
pub use catalogue::{Catalogue, Entry};
pub use change::{ChangeError, DefinedVersion, Definition, Stored, rank as version_rank};
pub use coming::Announced;
pub use conversions::{ConversionFailure, Conversions};
pub use notes::Notes;
pub use registry::{ClusterConfig, Registry};
pub use remote::{Known, OpenApiV2, Remote, ServiceReference};
pub use served::{Custom, ScalePaths, Served};
pub use strategies::Finding;
pub use strategies::access_reviews;
pub use strategies::apiextensions::custom_resource_definition::{hooks as definitions, violations};
pub use strategies::custom_resource::CustomResource;
pub use strategies::field_labels::field_of_label;
pub use strategy::{Context, Plain, Reservation, Strategy};
pub use unavailable::Unavailable;
