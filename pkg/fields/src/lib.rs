//! Layer 2: who owns which fields of an object, and what an object becomes when a configuration is applied to it.
//!
//! A [`Set`] of fields is a tree of steps, written as `FieldsV1`. [`FieldManager`] keeps `metadata.managedFields`: a write that replaces
//! makes the writer own what it changed ([`FieldManager::update`]), one that applies makes it own what it names ([`FieldManager::apply`]).
//! What is one value and what are many is said by the schema of the kind, built-in or not ([`Type`]).
//!
//! Invariants: nobody owns what identifies an object or what the server alone decides; a field that somebody changed is owned by nobody
//! who wanted it otherwise; what changes nothing changes no owner but that one who applies the same comes to own it as well; no object
//! makes it panic. It costs what the objects and the difference cost: sets of those who lose nothing are not read.

mod apply;
mod atomics;
mod cap;
mod codec;
mod collect;
mod compare;
mod conflict;
mod element;
mod entry;
mod items;
mod last_applied;
mod manager;
mod merge;
mod mismatch;
mod reconcile;
mod remove;
mod scale;
mod set;
mod times;
mod types;
mod validate;

pub use apply::ApplyError;
pub use atomics::atomics;
pub use codec::{FieldsError, decode, encode, encode_text};
pub use collect::set_of;
pub use compare::{Comparison, compare};
pub use conflict::{Conflict, Conflicts};
pub use element::{Element, ElementError};
pub use entry::{Entry, EntryError, Managed, Manager, Operation};
pub use manager::{FieldManager, Resets, Versions, entries, put_entries, take_entries};
pub use merge::merge;
pub use mismatch::{Mismatch, Mismatches};
pub use remove::remove;
pub use scale::{to_parent, to_scale};
pub use set::Set;
pub use times::keep_times;
pub use types::Type;
pub use validate::validate;
