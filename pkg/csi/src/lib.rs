//! What a node says to storage drivers and other plug-ins: CSI v1 and the registration of plug-ins, over unix sockets.
//!
//! Generated bindings live only in this crate. Every call has a deadline, every message a size limit; a driver that is gone costs a
//! failed call.

mod driver;
mod error;
mod registrar;
mod socket;

/// The generated messages and services of `csi.v1`.
#[allow(clippy::all, clippy::disallowed_methods, deprecated, rust_2018_idioms, unused_qualifications)]
#[path = "generated/csi_v1.rs"]
pub mod v1;

/// The generated messages and services of `pluginregistration`.
#[allow(clippy::all, clippy::disallowed_methods, deprecated, rust_2018_idioms, unused_qualifications)]
#[path = "generated/registration.rs"]
pub mod registration;

pub use driver::NodeDriver;
pub use error::Error;
pub use registrar::Registrar;
