//! What objects use of a quota, and whether they may.
//!
//! The same rules serve who admits objects (trees of the API) and who counts them (slim structs of a controller): both
//! describe an object as an [`Item`].
//!
//! Invariants: nothing here reads a clock or the cluster; a charge that is refused changes nothing.

pub mod amounts;
mod charge;
mod item;
mod others;
mod pod;
mod scope;

pub use amounts::Amounts;
pub use charge::{Change, Quota, charge};
pub use item::Item;
pub use others::{Claim, Service, count_names};
pub use pod::{Container, Pod, crosses_namespaces};
pub use scope::Requirement;
