//! Connections to others: how they are made, and how one learns that the other side is gone.

mod dial;
pub mod keep_alive;

pub use dial::{Connection, Dialer, DirectDialer, go_text};

/// Streams of an HTTP/2 connection that its client has reset before anybody looked at them: one more ends the connection. A stream that is
/// reset costs its client nothing, and no longer counts as one that is open.
pub const MAX_PENDING_RESETS: usize = 20;
/// Streams of an HTTP/2 connection that a server had to reset for what their client did: one more ends the connection.
pub const MAX_FAULTS: usize = 1_024;
