//! Putting a snapshot in place of the embedded store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_kv::files::{Files, RealFiles};
use kedge_kv::{Contents, Lease};
use kedge_snapshot::State;

use crate::Progress;
use crate::error::Error;
use crate::layout::Layout;
use crate::place::Place;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// That of the snapshot.
    pub revision: u64,
    /// Where revisions go on.
    pub next: u64,
    pub keys: usize,
    /// Where what was there before is now.
    pub previous: Option<PathBuf>,
}

/// How far revisions go on behind those of the snapshot and of every store that was here, as etcd's guide to recovery has it:
/// whatever was given out lies below, so it is neither given out again nor taken for what it was.
const BUMP: u64 = 1_000_000_000;

/// Replaces the embedded store of a data directory by a snapshot. What was there is renamed. No server may run on it.
///
/// # Errors
/// When the snapshot cannot be read, or a server uses the store; then nothing has changed.
pub fn restore(
    layout: &Layout,
    snapshot: &Path,
    now: Timestamp,
    progress: &mut Progress<'_>,
) -> Result<Restored, Error> {
    // Where nothing is, nothing is made before the snapshot has been read.
    let place = layout.db().exists().then(|| Place::take(layout)).transpose()?;
    let read = kedge_snapshot::read(snapshot, &mut |records| progress("records read", records, None));
    let (state, _) = read.map_err(|source| Error::Snapshot { path: snapshot.to_owned(), source })?;
    let place = place.map_or_else(|| Place::take(layout), Ok)?;
    let (revision, keys) = (state.revision, state.kvs.len());
    progress("keys written", 0, Some(keys));
    let bump = place.highest()?.saturating_sub(revision).saturating_add(BUMP);
    let previous = place.replace(&contents(state), bump, false, now)?;
    progress("keys written", keys, Some(keys));
    Ok(Restored { revision, next: revision + bump, keys, previous })
}

pub(crate) fn files() -> Arc<dyn Files> {
    Arc::new(RealFiles)
}

/// What a snapshot holds, as an engine has it: nothing before it can be read.
pub(crate) fn contents(state: State) -> Contents {
    let lease = |(id, seconds)| Lease { id, ttl: Duration::from_secs(seconds) };
    let leases = state.leases.into_iter().map(lease).collect();
    Contents { revision: state.revision, compacted: state.revision, kvs: state.kvs, leases }
}

/// What an engine holds, as a snapshot has it.
pub(crate) fn state(contents: Contents) -> State {
    let leases = contents.leases.into_iter().map(|lease| (lease.id, lease.ttl.as_secs())).collect();
    State { revision: contents.revision, kvs: contents.kvs, leases }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
