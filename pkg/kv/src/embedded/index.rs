//! The state in memory: for every key its versions, as far back as the history goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::format::Record;
use crate::api::{Event, KeyValue, Range, RangeResult};
use crate::error::Error;

#[derive(Debug, Clone)]
struct Version {
    /// None: the key was deleted.
    value: Option<Bytes>,
    revision: u64,
    create_revision: u64,
    version: u64,
    expires: Option<u64>,
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

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Versions>,
    revision: u64,
    compacted: u64,
    /// Keys whose older versions become useless once history begins after that revision.
    superseded: VecDeque<(u64, Bytes)>,
    expiries: BTreeSet<(u64, Bytes)>,
    live_bytes: u64,
}

impl Version {
    fn key_value(&self, key: &Bytes) -> Option<KeyValue> {
        Some(KeyValue {
            key: key.clone(),
            value: self.value.clone()?,
            create_revision: self.create_revision,
            mod_revision: self.revision,
            version: self.version,
        })
    }
}

impl Index {
    /// An empty index at a revision; nothing before it can be read.
    pub(super) fn at(revision: u64) -> Self {
        Self { revision, compacted: revision, ..Self::default() }
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
        versions.latest.key_value(key)
    }

    pub(super) fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let revision = range.revision.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(Error::FutureRevision { requested: revision, current: self.revision });
        }
        if revision < self.compacted {
            return Err(Error::Compacted { requested: revision, compacted: self.compacted });
        }
        let bounds = (Bound::Included(range.start.clone()), Bound::Excluded(range.end.clone()));
        let mut kvs = Vec::new();
        let mut remaining = 0;
        if range.start < range.end {
            for (key, versions) in self.keys.range::<Bytes, _>(bounds) {
                let Some(kv) = versions.at(revision).and_then(|v| v.key_value(key)) else { continue };
                if range.limit > 0 && kvs.len() >= range.limit {
                    remaining += 1;
                } else {
                    kvs.push(kv);
                }
            }
        }
        Ok(RangeResult { kvs, revision, remaining })
    }

    /// Takes in a committed record; returns the event that it is.
    pub(super) fn apply(&mut self, record: Record) -> Event {
        let Record { key, value, revision, create_revision, version, expires } = record;
        self.revision = self.revision.max(revision);
        let new = Version { value: value.clone(), revision, create_revision, version, expires };
        let mut previous = None;
        if let Some(versions) = self.keys.get_mut(&key) {
            previous = versions.latest.key_value(&key);
            if let Some(at) = versions.latest.expires {
                self.expiries.remove(&(at, key.clone()));
            }
            versions.older.push(std::mem::replace(&mut versions.latest, new));
            self.superseded.push_back((revision, key.clone()));
        } else {
            self.keys.insert(key.clone(), Versions { latest: new, older: Vec::new() });
        }
        if let Some(at) = expires {
            self.expiries.insert((at, key.clone()));
        }
        let size = |value: &Bytes| (key.len() + value.len()) as u64;
        self.live_bytes += value.as_ref().map(size).unwrap_or_default();
        self.live_bytes -= previous.as_ref().map(|p| size(&p.value)).unwrap_or_default();
        Event { revision, key, value, previous, create_revision }
    }

    /// Forgets what was replaced at or before `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        let revision = revision.min(self.revision);
        self.compacted = self.compacted.max(revision);
        while self.superseded.front().is_some_and(|(at, _)| *at <= revision) {
            let Some((_, key)) = self.superseded.pop_front() else { break };
            let Some(versions) = self.keys.get_mut(&key) else { continue };
            // A version is needed as long as a readable revision lies before its successor.
            let successors = versions.older.iter().skip(1).chain([&versions.latest]);
            // Every older version has one successor; a key that was compacted already has no older ones left.
            let useless = successors.take(versions.older.len()).take_while(|next| next.revision <= revision).count();
            versions.older.drain(..useless);
            if versions.older.is_empty() {
                versions.older.shrink_to_fit();
                if versions.latest.value.is_none() && versions.latest.revision <= revision {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// Keys that have expired by `now` (seconds since 1970), at most `limit`.
    pub(super) fn expired(&self, now: u64, limit: usize) -> Vec<Bytes> {
        self.expiries.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, key)| key.clone()).collect()
    }

    /// All current records, for a checkpoint.
    pub(super) fn live(&self) -> Vec<Record> {
        let record = |(key, versions): (&Bytes, &Versions)| {
            let v = &versions.latest;
            v.value.is_some().then(|| Record {
                key: key.clone(),
                value: v.value.clone(),
                revision: v.revision,
                create_revision: v.create_revision,
                version: v.version,
                expires: v.expires,
            })
        };
        self.keys.iter().filter_map(record).collect()
    }
}
