//! Upstream's answers, for a short while.
//!
//! Invariant: at most [`MAX_ENTRIES`] answers of at most [`MAX_BYTES`] in all are kept; at the limit
//! those go first that would expire first. An answer comes out with the lifetimes it has left.

use crate::response::Summary;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: usize = 2 << 20;
/// Answers are not kept longer, whatever their lifetime: others may change them.
const MAX_LIFETIME: u32 = 30;

/// What makes two queries the same for upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The name in wire form, in lower case.
    pub name: Vec<u8>,
    /// The record type.
    pub qtype: u16,
    /// Whether there is EDNS, and whether DNSSEC records are wanted.
    pub edns: Option<bool>,
    /// Whether checking is the client's business.
    pub checking_disabled: bool,
}

#[derive(Debug)]
struct Entry {
    bytes: Arc<[u8]>,
    ttls: Vec<usize>,
    since: Duration,
    turn: (Duration, u64),
}

/// The cache. Times are those of the monotonic clock.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    by_expiry: BTreeMap<(Duration, u64), Key>,
    bytes: usize,
    counter: u64,
}

impl Cache {
    /// The answer that is kept for `key`, with what is left of its lifetimes.
    pub fn get(&mut self, key: &Key, now: Duration) -> Option<Vec<u8>> {
        self.expire(now);
        let entry = self.entries.get(key)?;
        let age = now.saturating_sub(entry.since).as_secs() as u32;
        let mut bytes = entry.bytes.to_vec();
        for at in &entry.ttls {
            if let Some(place) = bytes.get_mut(*at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                *place = u32::from_be_bytes(*place).saturating_sub(age).to_be_bytes();
            }
        }
        Some(bytes)
    }

    /// Keeps an answer, if it says for how long and is not truncated.
    pub fn put(&mut self, key: Key, bytes: Arc<[u8]>, summary: &Summary, now: Duration) {
        let lifetime = summary.lifetime.unwrap_or(0).min(MAX_LIFETIME);
        // No error and "no such name" are facts; everything else may be over in a moment.
        if lifetime == 0 || summary.truncated || !matches!(summary.rcode, 0 | 3) {
            return;
        }
        self.expire(now);
        self.remove(&key);
        self.counter += 1;
        let turn = (now + Duration::from_secs(lifetime.into()), self.counter);
        self.bytes += bytes.len();
        self.by_expiry.insert(turn, key.clone());
        self.entries.insert(key, Entry { bytes, ttls: summary.ttls.clone(), since: now, turn });
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some((_, first)) = self.by_expiry.first_key_value() else { break };
            let first = first.clone();
            self.remove(&first);
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some((turn, key)) = self.by_expiry.first_key_value() {
            if turn.0 > now {
                break;
            }
            let key = key.clone();
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_expiry.remove(&entry.turn);
            self.bytes -= entry.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(number: u32) -> Key {
        Key { name: number.to_be_bytes().to_vec(), qtype: 1, edns: None, checking_disabled: false }
    }

    fn summary(lifetime: u32) -> Summary {
        Summary { rcode: 0, truncated: false, question_end: 0, ttls: vec![0], lifetime: Some(lifetime) }
    }

    fn bytes(ttl: u32, length: usize) -> Arc<[u8]> {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&ttl.to_be_bytes());
        bytes.into()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn answers_age_and_expire() {
        let mut cache = Cache::default();
        cache.put(key(1), bytes(100, 4), &summary(100), SECOND);
        assert_eq!(cache.get(&key(1), 11 * SECOND).unwrap(), 90_u32.to_be_bytes());
        assert!(cache.get(&key(1), 31 * SECOND).is_none(), "capped at 30 s");
        assert_eq!((cache.bytes, cache.by_expiry.len()), (0, 0));
    }

    #[test]
    fn failures_and_truncated_answers_are_not_kept() {
        let mut cache = Cache::default();
        cache.put(key(1), bytes(9, 4), &Summary { rcode: 2, ..summary(9) }, SECOND);
        cache.put(key(2), bytes(9, 4), &Summary { truncated: true, ..summary(9) }, SECOND);
        cache.put(key(3), bytes(9, 4), &Summary { lifetime: None, ..summary(9) }, SECOND);
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn the_number_and_the_bytes_are_limited() {
        let mut cache = Cache::default();
        for number in 0..MAX_ENTRIES as u32 + 10 {
            cache.put(key(number), bytes(9, 4), &summary(9), SECOND);
        }
        assert_eq!(cache.entries.len(), MAX_ENTRIES);
        assert!(cache.get(&key(9), SECOND).is_none() && cache.get(&key(10), SECOND).is_some());
        for number in 0..64 {
            cache.put(key(number), bytes(20, 65_000), &summary(20), SECOND);
        }
        assert!(cache.bytes <= MAX_BYTES);
        assert_eq!(cache.entries.len(), cache.by_expiry.len());
    }
}
