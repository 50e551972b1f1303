//! Layer 5: the scheduler.

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::Client;

/// Starts scheduling in `tasks`.
pub fn start(_client: &Client, _clock: &SharedClock, _tasks: &TaskGroup) {}
