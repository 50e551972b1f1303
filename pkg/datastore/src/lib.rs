//! Layer 2: which store a server uses, and moving its content: snapshots, restoring, migration.
//!
//! Invariants: whatever is replaced is only renamed, never removed; a restore or a migration to the embedded store is
//! there as a whole or not at all; one to an etcd is marked until it has been verified, and can be run again.

mod capture;
mod endpoint;
mod error;
mod layout;
mod migrate;
mod open;
mod place;
mod restore;
mod snapshots;

pub use capture::capture;
pub use endpoint::{Endpoint, EndpointError, Tls};
pub use error::Error;
pub use kedge_snapshot::CHECKSUM;
pub use layout::Layout;
pub use migrate::{Direction, Migrated, migrate};
pub use open::{Store, connect, open};
pub use restore::{Restored, restore};
pub use snapshots::{ON_DEMAND, SCHEDULED, Saved, Snapshots};

/// Is told how far long work has come: what is being done, how much of it, of how much if that is known.
pub type Progress<'a> = dyn FnMut(&str, usize, Option<usize>) + Send + 'a;
