//! The audit: who has asked for what, and what came of it, by a policy.
//!
//! [`Policy`] says how much is recorded of a request, [`Event`] is what is recorded at one of its stages, and a [`Sink`] hands events to a file
//! or to somebody who is sent them.
//!
//! Invariants: events have upstream's form (`audit.k8s.io/v1`); a file is written in the order in which events come, one line each, and never
//! larger than it may be; what is kept for somebody who does not take it is bounded, and what is dropped is counted.

mod batch;
mod event;
mod file;
mod policy;
mod sink;

pub use batch::{Batching, Receiver};
pub use event::{AuthenticationMetadata, Event, Level, ObjectReference, ResponseStatus, Stage, User};
pub use file::LogFile;
pub use policy::{Asked, Policy, PolicyError, Verdict};
pub use sink::{Counts, Sink};
