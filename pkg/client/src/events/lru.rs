//! A bounded map that forgets what was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of at most `limit` entries.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    limit: usize,
    uses: u64,
    entries: HashMap<K, (u64, V)>,
    /// Keys by their last use.
    order: BTreeMap<u64, K>,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, uses: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    /// The value of a key, made when it is not there. That counts as a use.
    pub(super) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        let uses = self.uses;
        if !self.entries.contains_key(key)
            && self.entries.len() >= self.limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| (uses, make()));
        self.order.remove(&entry.0);
        self.order.insert(uses, key.clone());
        entry.0 = uses;
        &mut entry.1
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
        let mut lru = Lru::new(2);
        *lru.entry(&'a', || 0) = 1;
        *lru.entry(&'b', || 0) = 2;
        assert_eq!(*lru.entry(&'a', || 0), 1);
        *lru.entry(&'c', || 0) = 3;
        assert_eq!((lru.len(), *lru.entry(&'a', || 0), *lru.entry(&'b', || 0)), (2, 1, 0));
    }
}
