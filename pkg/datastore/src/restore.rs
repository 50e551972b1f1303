//! Putting a snapshot in place of the embedded store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_kv::files::{Files, RealFiles};
use kedge_kv::{Contents, Embedded, Lease};
use kedge_snapshot::State;

use crate::Progress;
use crate::error::Error;
use crate::layout::Layout;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub revision: u64,
    pub keys: usize,
    /// Where what was there before is now.
    pub previous: Option<PathBuf>,
}

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
    let read = kedge_snapshot::read(snapshot, &mut |records| progress("records read", records, None));
    let (state, _) = read.map_err(|source| Error::Snapshot { path: snapshot.to_owned(), source })?;
    replace(layout, state, now, progress)
}

/// Replaces the embedded store by a state.
pub(crate) fn replace(
    layout: &Layout,
    state: State,
    now: Timestamp,
    progress: &mut Progress<'_>,
) -> Result<Restored, Error> {
    let target = layout.store();
    let (parent, new) = places(&target);
    std::fs::create_dir_all(&parent).map_err(|e| Error::io("create", &parent, e))?;
    finish_interrupted(layout)?;
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(|e| Error::io("remove", &new, e))?;
    }
    let (revision, keys) = (state.revision, state.kvs.len());
    progress("keys written", 0, Some(keys));
    Embedded::restore(&files(), &new, &contents(state), 0)?;
    progress("keys written", keys, Some(keys));
    let mut previous = None;
    if target.exists() {
        // Held until the rename: a server that runs on the store refuses this.
        let lock = RealFiles.lock(&target)?;
        let old = free_name(&parent, now);
        std::fs::rename(&target, &old).map_err(|e| Error::io("rename", &target, e))?;
        drop(lock);
        previous = Some(old);
    }
    put_in_place(&parent, &new, &target)?;
    Ok(Restored { revision, keys, previous })
}

/// A name for what was there before. Two restores within a second must not share one.
fn free_name(parent: &Path, now: Timestamp) -> PathBuf {
    let name = |n: usize| match n {
        0 => parent.join(format!("kv.old-{}", now.as_second())),
        n => parent.join(format!("kv.old-{}-{n}", now.as_second())),
    };
    (0..).map(name).find(|path| !path.exists()).unwrap_or_default()
}

fn places(target: &Path) -> (PathBuf, PathBuf) {
    let parent = target.parent().unwrap_or(target).to_owned();
    let new = parent.join("kv.new");
    (parent, new)
}

/// A restore that was cut off after the old store had been put aside is completed: the new one is whole.
pub(crate) fn finish_interrupted(layout: &Layout) -> Result<(), Error> {
    let target = layout.store();
    let (parent, new) = places(&target);
    if new.exists() && !target.exists() {
        put_in_place(&parent, &new, &target)?;
    }
    Ok(())
}

fn put_in_place(parent: &Path, new: &Path, target: &Path) -> Result<(), Error> {
    std::fs::rename(new, target).map_err(|e| Error::io("rename", new, e))?;
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", parent, e))
}

fn files() -> Arc<dyn Files> {
    Arc::new(RealFiles)
}

fn contents(state: State) -> Contents {
    let lease = |(id, seconds)| Lease { id, ttl: Duration::from_secs(seconds) };
    let leases = state.leases.into_iter().map(lease).collect();
    Contents { revision: state.revision, compacted: state.revision, kvs: state.kvs, leases }
}

/// What an engine holds, as a snapshot has it.
pub(crate) fn state(contents: Contents) -> State {
    let leases = contents.leases.into_iter().map(|lease| (lease.id, lease.ttl.as_secs())).collect();
    State { revision: contents.revision, kvs: contents.kvs, leases }
}

/// The state of an embedded store that nobody has open.
pub(crate) fn read_offline(layout: &Layout) -> Result<State, Error> {
    finish_interrupted(layout)?;
    Ok(state(Embedded::read(&RealFiles, &layout.store())?))
}
