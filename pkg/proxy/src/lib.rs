//! The service proxy: traffic to Services reaches their endpoints, by rules in the kernel.
//!
//! Invariant: every rule is in the one table `ip kedge-proxy`, every change of it is one atomic
//! transaction, and what it holds follows from Services and EndpointSlices alone. The packet's way
//! is in README.md beside this crate.
//!
//! Deliberately absent: IPv6, and a userspace path. Packets never enter this process.

mod affinity;
pub mod conntrack;
pub mod endpoints;
pub mod item;
pub mod objects;
pub mod plan;
mod render;
pub mod ruleset;
mod run;
pub mod state;
pub mod syncer;
mod tracker;

pub use run::{Config, Error, cleanup, run};
