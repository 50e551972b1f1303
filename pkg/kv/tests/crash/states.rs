//! What power cuts leave, and whether that is right.

use std::path::Path;
use std::sync::Arc;

use kedge_base::VirtualClock;
use kedge_kv::{Contents, Embedded, Kv as _, Op, Txn};

use crate::disk::{Disk, Done, Image, Mark, apply, sectors};
use crate::history::{History, options};
use crate::model::{Entry, hash_all};
use crate::rng::Rng;

/// Variants of what is left at one place.
const VARIANTS: u64 = 6;
/// Every so many states the store is really opened and written to.
const OPENED: usize = 24;

/// What a power cut must not undo.
#[derive(Debug, Clone, Copy, Default)]
struct Promises {
    shown: u64,
    durable: usize,
}

/// What is on the disk for certain, and what is not yet.
struct Platter {
    durable: Image,
    writes: Vec<Done>,
    names: Vec<Done>,
}

impl Platter {
    fn holding(durable: Image) -> Self {
        Self { durable, writes: Vec::new(), names: Vec::new() }
    }

    fn take(&mut self, done: &Done) {
        match done {
            Done::Write { .. } | Done::SetLen { .. } => self.writes.push(done.clone()),
            Done::Create { file, .. } => {
                let files = &mut self.durable.files;
                files.resize((*file + 1).max(files.len()), Vec::new());
                self.names.push(done.clone());
            }
            Done::Rename { .. } | Done::Remove { .. } => self.names.push(done.clone()),
            Done::Sync { file } => {
                let (synced, rest): (Vec<Done>, Vec<Done>) =
                    self.writes.drain(..).partition(|write| file_of(write) == Some(*file));
                self.writes = rest;
                synced.iter().for_each(|write| apply(&mut self.durable, write));
            }
            Done::SyncDir => self.names.drain(..).for_each(|name| apply(&mut self.durable, &name)),
            Done::Mark(_) => {}
        }
    }

    fn is_settled(&self) -> bool {
        self.writes.is_empty() && self.names.is_empty()
    }

    fn power_cut(&self, variant: u64, rng: &mut Rng) -> Image {
        power_cut(&self.durable, &self.writes, &self.names, variant, rng)
    }
}

/// Walks through a history, and judges what power cuts leave after everything that was done. Returns how many states
/// there were, or the story of the first that is wrong.
pub async fn check(history: &History, seed: u64) -> Result<usize, String> {
    let mut rng = Rng(seed);
    let mut platter = Platter::holding(Image::default());
    let mut promises = Promises::default();
    let mut states = 0;
    for (position, done) in history.log.iter().enumerate() {
        platter.take(done);
        match done {
            Done::Mark(Mark::Shown(revision)) => promises.shown = promises.shown.max(*revision),
            Done::Mark(Mark::Promised(number)) => promises.durable = promises.durable.max(*number),
            _ => {}
        }
        for variant in 0..VARIANTS {
            let image = platter.power_cut(variant, &mut rng);
            let story = |what| format!("after {done:?} (step {position}, variant {variant}): {what}");
            let contents = judge(&image, &history.entries, position, promises).map_err(story)?;
            if states % OPENED == 0 {
                goes_on(image, contents, &mut rng).await.map_err(story)?;
            }
            states += 1;
            if platter.is_settled() {
                break;
            }
        }
    }
    Ok(states)
}

fn file_of(done: &Done) -> Option<usize> {
    match done {
        Done::Write { file, .. } | Done::SetLen { file, .. } => Some(*file),
        _ => None,
    }
}

fn power_cut(durable: &Image, writes: &[Done], names: &[Done], variant: u64, rng: &mut Rng) -> Image {
    // What is kept of writes and of names, in percent: first the extremes, then anything.
    let (keep_writes, keep_names) = match variant {
        0 => (0, 0),
        1 => (100, 100),
        2 => (0, 100),
        _ => ([20, 50, 80, 100][rng.below(4) as usize], [0, 50, 100][rng.below(3) as usize]),
    };
    let mut image = durable.clone();
    for write in writes {
        if matches!(write, Done::SetLen { .. }) && rng.below(100) >= keep_writes {
            continue;
        }
        sectors(write, rng, keep_writes).iter().for_each(|part| apply(&mut image, part));
    }
    for name in names {
        if rng.below(100) < keep_names {
            apply(&mut image, name);
        }
    }
    image
}

fn read(image: &Image) -> Result<Contents, String> {
    Embedded::read(&Disk::of(image.clone()), Path::new("/store"))
        .map_err(|err| format!("the store does not open: {err}"))
}

fn judge(image: &Image, entries: &[Entry], position: usize, promises: Promises) -> Result<Contents, String> {
    let contents = read(image)?;
    if contents.revision < promises.shown {
        return Err(format!("the revision went back from {} to {}", promises.shown, contents.revision));
    }
    // What was being written at the time may be there: that is what was shown next.
    let next = entries.iter().map(|entry| entry.position).find(|shown| *shown > position).unwrap_or(usize::MAX);
    let hash = hash_all(&contents.kvs);
    let possible = entries.iter().enumerate().filter(|(_, entry)| entry.position <= next && entry.hash == hash);
    match possible.map(|(number, _)| number).max() {
        None => return Err(format!("the state was never shown: {:?}", contents.kvs)),
        Some(number) if number < promises.durable => {
            return Err(format!("promised writes are lost: state {number} instead of {}", promises.durable));
        }
        Some(_) => {}
    }
    for kv in &contents.kvs {
        if kv.lease != 0 && contents.leases.iter().all(|lease| lease.id != kv.lease) {
            return Err(format!("{:?} has the lease {:x}, which is lost", kv.key, kv.lease));
        }
    }
    Ok(contents)
}

/// The store opens for writing and takes a write; and another power cut, at any time of that, undoes nothing.
async fn goes_on(image: Image, before: Contents, rng: &mut Rng) -> Result<(), String> {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let disk = Disk::of(image.clone());
    let kv = Embedded::open(options(&disk, &clock)).map_err(|err| format!("it does not open for writing: {err}"))?;
    let op = Op::Put { key: "/new".into(), value: "1".into(), lease: 0 };
    let result = kv.txn(Txn { success: vec![op], ..Txn::default() }).await.map_err(|err| err.to_string())?;
    disk.mark(Mark::Promised(1));
    drop(kv);
    if result.revision <= before.revision {
        return Err(format!("revision {} was given out twice", result.revision));
    }
    let mut after = before.clone();
    after.kvs.push(kv_at("/new", result.revision));
    after.kvs.sort_by(|a, b| a.key.cmp(&b.key));
    let mut platter = Platter::holding(image);
    let mut promised = false;
    for done in disk.log() {
        platter.take(&done);
        promised |= matches!(done, Done::Mark(Mark::Promised(_)));
        for variant in 0..4 {
            let contents = read(&platter.power_cut(variant, rng)).map_err(|what| format!("the second time, {what}"))?;
            let old = !promised && contents.kvs == before.kvs;
            if !(old || contents.kvs == after.kvs) || contents.leases != before.leases {
                return Err(format!("a second power cut changes something: after {done:?}"));
            }
            if contents.revision < before.revision {
                return Err("the revision goes back the second time".to_owned());
            }
        }
    }
    Ok(())
}

fn kv_at(key: &str, revision: u64) -> kedge_kv::KeyValue {
    kedge_kv::KeyValue {
        key: key.to_owned().into(),
        value: "1".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

/// A disk in the state that everything that was done left.
pub fn all_done(history: &History) -> Arc<Disk> {
    let mut image = Image::default();
    history.log.iter().for_each(|done| apply(&mut image, done));
    Arc::new(Disk::of(image))
}
