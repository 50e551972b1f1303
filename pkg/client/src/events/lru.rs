//! A bounded map that forgets what was used longest ago, and what was not used for long.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use kedge_base::Room as _;

/// A map of at most `limit` entries, used within the last `age` seconds.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    limit: usize,
    age: i64,
    uses: u64,
    entries: HashMap<K, Entry<V>>,
    /// Keys by their last use.
    order: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Entry<V> {
    use_number: u64,
    /// When it was used last, in seconds.
    used: i64,
    value: V,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub(super) fn new(limit: usize, age: i64) -> Self {
        Self { limit, age, uses: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    /// The value of a key, made when it is not there. That counts as a use, at `now` in seconds.
    pub(super) fn entry(&mut self, key: &K, now: i64, make: impl FnOnce() -> V) -> &mut V {
        self.forget(now);
        self.uses += 1;
        let uses = self.uses;
        if !self.entries.contains_key(key)
            && self.entries.len() >= self.limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let new = || Entry { use_number: uses, used: now, value: make() };
        let entry = self.entries.entry(key.clone()).or_insert_with(new);
        self.order.remove(&entry.use_number);
        self.order.insert(uses, key.clone());
        (entry.use_number, entry.used) = (uses, now);
        &mut entry.value
    }

    /// Drops what is of age: kept until the map is full, it would be memory that grows for days.
    fn forget(&mut self, now: i64) {
        while let Some(oldest) = self.order.first_entry() {
            if self.entries.get(oldest.get()).is_some_and(|entry| now - entry.used <= self.age) {
                break;
            }
            self.entries.remove(&oldest.remove());
            self.entries.tighten();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_entry_goes() {
        let mut lru = Lru::new(2, 100);
        *lru.entry(&'a', 0, || 0) = 1;
        *lru.entry(&'b', 0, || 0) = 2;
        assert_eq!(*lru.entry(&'a', 0, || 0), 1);
        *lru.entry(&'c', 0, || 0) = 3;
        assert_eq!((lru.len(), *lru.entry(&'a', 0, || 0), *lru.entry(&'b', 0, || 0)), (2, 1, 0));
    }

    /// In an hour of use each component's memories grew to megabytes of pods that were long gone.
    #[test]
    fn what_was_not_used_for_long_goes() {
        let mut lru = Lru::new(1_000, 100);
        (0..500).for_each(|n| *lru.entry(&n, 10, || 0) = n);
        *lru.entry(&7, 60, || 0) = 70;
        assert_eq!((*lru.entry(&1_000, 110, || 0), lru.len()), (0, 501), "at its age it is still there");
        assert_eq!((*lru.entry(&7, 111, || 0), lru.len()), (70, 2), "used since");
        assert_eq!((*lru.entry(&1, 50, || 9), lru.len()), (9, 3), "a clock that was set back drops nothing");
    }
}
