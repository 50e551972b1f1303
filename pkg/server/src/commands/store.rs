//! `kedge store` and `kedge server --cluster-reset`.

use std::path::Path;

use kedge_base::{Shutdown, TaskGroup, system_clock};
use kedge_datastore::{Direction, Endpoint, Layout, Migrated, Restored, Tls};

use super::{CommandError, Reporter};

/// Replaces the embedded store by a snapshot.
///
/// # Errors
/// When the snapshot cannot be read or a server uses the store.
pub fn restore(data_dir: &Path, snapshot: &Path) -> Result<Restored, CommandError> {
    let mut reporter = Reporter::default();
    let mut told = |what: &str, done: usize, total: Option<usize>| reporter.told(what, done, total);
    Ok(kedge_datastore::restore(&Layout::new(data_dir), snapshot, system_clock().now(), &mut told)?)
}

/// Moves everything between the embedded store and an etcd.
///
/// # Errors
/// When one of them cannot be read or written, or is not empty; the same call again goes on.
pub async fn migrate(data_dir: &Path, endpoint: &Endpoint, tls: &Tls, to_etcd: bool) -> Result<Migrated, CommandError> {
    let clock = system_clock();
    let tasks = TaskGroup::new("migration", Shutdown::new());
    let etcd = kedge_datastore::connect(endpoint, tls, &clock, &tasks).await?;
    let direction = if to_etcd { Direction::ToEtcd(&*etcd) } else { Direction::FromEtcd(&*etcd) };
    let mut reporter = Reporter::default();
    let mut told = |what: &str, done: usize, total: Option<usize>| reporter.told(what, done, total);
    let name = endpoint.to_string();
    let migrated = kedge_datastore::migrate(&Layout::new(data_dir), direction, &name, clock.now(), &mut told).await;
    kedge_kv::Kv::close(&*etcd).await;
    Ok(migrated?)
}
