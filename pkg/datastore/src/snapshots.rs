//! The directory of snapshots.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_kv::Embedded;
use kedge_snapshot::State;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::capture::capture;
use crate::error::Error;
use crate::place::Place;
use crate::restore::state;
use crate::{Layout, Progress, Store};

/// A directory of snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
    /// Part of the names, so that snapshots of several servers can be kept in one place.
    node: String,
}

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub name: String,
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub created: i64,
}

/// What names of snapshots on schedule begin with, as k3s has it.
pub const SCHEDULED: &str = "etcd-snapshot";
/// What names of snapshots on demand begin with.
pub const ON_DEMAND: &str = "on-demand";
/// The ending of a snapshot under way.
const PARTIAL: &str = ".part";
/// Seconds after which nobody writes to one any more.
const ABANDONED: i64 = 3_600;

impl Snapshots {
    /// The snapshots of a node in a directory.
    pub fn new(dir: PathBuf, node: &str) -> Self {
        Self { dir, node: node.to_owned() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Saves a store as `<name>-<node>-<seconds since 1970>`, while writes go on.
    ///
    /// # Errors
    /// When the store cannot be read or the file not written; then nothing is left of it.
    pub async fn save(
        &self,
        store: &Store,
        name: &str,
        now: Timestamp,
        progress: &mut Progress<'_>,
    ) -> Result<Saved, Error> {
        check_name(name)?;
        let state = match &store.embedded {
            Some(engine) => state(engine.contents()),
            None => capture(&*store.kv, progress).await?,
        };
        let total = state.kvs.len();
        let (written, mut told) = watch::channel(0);
        let (snapshots, name) = (self.clone(), name.to_owned());
        // A board has one core for everything; writing a file must not keep it from answering.
        let mut work = tokio::task::spawn_blocking(move || {
            snapshots.write(&state, &name, now, &mut |keys| {
                written.send_replace(keys);
            })
        });
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(|_| Error::Cancelled)?,
                Ok(()) = told.changed() => progress("keys written", *told.borrow_and_update(), Some(total)),
            }
        }
    }

    /// Saves the embedded store of a data directory that nobody has open.
    ///
    /// # Errors
    /// When a server uses the store, or as [`Snapshots::save`].
    pub fn save_offline(
        &self,
        layout: &Layout,
        name: &str,
        now: Timestamp,
        progress: &mut Progress<'_>,
    ) -> Result<Saved, Error> {
        check_name(name)?;
        let state = Place::of_store(layout)?.read()?.unwrap_or_default();
        let total = state.kvs.len();
        self.write(&state, name, now, &mut |keys| progress("keys written", keys, Some(total)))
    }

    /// A snapshot in a file that is gone when it is closed, and its size; read from its start.
    ///
    /// # Errors
    /// As [`Snapshots::save`].
    pub fn anonymous(&self, engine: &Embedded, name: &str) -> Result<(File, u64), Error> {
        create_dir(&self.dir)?;
        let path = self.dir.join(format!("{name}{PARTIAL}"));
        let fail = |source| Error::Snapshot { path: path.clone(), source };
        let written = kedge_snapshot::write(&path, &state(engine.contents()), &mut |_| {});
        let opened = File::open(&path);
        // Whatever came of it, nobody shall find it.
        std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        let summary = written.map_err(fail)?;
        Ok((opened.map_err(|e| Error::io("open", &path, e))?, summary.size))
    }

    fn write(
        &self,
        state: &State,
        name: &str,
        now: Timestamp,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Saved, Error> {
        create_dir(&self.dir)?;
        let name = format!("{name}-{}-{}", self.node, now.as_second());
        let path = self.dir.join(&name);
        let partial = self.dir.join(format!("{name}{PARTIAL}"));
        self.sweep(now)?;
        let summary = match kedge_snapshot::write(&partial, state, progress) {
            Ok(summary) => summary,
            Err(source) => {
                // Half a file is of no use; that it cannot be removed either changes nothing.
                let _ = std::fs::remove_file(&partial);
                return Err(Error::Snapshot { path, source });
            }
        };
        std::fs::rename(&partial, &path).map_err(|e| Error::io("rename", &partial, e))?;
        std::fs::File::open(&self.dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(Saved { name, path, size: summary.size, created: now.as_second() })
    }

    /// Removes what attempts that were cut off have left: nobody else ever would, and each may be as large as the store.
    fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        for entry in std::fs::read_dir(&self.dir).map_err(|e| Error::io("read", &self.dir, e))? {
            let path = entry.map_err(|e| Error::io("read", &self.dir, e))?.path();
            let partial = path.to_string_lossy().ends_with(PARTIAL);
            // What is being written right now is younger; what is gone meanwhile needs no removal.
            let written = path.metadata().ok().and_then(|meta| modified(&meta));
            if partial && written.is_some_and(|at| at + ABANDONED < now.as_second()) {
                match std::fs::remove_file(&path) {
                    Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("remove", &path, err));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Saved>, Error> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(Error::io("read", &self.dir, err)),
        };
        let mut saved = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &self.dir, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let meta = entry.metadata().map_err(|e| Error::io("read", &entry.path(), e))?;
            if !meta.is_file() || name.ends_with(PARTIAL) {
                continue;
            }
            let created = created(&name).or_else(|| modified(&meta)).unwrap_or_default();
            saved.push(Saved { name, path: entry.path(), size: meta.len(), created });
        }
        saved.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(saved)
    }

    /// Removes snapshots by name.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] for the first that is not there; those before it are gone.
    pub fn delete(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            check_name(name)?;
            let path = self.dir.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::NoSnapshot { name: name.clone(), dir: self.dir.clone() });
                }
                Err(err) => return Err(Error::io("remove", &path, err)),
            }
        }
        Ok(())
    }

    /// Keeps the newest `retention` snapshots of this node whose names begin with `name`; returns those that are gone.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub fn prune(&self, name: &str, retention: usize) -> Result<Vec<Saved>, Error> {
        check_name(name)?;
        let prefix = format!("{name}-{}-", self.node);
        let mut ours = self.list()?;
        ours.retain(|s| s.name.strip_prefix(&prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())));
        ours.truncate(ours.len().saturating_sub(retention));
        for old in &ours {
            std::fs::remove_file(&old.path).map_err(|e| Error::io("remove", &old.path, e))?;
        }
        Ok(ours)
    }
}

/// A name must not lead out of the directory.
fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ok = !name.is_empty() && name.len() <= 200 && name.chars().all(plain) && !name.starts_with('.');
    if ok { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

fn created(name: &str) -> Option<i64> {
    name.rsplit_once('-')?.1.parse().ok()
}

fn modified(meta: &std::fs::Metadata) -> Option<i64> {
    let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn create_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("create", dir, e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn touch(dir: &Path, name: &str) {
        std::fs::write(dir.join(name), "x").unwrap();
    }

    #[test]
    fn pruning_keeps_the_newest_of_this_node_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let names =
            ["etcd-snapshot-n1-1", "etcd-snapshot-n1-20", "etcd-snapshot-n1-3", "etcd-snapshot-n2-1", "on-demand-n1-1"];
        names.iter().for_each(|name| touch(dir.path(), name));
        touch(dir.path(), "etcd-snapshot-n1-40.part");
        let snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        let gone = snapshots.prune(SCHEDULED, 1).unwrap();
        assert_eq!(
            gone.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["etcd-snapshot-n1-1", "etcd-snapshot-n1-3"]
        );
        let left: Vec<String> = snapshots.list().unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(left, ["etcd-snapshot-n2-1", "on-demand-n1-1", "etcd-snapshot-n1-20"]);
    }

    #[test]
    fn names_do_not_lead_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().join("s"), "n1");
        assert!(matches!(snapshots.delete(&["../x".into()]), Err(Error::Name(_))));
        assert!(matches!(snapshots.delete(&["x".into()]), Err(Error::NoSnapshot { .. })));
        assert_eq!(snapshots.list().unwrap(), []);
    }

    #[test]
    fn what_was_cut_off_long_ago_goes_with_the_next_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), "etcd-snapshot-n1-1.part");
        let snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        let written = modified(&dir.path().join("etcd-snapshot-n1-1.part").metadata().unwrap()).unwrap();
        for (later, left) in [(0, 1), (ABANDONED + 1, 0)] {
            let now = Timestamp::from_second(written + later).unwrap();
            snapshots.write(&State::default(), ON_DEMAND, now, &mut |_| {}).unwrap();
            let partial = std::fs::read_dir(dir.path()).unwrap();
            let partial = partial.filter(|e| e.as_ref().unwrap().path().to_string_lossy().ends_with(PARTIAL));
            assert_eq!(partial.count(), left);
        }
    }
}
