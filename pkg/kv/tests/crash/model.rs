//! What the store should hold: the states that observers saw, one after the other.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use kedge_kv::{Event, KeyValue, Observer, Snapshot};
use parking_lot::Mutex;

use crate::disk::{Disk, Mark};

/// A state after a commit.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// How much had been done to the disk when it was shown.
    pub position: usize,
    pub revision: u64,
    pub hash: u64,
}

#[derive(Default)]
struct State {
    kvs: BTreeMap<Bytes, KeyValue>,
    hash: u64,
    entries: Vec<Entry>,
}

/// Observes the store, and notes on the disk's log when what was shown.
pub struct Model {
    disk: Disk,
    state: Mutex<State>,
}

fn hash_of(kv: &KeyValue) -> u64 {
    let mut hasher = DefaultHasher::new();
    let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
    (key, value, create_revision, mod_revision, version, lease).hash(&mut hasher);
    hasher.finish()
}

/// The hash of a state; the order of keys does not matter.
pub fn hash_all<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> u64 {
    kvs.into_iter().fold(0, |hash, kv| hash ^ hash_of(kv))
}

impl Model {
    pub fn new(disk: Disk) -> Self {
        let model = Self { disk, state: Mutex::default() };
        model.note(0);
        model
    }

    fn note(&self, revision: u64) {
        let position = self.disk.log_len();
        let mut state = self.state.lock();
        let hash = state.hash;
        state.entries.push(Entry { position, revision, hash });
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.state.lock().entries.clone()
    }

    pub fn kvs(&self) -> BTreeMap<Bytes, KeyValue> {
        self.state.lock().kvs.clone()
    }

    /// The number of the state after the commit of a revision.
    pub fn number_of(&self, revision: u64) -> usize {
        let state = self.state.lock();
        state.entries.iter().rposition(|entry| entry.revision == revision).unwrap_or_default()
    }

    /// The number of the newest state.
    pub fn last(&self) -> usize {
        self.state.lock().entries.len() - 1
    }

    /// Takes over what a restarted store holds, when that may differ.
    pub fn adopt(&self, revision: u64, kvs: &[KeyValue]) {
        {
            let mut state = self.state.lock();
            state.hash = hash_all(kvs);
            state.kvs = kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect();
        }
        self.note(revision);
    }
}

impl Observer for Model {
    fn committed(&self, events: &[Event]) {
        let position = self.disk.log_len();
        let mut state = self.state.lock();
        for revision in events.chunk_by(|a, b| a.revision == b.revision) {
            for event in revision {
                let before = match &event.current {
                    Some(kv) => state.kvs.insert(event.key.clone(), kv.clone()),
                    None => state.kvs.remove(&event.key),
                };
                assert_eq!(before, event.previous, "an event names what was there before");
                state.hash ^= before.as_ref().map_or(0, hash_of) ^ event.current.as_ref().map_or(0, hash_of);
            }
            let entry = Entry { position, revision: revision[0].revision, hash: state.hash };
            assert!(state.entries.last().is_none_or(|last| last.revision < entry.revision), "revisions go up");
            state.entries.push(entry);
        }
        drop(state);
        if let Some(last) = events.last() {
            self.disk.mark(Mark::Shown(last.revision));
        }
    }

    fn reset(&self, _: Snapshot) {
        panic!("the embedded engine loses nothing");
    }
}
