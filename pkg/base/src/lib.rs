//! Layer 0: time, randomness, back-off, shutdown, supervised tasks, and how connections are made.
//!
//! Invariant: this is the only crate that reads the clock of the machine, sleeps on it, draws randomness or
//! spawns bare tasks. Everybody else is handed a [`Clock`] and a [`TaskGroup`], so tests can drive virtual time and a
//! shutdown can account for every task.
#![allow(clippy::disallowed_methods)]

mod alike;
mod backoff;
pub mod blocking;
mod clock;
mod directory;
pub mod exposition;
pub mod net;
mod panics;
pub mod process;
pub mod random;
mod room;
mod shutdown;
pub mod sizes;
mod tasks;
pub mod time;

pub use alike::Alike;
pub use backoff::Backoff;
pub use blocking::{Blocking, BlockingError, Call};
pub use clock::{BoxFuture, Clock, SharedClock, VirtualClock, system_clock};
pub use directory::{Changes, DirWatch};
pub use panics::{Ledger, Panicked, Running, TOO_MANY, TaskReport, Trouble, WINDOW, Weight, task_reports};
pub use room::Room;
pub use shutdown::Shutdown;
pub use tasks::TaskGroup;
