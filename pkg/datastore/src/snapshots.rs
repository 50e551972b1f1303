//! The directory of snapshots.

use std::fs::File;
use std::io::Seek as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_kv::files::{Files as _, RealFiles};
use kedge_kv::{Embedded, LOW_SPACE};
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
    /// Bytes of the file system that are left to others: the store refuses writes below that.
    spared: u64,
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
/// Bytes of a snapshot that a key takes beside itself and its value.
const ELEMENT: usize = 80;
/// Bytes of a page.
const PAGE: u64 = 4_096;
/// Bytes of the pages that every snapshot has.
const AROUND: u64 = 64 << 10;
/// Seconds after which nobody writes to one any more.
const ABANDONED: i64 = 3_600;

impl Snapshots {
    /// The snapshots of a node in a directory.
    pub fn new(dir: PathBuf, node: &str) -> Self {
        Self { dir, node: node.to_owned(), spared: LOW_SPACE }
    }

    /// Those in another directory, or of another node.
    #[must_use]
    pub fn in_place(&self, dir: Option<PathBuf>, node: Option<String>) -> Self {
        let (dir, node) = (dir.unwrap_or_else(|| self.dir.clone()), node.unwrap_or_else(|| self.node.clone()));
        Self { dir, node, spared: self.spared }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Saves a store as `<name>-<node>-<seconds since 1970>`, while writes go on. Of several within a second the later ones
    /// are named for the seconds that follow.
    ///
    /// # Errors
    /// When the store cannot be read, the file not written, or there is too little space; then nothing is left of it.
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
        let work = kedge_base::blocking::unbounded("snapshot", move || {
            snapshots.write(&state, &name, now, &mut |keys| {
                written.send_replace(keys);
            })
        });
        tokio::pin!(work);
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
        let state = state(engine.contents());
        self.check_space(&state)?;
        let path = self.dir.join(format!("{name}{PARTIAL}"));
        let file = create_file(&path).map_err(|e| Error::io("create", &path, e))?;
        // From the start nobody shall find it; a process that is killed leaves nothing either.
        std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        let mut reader = file.try_clone().map_err(|e| Error::io("open", &path, e))?;
        let written = kedge_snapshot::write_to(file, &path, &state, &mut |_| {});
        let summary = written.map_err(|source| Error::Snapshot { path: path.clone(), source })?;
        reader.rewind().map_err(|e| Error::io("read", &path, e))?;
        Ok((reader, summary.size))
    }

    fn write(
        &self,
        state: &State,
        name: &str,
        now: Timestamp,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Saved, Error> {
        check_name(&self.node)?;
        create_dir(&self.dir)?;
        self.sweep(now)?;
        self.check_space(state)?;
        let Reserved { file, partial, name, created } = self.reserve(name, now)?;
        let path = self.dir.join(&name);
        // Half a file is of no use; that it cannot be removed either changes nothing.
        let give_up = || drop(std::fs::remove_file(&partial));
        let summary = kedge_snapshot::write_to(file, &partial, state, progress).map_err(|source| {
            give_up();
            Error::Snapshot { path: path.clone(), source }
        })?;
        std::fs::rename(&partial, &path).map_err(|e| {
            give_up();
            Error::io("rename", &partial, e)
        })?;
        std::fs::File::open(&self.dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(Saved { name, path, size: summary.size, created })
    }

    /// A name that no other snapshot has or is about to get, also not one that another process writes.
    fn reserve(&self, name: &str, now: Timestamp) -> Result<Reserved, Error> {
        let mut created = now.as_second();
        loop {
            let name = format!("{name}-{}-{created}", self.node);
            let partial = self.dir.join(format!("{name}{PARTIAL}"));
            let fail = |e| Error::io("create", &partial, e);
            match create_file(&partial) {
                Ok(file) if !self.dir.join(&name).exists() => return Ok(Reserved { file, partial, name, created }),
                Ok(_) => std::fs::remove_file(&partial).map_err(|e| Error::io("remove", &partial, e))?,
                Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(fail(err)),
            }
            created += 1;
        }
    }

    /// Refuses what would leave the file system too little.
    fn check_space(&self, state: &State) -> Result<(), Error> {
        let needed = estimate(state);
        let free = RealFiles.free_space(&self.dir).map_err(|e| Error::io("tell the free space of", &self.dir, e))?;
        if free.saturating_sub(needed) >= self.spared {
            return Ok(());
        }
        Err(Error::NoSpace { dir: self.dir.clone(), needed: needed >> 20, free: free >> 20, spared: self.spared >> 20 })
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

/// A snapshot that is about to be written.
struct Reserved {
    file: File,
    partial: PathBuf,
    name: String,
    created: i64,
}

/// About how many bytes a snapshot takes: keys fill pages, and what finds no room on one begins the next.
fn estimate(state: &State) -> u64 {
    let element = |kv: &kedge_kv::KeyValue| match (kv.key.len() + kedge_packed::plain_len(&kv.value) + ELEMENT) as u64 {
        size if size > PAGE => size.next_multiple_of(PAGE),
        size => PAGE / (PAGE / size),
    };
    let held: u64 = state.kvs.iter().map(element).sum();
    held + held / 16 + AROUND
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

/// A new file that only this user can read; it must not exist.
fn create_file(path: &Path) -> std::io::Result<File> {
    File::options().create_new(true).read(true).write(true).mode(0o600).open(path)
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

    /// What is in the directory, sorted.
    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn every_snapshot_has_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        let now = Timestamp::from_second(modified(&dir.path().metadata().unwrap()).unwrap()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let snapshots = snapshots.clone();
                std::thread::spawn(move || snapshots.write(&State::default(), ON_DEMAND, now, &mut |_| {}).unwrap())
            })
            .collect();
        let mut saved: Vec<Saved> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for _ in 0..2 {
            saved.push(snapshots.write(&State::default(), ON_DEMAND, now, &mut |_| {}).unwrap());
        }
        saved.sort_by_key(|saved| saved.created);
        assert_eq!(saved, snapshots.list().unwrap());
        assert_eq!(saved.len(), 6);
        // Another process is at it: its file is left alone, and so is the snapshot that it becomes.
        let next = now.as_second() + 100;
        let theirs = format!("on-demand-n1-{next}{PARTIAL}");
        touch(dir.path(), &theirs);
        let ours =
            snapshots.write(&State::default(), ON_DEMAND, Timestamp::from_second(next).unwrap(), &mut |_| {}).unwrap();
        assert_eq!(ours.created, next + 1);
        assert_eq!(std::fs::read_to_string(dir.path().join(theirs)).unwrap(), "x");
    }

    #[test]
    fn a_snapshot_leaves_the_store_its_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        snapshots.spared = RealFiles.free_space(dir.path()).unwrap() + (1 << 30);
        let now = Timestamp::from_second(5).unwrap();
        let refused = snapshots.write(&State::default(), ON_DEMAND, now, &mut |_| {}).unwrap_err();
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        let engine = Embedded::memory(kedge_base::system_clock()).unwrap();
        assert!(matches!(snapshots.anonymous(&engine, "x"), Err(Error::NoSpace { .. })));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_file_for_a_stream_is_never_found_and_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        let engine = Embedded::memory(kedge_base::system_clock()).unwrap();
        let (mut file, size) = snapshots.anonymous(&engine, "x").unwrap();
        assert!(names(dir.path()).is_empty());
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut read).unwrap();
        assert_eq!(read.len() as u64, size);
        touch(dir.path(), "y.part");
        assert!(snapshots.anonymous(&engine, "y").is_err());
        assert_eq!(names(dir.path()), ["y.part"]);
    }

    #[test]
    fn the_size_of_a_snapshot_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().to_owned(), "n1");
        for (count, size) in [(0, 0), (3_000, 10), (2_000, 2_500), (300, 20_000), (3, 1 << 20)] {
            let kv = |i: u64| kedge_kv::KeyValue {
                key: format!("/registry/pods/default/pod-{i:06}").into(),
                value: vec![b'x'; size].into(),
                create_revision: i + 2,
                mod_revision: i + 2,
                version: 1,
                lease: 0,
            };
            let state = State { revision: count + 2, kvs: (0..count).map(kv).collect(), leases: Vec::new() };
            let saved = snapshots.write(&state, ON_DEMAND, Timestamp::from_second(9).unwrap(), &mut |_| {}).unwrap();
            let estimated = estimate(&state);
            assert!(saved.size <= estimated, "{count} of {size} bytes: {} > {estimated}", saved.size);
            assert!(
                estimated <= saved.size * 3 / 2 + 2 * AROUND,
                "{count} of {size} bytes: {} ≪ {estimated}",
                saved.size
            );
        }
    }

    #[test]
    fn a_node_does_not_lead_out_of_the_directory_either() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().join("s"), "n1").in_place(None, Some("../n1".into()));
        let refused = snapshots.write(&State::default(), ON_DEMAND, Timestamp::UNIX_EPOCH, &mut |_| {});
        assert!(matches!(refused, Err(Error::Name(_))));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn where_no_store_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (snapshots, layout) = (Snapshots::new(dir.path().join("s"), "n1"), Layout::new(&dir.path().join("data")));
        let refused = snapshots.save_offline(&layout, ON_DEMAND, Timestamp::UNIX_EPOCH, &mut |_, _, _| {}).unwrap_err();
        assert_eq!(refused.to_string(), format!("there is no store at {}", layout.store().display()));
        assert!(names(dir.path()).is_empty());
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
