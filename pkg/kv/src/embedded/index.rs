//! The state in memory: for every key its versions, as far back as the history goes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::format::Change;
use crate::api::{Event, KeyRange, KeyValue, LeaseId, Range, RangeResult};
use crate::error::Error;

#[derive(Debug, Clone)]
struct Version {
    /// None: the key was deleted.
    value: Option<Bytes>,
    revision: u64,
    create_revision: u64,
    version: u64,
    lease: LeaseId,
}

/// The newest version of a key, and older ones, oldest first, that the history still needs.
#[derive(Debug)]
struct Versions {
    latest: Version,
    older: Vec<Version>,
}

impl Versions {
    fn at(&self, revision: u64) -> Option<&Version> {
        if self.latest.revision <= revision {
            return Some(&self.latest);
        }
        self.older.iter().rev().find(|v| v.revision <= revision)
    }
}

/// A change that the history still knows.
#[derive(Debug)]
struct Past {
    revision: u64,
    key: Bytes,
    /// Whether it replaced something, which goes when the history begins later.
    replaced: bool,
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Versions>,
    revision: u64,
    compacted: u64,
    history: VecDeque<Past>,
    live_bytes: u64,
}

impl Version {
    fn key_value(&self, key: &Bytes, keys_only: bool) -> Option<KeyValue> {
        let value = self.value.as_ref()?;
        Some(KeyValue {
            key: key.clone(),
            value: if keys_only { Bytes::new() } else { value.clone() },
            create_revision: self.create_revision,
            mod_revision: self.revision,
            version: self.version,
            lease: self.lease,
        })
    }
}

impl Index {
    /// An empty index at a revision; nothing before `compacted` can be read.
    pub(super) fn at(revision: u64, compacted: u64) -> Self {
        Self { revision, compacted, ..Self::default() }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Bytes of all keys and current values.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        versions.latest.key_value(key, false)
    }

    /// Whether a revision can be read.
    pub(super) fn readable(&self, revision: u64) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision { requested: revision, current: self.revision });
        }
        if revision < self.compacted {
            return Err(Error::Compacted { requested: revision, compacted: self.compacted });
        }
        Ok(())
    }

    pub(super) fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let revision = range.revision.unwrap_or(self.revision);
        self.readable(revision)?;
        let (mut kvs, mut count) = (Vec::new(), 0);
        let mut take = |key: &Bytes, versions: &Versions| {
            let Some(version) = versions.at(revision).filter(|v| v.value.is_some()) else { return };
            count += 1;
            if !range.count_only && (range.limit == 0 || kvs.len() < range.limit) {
                kvs.extend(version.key_value(key, range.keys_only));
            }
        };
        if range.keys.is_single() {
            if let Some((key, versions)) = self.keys.get_key_value(&range.keys.start) {
                take(key, versions);
            }
        } else if !range.keys.is_empty() {
            self.keys.range(range.keys.bounds()).for_each(|(key, versions)| take(key, versions));
        }
        Ok(RangeResult { kvs, revision, count })
    }

    /// What the keys of a range hold now, in order.
    pub(super) fn live(&self, keys: &KeyRange) -> Box<dyn Iterator<Item = KeyValue> + '_> {
        if keys.is_empty() {
            return Box::new(std::iter::empty());
        }
        if keys.is_single() {
            return Box::new(self.get(&keys.start).into_iter());
        }
        Box::new(self.keys.range(keys.bounds()).filter_map(|(key, versions)| versions.latest.key_value(key, false)))
    }

    /// Takes in a committed change; returns the event that it is.
    pub(super) fn apply(&mut self, change: Change) -> Event {
        let Change { key, value, revision, create_revision, version, lease, .. } = change;
        self.revision = self.revision.max(revision);
        let new = Version { value, revision, create_revision, version, lease };
        let current = new.key_value(&key, false);
        let mut previous = None;
        let mut replaced = false;
        if let Some(versions) = self.keys.get_mut(&key) {
            previous = versions.latest.key_value(&key, false);
            versions.older.push(std::mem::replace(&mut versions.latest, new));
            replaced = true;
        } else {
            self.keys.insert(key.clone(), Versions { latest: new, older: Vec::new() });
        }
        self.history.push_back(Past { revision, key: key.clone(), replaced });
        let size = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| (kv.key.len() + kv.value.len()) as u64);
        self.live_bytes += size(&current);
        self.live_bytes -= size(&previous);
        Event { revision, key, current, previous }
    }

    /// Forgets what was replaced at or before `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        let revision = revision.min(self.revision);
        self.compacted = self.compacted.max(revision);
        while self.history.front().is_some_and(|past| past.revision <= revision) {
            let Some(past) = self.history.pop_front() else { break };
            if past.replaced {
                self.forget(&past.key, revision);
            }
        }
    }

    fn forget(&mut self, key: &Bytes, revision: u64) {
        // A key that was changed often has been dealt with at the first of its changes.
        let Some(versions) = self.keys.get_mut(key) else { return };
        // A version is needed as long as a readable revision lies before its successor.
        let successors = versions.older.iter().skip(1).chain([&versions.latest]);
        // Every older version has one successor; a key that was compacted already has no older ones left.
        let useless = successors.take(versions.older.len()).take_while(|next| next.revision <= revision).count();
        versions.older.drain(..useless);
        if versions.older.is_empty() {
            versions.older.shrink_to_fit();
            if versions.latest.value.is_none() && versions.latest.revision <= revision {
                self.keys.remove(key);
            }
        }
    }

    /// All that keys hold now, for a checkpoint.
    pub(super) fn changes(&self) -> Vec<Change> {
        let change = |(key, versions): (&Bytes, &Versions)| {
            let v = &versions.latest;
            v.value.is_some().then(|| Change {
                key: key.clone(),
                value: v.value.clone(),
                revision: v.revision,
                sub: 0,
                create_revision: v.create_revision,
                version: v.version,
                lease: v.lease,
            })
        };
        self.keys.iter().filter_map(change).collect()
    }
}
