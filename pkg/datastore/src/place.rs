//! The place of the embedded store, `server/db`, while the store is opened, read from outside, or replaced.
//!
//! `kv` is the store; who uses it has its lock. `kv.new` is a complete one that is about to take its place, and
//! `kv.new.restoring` one that is being written. Whoever deals with these names has the lock of the directory above; a
//! server only until its store is open.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_kv::files::{Files as _, RealFiles};
use kedge_kv::{Contents, Embedded, Found, KeyValue};
use kedge_snapshot::State;
use tracing::{info, warn};

use crate::error::Error;
use crate::layout::Layout;
use crate::restore::{files, state};

/// What the names of stores begin with that were put aside.
const OLD: &str = "kv.old-";
/// Is in a store that a migration has written and that no server has opened yet.
const MIGRATED: &str = "migrated";
const MIGRATED_TEXT: &str = "Written by `kedge store migrate`; no server has used this store yet.\n";

/// The place, for this process alone: nobody opens the store meanwhile.
pub(crate) struct Place {
    layout: Layout,
    /// None when there was no store.
    store: Option<Box<dyn Any + Send>>,
    _directory: Box<dyn Any + Send>,
}

impl Place {
    /// Takes the place; it is made when it is missing.
    ///
    /// # Errors
    /// When a server uses the store.
    pub(crate) fn take(layout: &Layout) -> Result<Self, Error> {
        let directory = take_directory(layout, Unsound::Remove)?;
        let store = layout.store().exists().then(|| RealFiles.lock(&layout.store())).transpose()?;
        Ok(Self { layout: layout.clone(), store, _directory: directory })
    }

    /// Takes the place of a store that is there.
    ///
    /// # Errors
    /// [`Error::NoStore`] when there is none; when a server uses it.
    pub(crate) fn of_store(layout: &Layout) -> Result<Self, Error> {
        let missing = || Error::NoStore(layout.store());
        if !layout.db().exists() {
            return Err(missing());
        }
        let place = Self::take(layout)?;
        if place.store.is_none() {
            return Err(missing());
        }
        Ok(place)
    }

    /// What the store holds, with plain values; none when there is none.
    pub(crate) fn read(&self) -> Result<Option<State>, Error> {
        let dir = self.layout.store();
        if !dir.exists() {
            return Ok(None);
        }
        let State { revision, kvs, leases } = state(Embedded::read(&RealFiles, &dir)?);
        let kvs = kvs.into_iter().map(KeyValue::plain).collect::<Result<_, _>>()?;
        Ok(Some(State { revision, kvs, leases }))
    }

    /// The highest revision that the store, and those that were put aside before it, may have given out: as far as their
    /// files can be read, since a damaged store is a reason to restore one.
    pub(crate) fn highest(&self) -> Result<u64, Error> {
        let db = self.layout.db();
        let entries = std::fs::read_dir(&db).map_err(|e| Error::io("read", &db, e))?;
        let mut highest = 0;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &db, e))?;
            let path = entry.path();
            if path != self.layout.store() && !entry.file_name().to_string_lossy().starts_with(OLD) {
                continue;
            }
            let looked = kedge_kv::inspect(&RealFiles, &path, &mut |found| {
                highest = highest.max(match found {
                    Found::File { revision, .. }
                    | Found::Put { revision, .. }
                    | Found::Delete { revision, .. }
                    | Found::Ceiling { revision }
                    | Found::Closed { revision } => revision,
                    _ => 0,
                });
            });
            if let Err(err) = looked {
                warn!(path = %path.display(), error = %err, "cannot read what was here before; the restore goes on without");
            }
        }
        Ok(highest)
    }

    /// Whether the store is as a migration left it.
    pub(crate) fn is_migrated(&self) -> bool {
        self.layout.store().join(MIGRATED).exists()
    }

    /// Puts a new store in the place, whose revisions go on `bump` behind those of its contents. Returns where the one is
    /// that was there.
    ///
    /// # Errors
    /// When it cannot be written; then what was there is there again, and nothing is left of the new one.
    pub(crate) fn replace(
        &self,
        contents: &Contents,
        bump: u64,
        migrated: bool,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, Error> {
        let (new, had_store) = (self.layout.new_store(), self.layout.store().exists());
        let write = || {
            Embedded::restore(&files(), &new, contents, bump)?;
            if migrated { mark(&new) } else { Ok(()) }
        };
        let placed = write().and_then(|()| self.put_in_place(now));
        if placed.is_err() && (self.layout.store().exists() || !had_store) {
            // It must not be taken for the store later. The error to tell is the first one.
            let _ = remove(&new);
        }
        placed
    }

    fn put_in_place(&self, now: Timestamp) -> Result<Option<PathBuf>, Error> {
        let (parent, store, new) = (self.layout.db(), self.layout.store(), self.layout.new_store());
        let previous = store.exists().then(|| free_name(&parent, now));
        if let Some(old) = &previous {
            rename(&store, old)?;
        }
        if let Err(err) = rename(&new, &store) {
            if let Some(old) = &previous {
                rename(old, &store)?;
            }
            return Err(err);
        }
        sync(&parent)?;
        Ok(previous)
    }
}

/// Opens the store for a server.
///
/// # Errors
/// When another process has it; as the engine says.
pub(crate) fn open(layout: &Layout, options: kedge_kv::Options) -> Result<Embedded, Error> {
    let directory = take_directory(layout, Unsound::Refuse)?;
    unmark(&layout.store())?;
    let opened = Embedded::open(options)?;
    drop(directory);
    Ok(opened)
}

/// What becomes of a store that was to take the place and is damaged, while the earlier one has been put aside.
enum Unsound {
    /// Something is to be put in the place anyway.
    Remove,
    /// An empty store must not begin instead of it.
    Refuse,
}

fn take_directory(layout: &Layout, unsound: Unsound) -> Result<Box<dyn Any + Send>, Error> {
    let dir = layout.db();
    private_dir(layout.data_dir(), &dir)?;
    let lock = RealFiles.lock(&dir)?;
    tidy(layout, unsound)?;
    Ok(lock)
}

/// Makes a directory below the data directory that only this user can look into, with those between.
fn private_dir(data_dir: &Path, dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    // What runs in containers as another user passes through this one.
    std::fs::create_dir_all(data_dir).map_err(|e| Error::io("create", data_dir, e))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("create", dir, e))
}

/// Completes what was cut off after the old store had been put aside, and removes what was cut off before.
fn tidy(layout: &Layout, unsound: Unsound) -> Result<(), Error> {
    let (store, new) = (layout.store(), layout.new_store());
    let half = layout.half_store();
    if half.exists() {
        info!(path = %half.display(), "a restore was cut off before it had changed anything; what it left is removed");
        remove(&half)?;
    }
    if !new.exists() {
        return Ok(());
    }
    if !store.exists() && is_complete(&new)? {
        warn!(path = %new.display(), "a restore was cut off after the earlier store had been put aside; it is completed");
        rename(&new, &store)?;
        return sync(&layout.db());
    }
    if !store.exists() && matches!(unsound, Unsound::Refuse) {
        return Err(Error::HalfRestored { new, store });
    }
    info!(path = %new.display(), "a restore was cut off; what it left is removed");
    remove(&new)
}

/// Whether a directory holds a sound store: one that was restored begins with a checkpoint.
fn is_complete(dir: &Path) -> Result<bool, Error> {
    let mut checkpoint = false;
    let summary = kedge_kv::inspect(&RealFiles, dir, &mut |found| {
        checkpoint |= matches!(found, Found::File { checkpoint: true, .. });
    })?;
    Ok(checkpoint && summary.damaged == 0)
}

fn mark(store: &Path) -> Result<(), Error> {
    let path = store.join(MIGRATED);
    std::fs::write(&path, MIGRATED_TEXT).map_err(|e| Error::io("write", &path, e))?;
    sync(&path)?;
    sync(store)
}

/// From here on the store is a server's own, and no migration replaces it.
fn unmark(store: &Path) -> Result<(), Error> {
    let path = store.join(MIGRATED);
    match std::fs::remove_file(&path) {
        Ok(()) => sync(store),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        Err(err) => Err(Error::io("remove", &path, err)),
    }
}

/// A name for what was there before. Two restores within a second must not share one.
fn free_name(parent: &Path, now: Timestamp) -> PathBuf {
    let name = |n: usize| match n {
        0 => parent.join(format!("{OLD}{}", now.as_second())),
        n => parent.join(format!("{OLD}{}-{n}", now.as_second())),
    };
    (0..).map(name).find(|path| !path.exists()).unwrap_or_default()
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|e| Error::io("rename", from, e))
}

fn remove(dir: &Path) -> Result<(), Error> {
    std::fs::remove_dir_all(dir).map_err(|e| Error::io("remove", dir, e))
}

fn sync(path: &Path) -> Result<(), Error> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", path, e))
}
