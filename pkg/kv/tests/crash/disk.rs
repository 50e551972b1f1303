//! A disk in memory that remembers everything that was done to it, and can say what a power cut would leave.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kedge_kv::Error;
use kedge_kv::files::{Files, ReadFile, WriteFile};
use parking_lot::Mutex;

use crate::rng::Rng;

/// A disk writes so much as a whole.
const SECTOR: usize = 512;

/// What was done, in order.
#[derive(Debug, Clone)]
pub enum Done {
    Write {
        file: usize,
        offset: usize,
        data: Vec<u8>,
    },
    SetLen {
        file: usize,
        len: usize,
    },
    Sync {
        file: usize,
    },
    Create {
        name: String,
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncDir,
    /// Not of the disk: the test notes that something has been shown or promised.
    Mark(Mark),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Somebody was shown this revision.
    Shown(u64),
    /// The state with this number in the model, and so all before it, was promised to be durable.
    Promised(usize),
}

/// The places in the engine that make something durable, as far as the disk can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncSite {
    /// A group commit.
    Commit,
    /// The header of a new segment.
    NewSegment,
    /// The directory after a new segment.
    NewSegmentName,
    /// The end of a segment that is full.
    EndOfSegment,
    /// The segment that is gone on with after opening.
    Reopened,
    /// The directory at opening.
    OpenedDir,
    /// A checkpoint.
    Checkpoint,
    /// The directory after a checkpoint got its name.
    CheckpointName,
}

impl SyncSite {
    pub const ALL: [Self; 8] = [
        Self::Commit,
        Self::NewSegment,
        Self::NewSegmentName,
        Self::EndOfSegment,
        Self::Reopened,
        Self::OpenedDir,
        Self::Checkpoint,
        Self::CheckpointName,
    ];
}

/// When calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed at this call: nothing happens any more.
    KilledAt(usize),
    /// … at the first sync of this kind.
    KilledBefore(SyncSite),
    /// This call fails; half of a write may have happened.
    FailsAt(usize, io::ErrorKind),
    /// This call and all after it fail.
    FailsFrom(usize, io::ErrorKind),
}

/// A file's content, or a directory's, as the running system sees it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub names: BTreeMap<String, usize>,
    pub files: Vec<Vec<u8>>,
}

#[derive(Default)]
struct State {
    live: Image,
    log: Vec<Done>,
    /// How each file stands with syncs.
    fresh: HashSet<usize>,
    cut: HashSet<usize>,
    reopened: HashSet<usize>,
    ignored: Option<SyncSite>,
    fault: Option<Fault>,
    calls: usize,
    failed: bool,
    dead: bool,
    /// The last change of the directory that was not synced.
    changed: Option<SyncSite>,
}

/// The disk, with one directory.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk that holds an image, all of it durable.
    pub fn of(image: Image) -> Self {
        Self(Arc::new(Mutex::new(State { live: image, ..State::default() })))
    }

    /// From now on syncs of this kind do nothing.
    pub fn ignore(&self, site: Option<SyncSite>) {
        self.0.lock().ignored = site;
    }

    /// Sets a fault for calls from now on. The process that had the disk before is gone.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.0.lock();
        state.fault = fault;
        state.calls = 0;
        state.failed = false;
        state.dead = false;
        state.changed = None;
        state.fresh.clear();
        state.cut.clear();
        state.reopened.clear();
    }

    pub fn mark(&self, mark: Mark) {
        self.0.lock().log.push(Done::Mark(mark));
    }

    pub fn log(&self) -> Vec<Done> {
        self.0.lock().log.clone()
    }

    pub fn log_len(&self) -> usize {
        self.0.lock().log.len()
    }

    /// What the running system sees.
    pub fn image(&self) -> Image {
        self.0.lock().live.clone()
    }

    /// Whether a call has failed since the fault was set.
    pub fn has_failed(&self) -> bool {
        self.0.lock().failed
    }

    pub fn calls(&self) -> usize {
        self.0.lock().calls
    }
}

impl State {
    /// Counts a call; fails when it is to fail. `site` when it is a sync.
    fn call(&mut self, site: Option<SyncSite>) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        let killed = || io::Error::other("the process is gone");
        if self.dead {
            return Err(killed());
        }
        let err = match self.fault {
            Some(Fault::KilledAt(at)) if call >= at => killed(),
            Some(Fault::KilledBefore(at)) if site == Some(at) => killed(),
            Some(Fault::FailsAt(at, kind)) if call == at => kind.into(),
            Some(Fault::FailsFrom(at, kind)) if call >= at => kind.into(),
            _ => return Ok(()),
        };
        self.dead |= matches!(self.fault, Some(Fault::KilledAt(_) | Fault::KilledBefore(_)));
        self.failed = true;
        Err(err)
    }

    fn done(&mut self, done: Done) {
        apply(&mut self.live, &done);
        self.log.push(done);
    }
}

/// Does to an image what was done; syncs do nothing.
pub fn apply(image: &mut Image, done: &Done) {
    match done {
        Done::Write { file, offset, data } => {
            let content = &mut image.files[*file];
            if content.len() < offset + data.len() {
                content.resize(offset + data.len(), 0);
            }
            content[*offset..offset + data.len()].copy_from_slice(data);
        }
        Done::SetLen { file, len } => image.files[*file].resize(*len, 0),
        Done::Create { name, file } => {
            if image.files.len() <= *file {
                image.files.resize(*file + 1, Vec::new());
            }
            image.names.insert(name.clone(), *file);
        }
        Done::Rename { from, to } => {
            if let Some(file) = image.names.remove(from) {
                image.names.insert(to.clone(), file);
            }
        }
        Done::Remove { name } => drop(image.names.remove(name)),
        Done::Sync { .. } | Done::SyncDir | Done::Mark(_) => {}
    }
}

/// The parts of a write that the disk does as a whole.
pub fn sectors(done: &Done, rng: &mut Rng, keep: u64) -> Vec<Done> {
    let Done::Write { file, offset, data } = done else { return vec![done.clone()] };
    let mut parts = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let end = (((offset + start) / SECTOR + 1) * SECTOR - offset).min(data.len());
        if rng.below(100) < keep {
            parts.push(Done::Write { file: *file, offset: offset + start, data: data[start..end].to_vec() });
        }
        start = end;
    }
    parts
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

struct Open {
    disk: Disk,
    file: usize,
}

impl WriteFile for Open {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let (file, offset) = (self.file, offset as usize);
        if let Err(err) = state.call(None) {
            // A system gives up between two sectors, never within one.
            let half = ((offset + data.len() / 2) / SECTOR * SECTOR).saturating_sub(offset);
            if !state.dead && half > 0 {
                state.done(Done::Write { file, offset, data: data[..half].to_vec() });
            }
            return Err(err);
        }
        state.done(Done::Write { file, offset, data: data.to_vec() });
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.call(None)?;
        state.cut.insert(self.file);
        state.done(Done::SetLen { file: self.file, len: len as usize });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let file = self.file;
        let is_checkpoint = state.live.names.iter().any(|(name, at)| *at == file && name.ends_with(".tmp"));
        let (fresh, cut, reopened) = (state.fresh.remove(&file), state.cut.remove(&file), state.reopened.remove(&file));
        let site = match () {
            () if is_checkpoint => SyncSite::Checkpoint,
            () if fresh => SyncSite::NewSegment,
            () if reopened => SyncSite::Reopened,
            () if cut => SyncSite::EndOfSegment,
            () => SyncSite::Commit,
        };
        state.call(Some(site))?;
        if state.ignored != Some(site) {
            state.done(Done::Sync { file });
        }
        Ok(())
    }
}

struct Reading(Vec<u8>);

impl ReadFile for Reading {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl Files for Disk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.0.lock().call(None)
    }

    fn lock(&self, dir: &Path) -> Result<Box<dyn Any + Send>, Error> {
        let failed = |e| Error::Io { action: "cannot lock", path: PathBuf::from(dir), source: Arc::new(e) };
        self.0.lock().call(None).map_err(failed)?;
        Ok(Box::new(()))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.call(None)?;
        Ok(state.live.names.keys().cloned().collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let mut state = self.0.lock();
        state.call(None)?;
        let file = *state.live.names.get(&name(path)).ok_or_else(missing)?;
        Ok(Box::new(Reading(state.live.files[file].clone())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.0.lock();
        state.call(None)?;
        let name = name(path);
        if state.live.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.live.files.len();
        if name.ends_with(".log") {
            state.fresh.insert(file);
            state.changed = Some(SyncSite::NewSegmentName);
        }
        state.done(Done::Create { name, file });
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.0.lock();
        state.call(None)?;
        let file = *state.live.names.get(&name(path)).ok_or_else(missing)?;
        state.reopened.insert(file);
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        if !state.live.names.contains_key(&name(from)) {
            return Err(missing());
        }
        state.changed = Some(SyncSite::CheckpointName);
        state.done(Done::Rename { from: name(from), to: name(to) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        if !state.live.names.contains_key(&name(path)) {
            return Err(missing());
        }
        state.done(Done::Remove { name: name(path) });
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        self.0.lock().call(None)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        // A checkpoint may be written at the same time as a segment is begun; whichever syncs first is taken for the
        // one that changed the directory last.
        let site = state.changed.take().unwrap_or(SyncSite::OpenedDir);
        state.call(Some(site))?;
        if state.ignored != Some(site) {
            state.done(Done::SyncDir);
        }
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}
