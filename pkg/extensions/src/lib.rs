//! Layer 4: kinds that clients define, and group versions that other servers serve. What a CustomResourceDefinition says is served, in the same way as
//! what is built in; what an APIService says is passed on.
//!
//! [`Extensions`] follows the definitions that the store holds: it accepts their names, says so in their status, puts what is established
//! into the registry's catalogue, and empties and takes out what is being deleted. [`Aggregation`] follows API services.
//!
//! Invariants: what is served is what the stored definition says, or said a moment ago; nothing is served that is not established, nor
//! after its definition has gone; an object goes with its definition only when that was deleted as it should be, never by the definition
//! merely not being there. Each server follows by itself: several on one store write the same.

mod aggregation;
mod conversion;
mod definition;
mod finalize;
mod follow;
mod names;
mod status;

pub use aggregation::Aggregation;
pub use follow::Extensions;

/// The group of definitions, and their resource.
const GROUP: &str = "apiextensions.k8s.io";
const DEFINITIONS: &str = "customresourcedefinitions";
