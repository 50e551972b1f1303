//! Hash tables and queues keep the room that they once needed. Those that follow what comes in bursts give it back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// Room below which nothing is given back.
const KEPT: usize = 1_024;

/// A collection that can be made smaller.
pub trait Room {
    /// Gives back room when the collection has become much smaller than it: seldom enough that its cost does not count.
    fn tighten(&mut self);
}

fn wanted(len: usize, capacity: usize) -> Option<usize> {
    (capacity > KEPT && len < capacity / 8).then_some(len * 2)
}

impl<K: Hash + Eq, V> Room for HashMap<K, V> {
    fn tighten(&mut self) {
        if let Some(room) = wanted(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<K: Hash + Eq> Room for HashSet<K> {
    fn tighten(&mut self) {
        if let Some(room) = wanted(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Room for VecDeque<T> {
    fn tighten(&mut self) {
        if let Some(room) = wanted(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_after_a_burst_and_not_while_it_lasts() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|i| (i, i)).collect();
        for i in 0..60_000 {
            map.remove(&i);
            map.tighten();
        }
        // What was removed leaves marks that count against the capacity, and is no reason to move the rest.
        assert!(map.capacity() > 60_000, "{}", map.capacity());
        for i in 60_000..99_999 {
            map.remove(&i);
            map.tighten();
        }
        assert!(map.capacity() <= 2 * KEPT && map.len() == 1, "{} for {}", map.capacity(), map.len());
        let (mut queue, mut set): (VecDeque<_>, HashSet<_>) = ((0..5_000).collect(), (0..5_000).collect());
        while let Some(i) = queue.pop_front() {
            queue.tighten();
            set.remove(&i);
            set.tighten();
        }
        assert!(queue.capacity() <= KEPT && set.capacity() <= 2 * KEPT);
    }
}
