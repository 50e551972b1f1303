//! Layer 5: the scheduler. It gives every pod that has none a node.
//!
//! [`queue`] holds the pods that wait, [`cache`] what occupies the nodes, [`schedule`] decides with the plugins of the
//! [`framework`]'s profile, and [`scheduler`] drives them and writes through [`bind`]. It reaches the API only through
//! `kedge-client` and works against any Kubernetes API server.

mod api;
mod bind;
mod cache;
mod fiterror;
mod framework;
mod handlers;
mod listers;
mod plugins;
mod preemption;
mod queue;
mod schedule;
mod scheduler;
#[cfg(test)]
mod testing;
mod volumes;

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::Client;

/// The scheduler that pods use unless they name another.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Starts scheduling in `tasks`: pods with `schedulerName: default-scheduler` and no node.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup) {
    scheduler::start(client, clock, tasks, DEFAULT_SCHEDULER);
}
