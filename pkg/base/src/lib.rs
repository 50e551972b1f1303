//! Layer 0: time, randomness, back-off, shutdown and supervised tasks.
//!
//! Invariant: this is the only crate that reads the clock of the machine, sleeps on it, draws randomness or
//! spawns bare tasks. Everybody else is handed a [`Clock`] and a [`TaskGroup`], so tests can drive virtual time and a
//! shutdown can account for every task.
#![allow(clippy::disallowed_methods)]

mod backoff;
mod clock;
pub mod process;
pub mod random;
mod shutdown;
pub mod sizes;
mod tasks;
pub mod time;

pub use backoff::Backoff;
pub use clock::{BoxFuture, Clock, SharedClock, VirtualClock, system_clock};
pub use shutdown::Shutdown;
pub use tasks::TaskGroup;
