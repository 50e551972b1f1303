//! The client of the container runtime interface (CRI v1), over a unix socket.
//!
//! Generated bindings live only in this crate ([`v1`]). Callers hold an `Arc<dyn Runtime>`: [`CriClient`] speaks to
//! containerd (1.6 and newer) or another CRI v1 runtime, the test double keeps pods in memory. Every call has a
//! deadline, every message a size limit.

mod client;
mod containerd_events;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod runtime;

/// The generated messages and services of `runtime.v1`.
#[allow(clippy::all, clippy::disallowed_methods, deprecated, rust_2018_idioms, unused_qualifications)]
#[path = "generated/runtime_v1.rs"]
pub mod v1;

pub use client::CriClient;
pub use error::Error;
pub use runtime::{ContainerEvents, Exec, ExecOutput, Runtime, Streams};
