//! Layer 5: the controllers, one folder or file each.

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::Client;

/// What controllers need to know of the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where nodes get their pod ranges from.
    pub cluster_cidr: String,
    /// PEM; published in every namespace.
    pub root_ca: String,
}

/// Starts all controllers in `tasks`.
pub fn start(_client: &Client, _clock: &SharedClock, _tasks: &TaskGroup, _config: Config) {}
