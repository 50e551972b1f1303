//! Cluster DNS, inside the process: the Kubernetes DNS specification 1.1, and forwarding.
//!
//! Invariant: a query is answered, refused or forwarded within seconds, whatever it contains and
//! whatever upstream does; names of the cluster are answered from memory and never forwarded.
//!
//! The message format is read and written here ([`query`], [`answer`]): the part of it that a
//! cluster needs is small, and it is the part that strangers write to.

pub mod answer;
mod cache;
mod forward;
pub mod name;
pub mod objects;
pub mod query;
pub mod records;
mod resolv;
pub mod response;
mod run;
mod server;
pub mod zone;

pub use run::{Config, Error, Health, run};
