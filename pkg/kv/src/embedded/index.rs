//! The state in memory: for every key its versions, as far back as the history goes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::sizes::Size;

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

/// A version, wherever its parts are kept.
#[derive(Clone, Copy)]
struct View<'a> {
    value: Option<&'a Bytes>,
    revision: u64,
    create_revision: u64,
    version: u64,
    lease: LeaseId,
}

/// What a key has been. Most keys, events above all, are put once and never again, so that is kept in the least room.
#[derive(Debug)]
enum Versions {
    /// Put once, at this revision.
    Once {
        value: Bytes,
        revision: u64,
        lease: LeaseId,
    },
    Changed(Box<Changed>),
}

/// The newest version of a key, and older ones, oldest first, that the history still needs.
#[derive(Debug)]
struct Changed {
    latest: Version,
    older: Vec<Version>,
}

impl Versions {
    fn new(version: Version) -> Self {
        match version {
            Version { value: Some(value), revision, create_revision, version: 1, lease }
                if create_revision == revision =>
            {
                Self::Once { value, revision, lease }
            }
            latest => Self::Changed(Box::new(Changed { latest, older: Vec::new() })),
        }
    }

    /// Takes in the next version.
    fn push(&mut self, new: Version) {
        match self {
            Self::Changed(changed) => changed.older.push(std::mem::replace(&mut changed.latest, new)),
            Self::Once { value, revision, lease } => {
                let (value, revision, lease) = (Some(value.clone()), *revision, *lease);
                let first = Version { value, revision, create_revision: revision, version: 1, lease };
                *self = Self::Changed(Box::new(Changed { latest: new, older: vec![first] }));
            }
        }
    }

    fn latest(&self) -> View<'_> {
        match self {
            Self::Once { value, revision, lease } => {
                View { value: Some(value), revision: *revision, create_revision: *revision, version: 1, lease: *lease }
            }
            Self::Changed(changed) => changed.latest.view(),
        }
    }

    fn older(&self) -> &[Version] {
        match self {
            Self::Once { .. } => &[],
            Self::Changed(changed) => &changed.older,
        }
    }

    fn at(&self, revision: u64) -> Option<View<'_>> {
        let latest = self.latest();
        if latest.revision <= revision {
            return Some(latest);
        }
        self.older().iter().rev().find(|v| v.revision <= revision).map(Version::view)
    }

    /// Counted from the oldest that is known.
    fn nth(&self, n: usize) -> Option<View<'_>> {
        let older = self.older();
        if n == older.len() { Some(self.latest()) } else { older.get(n).map(Version::view) }
    }
}

/// A change that the history still knows.
#[derive(Debug)]
struct Past {
    revision: u64,
    key: Bytes,
    /// Whether it replaced something, which goes when the history begins later.
    replaced: bool,
    /// What it costs to know it.
    bytes: u64,
}

/// How much of the past can be read. Whatever ends it first, ends it.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// Revisions.
    pub revisions: u64,
    /// Time since a value was replaced.
    pub age: Duration,
    /// Memory for what was replaced.
    pub bytes: u64,
    /// Memory for what was replaced longer ago than a minute: what a burst leaves goes soon after it.
    pub settled_bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { revisions: 10_000, age: Duration::from_secs(300), bytes: 8 << 20, settled_bytes: 4 << 20 }
    }
}

/// After this time the smaller bound on memory holds.
const SETTLED: Duration = Duration::from_secs(60);
/// The age of changes is known to this precision.
const MARK: Duration = Duration::from_secs(10);
/// Changes that are forgotten in one go, so that readers do not wait for long.
const FORGET: usize = 8_192;
/// What a key costs beside its bytes and those of its value.
const AROUND: usize = 160;
/// What a past change costs beside its key and the value that it replaced.
const PAST: u64 = 160;

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Versions>,
    revision: u64,
    compacted: u64,
    history: VecDeque<Past>,
    history_bytes: u64,
    /// When a span of [`MARK`] began, and the newest revision in it.
    marks: VecDeque<(Duration, u64)>,
    /// Revisions that somebody reads in slices, with how many do: what they need is not forgotten.
    pins: BTreeMap<u64, usize>,
    live_bytes: u64,
}

impl Version {
    fn view(&self) -> View<'_> {
        let Self { value, revision, create_revision, version, lease } = self;
        View {
            value: value.as_ref(),
            revision: *revision,
            create_revision: *create_revision,
            version: *version,
            lease: *lease,
        }
    }
}

impl View<'_> {
    fn key_value(&self, key: &Bytes, keys_only: bool) -> Option<KeyValue> {
        let value = self.value?;
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

    /// What the current values and the history take.
    pub(super) fn sizes(&self) -> Vec<(&'static str, Size)> {
        let around = self.keys.len() * AROUND;
        let live = usize::try_from(self.live_bytes).unwrap_or(usize::MAX).saturating_add(around);
        let past = usize::try_from(self.history_bytes).unwrap_or(usize::MAX);
        vec![("keys", Size::new(self.keys.len(), live)), ("history", Size::new(self.history.len(), past))]
    }

    /// Bytes of all keys and current values.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        versions.latest().key_value(key, false)
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
        Box::new(self.keys.range(keys.bounds()).filter_map(|(key, versions)| versions.latest().key_value(key, false)))
    }

    /// Takes in a committed change; returns the event that it is.
    pub(super) fn apply(&mut self, change: Change) -> Event {
        let Change { key, value, revision, create_revision, version, lease, .. } = change;
        self.revision = self.revision.max(revision);
        let new = Version { value, revision, create_revision, version, lease };
        let current = new.view().key_value(&key, false);
        let mut previous = None;
        let mut replaced = false;
        if let Some(versions) = self.keys.get_mut(&key) {
            previous = versions.latest().key_value(&key, false);
            versions.push(new);
            replaced = true;
        } else {
            self.keys.insert(key.clone(), Versions::new(new));
        }
        let bytes = PAST + previous.as_ref().map_or(0, |kv| (kv.key.len() + kv.value.len()) as u64);
        self.history_bytes += bytes;
        self.history.push_back(Past { revision, key: key.clone(), replaced, bytes });
        let size = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| (kv.key.len() + kv.value.len()) as u64);
        self.live_bytes += size(&current);
        self.live_bytes -= size(&previous);
        Event { revision, key, current, previous }
    }

    /// Forgets what was replaced at or before `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        self.forget_some();
    }

    /// Forgets what is compacted and not pinned; returns whether more is left.
    pub(super) fn forget_some(&mut self) -> bool {
        let until = self.pins.keys().next().map_or(self.compacted, |pinned| self.compacted.min(*pinned));
        for _ in 0..FORGET {
            if self.history.front().is_none_or(|past| past.revision > until) {
                return false;
            }
            let Some(past) = self.history.pop_front() else { return false };
            self.history_bytes -= past.bytes;
            if past.replaced {
                self.forget(&past.key, until);
            }
        }
        true
    }

    /// Forgets what lies outside of the history that is to be kept.
    pub(super) fn trim(&mut self, keep: &History, now: Duration) {
        let mut until = self.revision.saturating_sub(keep.revisions);
        match self.marks.back_mut() {
            Some((_, revision)) if *revision >= self.revision => {}
            Some((began, revision)) if *began + MARK > now => *revision = self.revision,
            _ => self.marks.push_back((now, self.revision)),
        }
        while let Some((_, revision)) = self.marks.pop_front_if(|(began, _)| *began + MARK + keep.age <= now) {
            until = until.max(revision);
        }
        // While somebody reads in slices nothing would be gained by compacting for the sake of memory.
        if self.pins.is_empty() {
            until = until.max(self.excess(keep.bytes, self.revision));
            let settled = self.marks.iter().take_while(|(began, _)| *began + MARK + SETTLED <= now).last();
            if let Some((_, revision)) = settled {
                until = until.max(self.excess(keep.settled_bytes, *revision));
            }
        }
        self.compact(until);
    }

    /// The revision until which the history, up to `last`, is to be forgotten so that all of it keeps to `bytes`.
    fn excess(&self, bytes: u64, last: u64) -> u64 {
        let mut excess = self.history_bytes.saturating_sub(bytes);
        let mut until = 0;
        for past in self.history.iter().take_while(|past| past.revision <= last) {
            if excess == 0 {
                break;
            }
            until = past.revision;
            excess = excess.saturating_sub(past.bytes);
        }
        until
    }

    /// When the oldest part of the history is to be forgotten for its age.
    pub(super) fn trim_due(&self, keep: &History) -> Option<Duration> {
        let oldest = self.history.front()?;
        let age = self.marks.front().map(|(began, _)| *began + MARK + keep.age);
        // What is older than its span's last revision has been looked at with the spans before it.
        let unsettled = self.marks.iter().find(|(_, revision)| oldest.revision <= *revision);
        let settled = unsettled.map(|(began, _)| *began + MARK + SETTLED);
        if self.history_bytes > keep.settled_bytes && self.pins.is_empty() { settled.min(age).or(age) } else { age }
    }

    /// Keeps all that is needed to read the state of now in slices, until [`Index::unpin`]. Returns its revision.
    pub(super) fn pin(&mut self) -> u64 {
        *self.pins.entry(self.revision).or_default() += 1;
        self.revision
    }

    pub(super) fn unpin(&mut self, revision: u64) {
        if let Some(count) = self.pins.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&revision);
            }
        }
    }

    /// The newest revision is at least this one.
    pub(super) fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// History begins at `revision`.
    pub(super) fn restart_history(&mut self, revision: u64) {
        self.compacted = revision;
        self.history.clear();
        self.history_bytes = 0;
    }

    /// The age of all changes so far counts from `now`.
    pub(super) fn restart_clock(&mut self, now: Duration) {
        self.marks.clear();
        self.marks.push_back((now, self.revision));
    }

    /// The changes of a range from a revision on, in order, and the revision up to which these are all. When `limit` is
    /// reached the rest of its revision still comes, and nothing after.
    pub(super) fn events(&self, keys: &KeyRange, from: u64, limit: usize) -> Result<(Vec<Event>, u64), Error> {
        // What was replaced at the oldest readable revision is not known any more.
        if from <= self.compacted {
            return Err(Error::Compacted { requested: from, compacted: self.compacted + 1 });
        }
        let begin = self.history.partition_point(|past| past.revision < from);
        let mut events: Vec<Event> = Vec::new();
        // A key can be changed twice in one revision: deleted after it was put.
        let mut told: HashMap<&Bytes, usize> = HashMap::new();
        let mut revision = 0;
        for past in self.history.range(begin..).filter(|past| keys.contains(&past.key)) {
            if past.revision != revision {
                if events.len() >= limit {
                    return Ok((events, revision));
                }
                told.clear();
                revision = past.revision;
            }
            let Some(versions) = self.keys.get(&past.key) else { continue };
            let nth = told.entry(&past.key).or_default();
            let at = versions.older().partition_point(|version| version.revision < past.revision) + *nth;
            *nth += 1;
            let Some(version) = versions.nth(at) else { continue };
            let before = at.checked_sub(1).and_then(|before| versions.nth(before));
            let previous = before.and_then(|version| version.key_value(&past.key, false));
            let current = version.key_value(&past.key, false);
            events.push(Event { revision: past.revision, key: past.key.clone(), current, previous });
        }
        Ok((events, self.revision.max(from.saturating_sub(1))))
    }

    /// What the keys behind `after` hold at a pinned revision, at most `limit` of them.
    pub(super) fn slice(&self, after: Option<&Bytes>, revision: u64, limit: usize) -> Vec<KeyValue> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.keys.range::<Bytes, _>((start, Bound::Unbounded));
        let live = keys.filter_map(|(key, versions)| versions.at(revision)?.key_value(key, false));
        live.take(limit).collect()
    }

    fn forget(&mut self, key: &Bytes, revision: u64) {
        // A key that was changed often has been dealt with at the first of its changes.
        let Some(Versions::Changed(changed)) = self.keys.get_mut(key) else { return };
        let Changed { latest, older } = &mut **changed;
        // A version is needed as long as a readable revision lies before its successor.
        let successors = older.iter().skip(1).chain([&*latest]);
        // Every older version has one successor; a key that was compacted already has no older ones left.
        let useless = successors.take(older.len()).take_while(|next| next.revision <= revision).count();
        older.drain(..useless);
        if older.is_empty() {
            older.shrink_to_fit();
            if latest.value.is_none() && latest.revision <= revision {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of the map holds eleven of each, and most keys of a busy cluster are events.
    #[test]
    fn a_key_that_was_put_once_takes_little_room() {
        assert!(size_of::<Versions>() <= 48, "{}", size_of::<Versions>());
    }
}
