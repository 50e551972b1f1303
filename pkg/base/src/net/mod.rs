//! Connections to others: how they are made, and how one learns that the other side is gone.

mod dial;
pub mod keep_alive;

pub use dial::{Connection, Dialer, DirectDialer, go_text};
