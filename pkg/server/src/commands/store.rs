//! `kedge store` and `kedge server --cluster-reset`.

use std::io::Write;
use std::path::{Path, PathBuf};

use kedge_base::{SharedClock, Shutdown, TaskGroup, system_clock};
use kedge_datastore::{Direction, Endpoint, Layout, Migrated, Restored, Tls};
use kedge_kv::files::RealFiles;
use kedge_kv::{Found, Kv};

use super::shared_identity::SharedIdentity;
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

/// What is moved, and where to.
pub struct MigrateCommand {
    pub data_dir: PathBuf,
    pub endpoint: Endpoint,
    pub tls: Tls,
    pub to_etcd: bool,
    /// The cluster's token; none for the one in the data directory.
    pub token: Option<String>,
}

/// Moves everything between the embedded store and an etcd, with the authorities and encryption keys of the cluster.
///
/// # Errors
/// When one of them cannot be read or written, is used or is not empty; the same call again goes on.
pub async fn migrate(command: &MigrateCommand) -> Result<Migrated, CommandError> {
    let clock = system_clock();
    let tasks = TaskGroup::new("migration", Shutdown::new());
    let etcd = kedge_datastore::connect(&command.endpoint, &command.tls, &clock, &tasks).await?;
    let migrated = migrate_with(command, &*etcd, &clock).await;
    etcd.close().await;
    migrated
}

async fn migrate_with(command: &MigrateCommand, etcd: &dyn Kv, clock: &SharedClock) -> Result<Migrated, CommandError> {
    let mut reporter = Reporter::default();
    let mut told = |what: &str, done: usize, total: Option<usize>| reporter.told(what, done, total);
    let MigrateCommand { data_dir, endpoint, to_etcd, .. } = command;
    let (layout, name, token) = (Layout::new(data_dir), endpoint.to_string(), command.token.as_deref());
    let shared;
    let mut place;
    let direction = if *to_etcd {
        let identity = SharedIdentity::of_directory(data_dir, token)?;
        let identity = match identity {
            Some(identity) => Some(identity.seal().await?.into()),
            None => None,
        };
        Direction::ToEtcd { etcd, identity }
    } else {
        shared = SharedIdentity::of_etcd(etcd, data_dir, token).await?;
        place = || match &shared {
            Some(shared) => shared.place(data_dir, clock).map_err(Into::into),
            None => Ok(()),
        };
        Direction::FromEtcd { etcd, identity: &mut place }
    };
    Ok(kedge_datastore::migrate(&layout, direction, &name, clock.now(), &mut told).await?)
}

/// Prints what the files of the embedded store hold: every file, with `records` also everything in it. A server may run.
///
/// # Errors
/// When the files cannot be read, or are damaged; what is damaged is printed.
pub fn inspect(data_dir: &Path, records: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let dir = Layout::new(data_dir).store();
    if !dir.exists() {
        return Err(kedge_datastore::Error::NoStore(dir).into());
    }
    let mut printed = Ok(());
    let summary = kedge_kv::inspect(&RealFiles, &dir, &mut |found| {
        if printed.is_ok() {
            printed = print(&found, records, out);
        }
    })?;
    printed?;
    let kedge_kv::Summary { files, frames, records, bytes, damaged } = summary;
    writeln!(out, "{files} files, {frames} frames, {records} records, {bytes} bytes")?;
    match (files, damaged) {
        (0, 0) => Err(CommandError::NoStore(dir)),
        (_, 0) => Ok(()),
        _ => Err(CommandError::Damaged(damaged)),
    }
}

fn print(found: &Found, records: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match found {
        Found::File { path, checkpoint, revision, bytes, .. } => {
            let kind = if *checkpoint { "checkpoint" } else { "segment" };
            writeln!(out, "{}: {kind} from revision {revision}, {bytes} bytes", path.display())
        }
        Found::End { offset } => writeln!(out, "  sound up to its end at byte {offset}"),
        Found::Unfinished { offset, what } => {
            writeln!(out, "  an unfinished write at byte {offset} ({what}); it was never acknowledged")
        }
        Found::Damaged(err @ kedge_kv::Error::Version { .. }) => writeln!(out, "  OF ANOTHER VERSION: {err}"),
        Found::Damaged(err) => writeln!(out, "  DAMAGED: {err}"),
        _ if !records => Ok(()),
        Found::Frame { offset, bytes, check } => {
            writeln!(out, "  frame at byte {offset}, {bytes} bytes, check {check:08x}")
        }
        Found::Put { revision, key, value, create_revision, version, lease } => {
            let lease = if *lease == 0 { String::new() } else { format!(", lease {lease:x}") };
            let (key, size) = (text(key), value.len());
            writeln!(
                out,
                "    {revision} put {key}, {size} bytes, created at {create_revision}, version {version}{lease}"
            )
        }
        Found::Delete { revision, key } => writeln!(out, "    {revision} delete {}", text(key)),
        Found::Grant { lease, seconds } => writeln!(out, "    grant lease {lease:x} for {seconds} s"),
        Found::Revoke { lease } => writeln!(out, "    revoke lease {lease:x}"),
        Found::Compaction { revision } => writeln!(out, "    compacted at {revision}"),
        Found::Ceiling { revision } => writeln!(out, "    no revision above {revision} has been given out"),
        Found::Closed { revision } => writeln!(out, "    closed at {revision}"),
        Found::Continued => writeln!(out, "    another segment follows"),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
