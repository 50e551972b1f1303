//! Label keys and values of nodes as small numbers, so that topologies are compared and counted without reading text.

use std::collections::HashMap;

/// The number of a label key or value.
pub type LabelId = u32;

/// Texts with their numbers; a text that nobody holds any more gives its number back.
#[derive(Debug, Default)]
pub struct Interner {
    slots: Vec<(String, usize)>,
    free: Vec<LabelId>,
    by_text: HashMap<String, LabelId>,
}

impl Interner {
    /// The number of a text, which is held until it is released.
    pub fn acquire(&mut self, text: &str) -> LabelId {
        if let Some(id) = self.by_text.get(text) {
            self.slots[*id as usize].1 += 1;
            return *id;
        }
        let slot = (text.to_owned(), 1);
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                LabelId::try_from(self.slots.len() - 1).unwrap_or(LabelId::MAX)
            }
        };
        self.by_text.insert(text.to_owned(), id);
        id
    }

    /// Takes back an [`acquire`](Self::acquire).
    pub fn release(&mut self, id: LabelId) {
        let (text, holders) = &mut self.slots[id as usize];
        *holders = holders.saturating_sub(1);
        if *holders == 0 {
            self.by_text.remove(&std::mem::take(text));
            self.free.push(id);
        }
    }

    /// The number of a text, if somebody holds it.
    pub fn get(&self, text: &str) -> Option<LabelId> {
        self.by_text.get(text).copied()
    }

    /// One more than the largest number.
    pub fn bound(&self) -> usize {
        self.slots.len()
    }
}

/// Numbers by topology domain, that is by value of one label.
#[derive(Debug, Clone)]
pub struct Domains {
    counts: Vec<i64>,
    len: usize,
}

impl Domains {
    const ABSENT: i64 = i64::MIN;

    /// No domains, for label values below `bound`.
    pub fn new(bound: usize) -> Self {
        Self { counts: vec![Self::ABSENT; bound], len: 0 }
    }

    /// Adds to a domain, which is there from now on.
    pub fn add(&mut self, domain: LabelId, n: i64) {
        let count = &mut self.counts[domain as usize];
        if *count == Self::ABSENT {
            *count = 0;
            self.len += 1;
        }
        *count = count.saturating_add(n);
    }

    /// The number of a domain, if that is there.
    pub fn get(&self, domain: LabelId) -> Option<i64> {
        self.counts.get(domain as usize).copied().filter(|n| *n != Self::ABSENT)
    }

    /// How many domains there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The smallest number.
    pub fn min(&self) -> Option<i64> {
        self.counts.iter().copied().filter(|n| *n != Self::ABSENT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_and_used_again() {
        let mut interner = Interner::default();
        let (a, b) = (interner.acquire("a"), interner.acquire("b"));
        assert_eq!(interner.acquire("a"), a);
        interner.release(a);
        assert_eq!(interner.get("a"), Some(a), "still held once");
        interner.release(a);
        assert_eq!(interner.get("a"), None);
        assert_eq!((interner.acquire("c"), interner.get("b"), interner.bound()), (a, Some(b), 2));
    }

    #[test]
    fn domains_exist_once_they_are_added_to() {
        let mut domains = Domains::new(4);
        assert_eq!((domains.len(), domains.min()), (0, None));
        domains.add(2, 0);
        domains.add(3, 5);
        domains.add(3, -1);
        assert_eq!((domains.len(), domains.min(), domains.get(3), domains.get(0)), (2, Some(0), Some(4), None));
    }
}
