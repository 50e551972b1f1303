//! Back-off by key, as upstream's `flowcontrol.Backoff`: doubles with each failure, and is forgotten after a while
//! without one.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Keys that are remembered at most; beyond that the stale ones are dropped first.
const MAX_KEYS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Entry {
    backoff: Duration,
    last: Timestamp,
}

/// Delays by key.
pub(crate) struct KeyedBackoff {
    initial: Duration,
    max: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

impl KeyedBackoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> KeyedBackoff {
        KeyedBackoff { initial, max, entries: Mutex::default() }
    }

    /// The current delay of a key; zero when it has none.
    pub(crate) fn get(&self, key: &str) -> Duration {
        self.entries.lock().get(key).map(|e| e.backoff).unwrap_or_default()
    }

    /// Makes the delay longer after a failure at `event`.
    pub(crate) fn next(&self, key: &str, event: Timestamp, now: Timestamp) {
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_KEYS {
            entries.retain(|_, e| !expired(now, e.last, self.max));
        }
        let old = entries.get(key).filter(|e| !expired(event, e.last, self.max)).copied();
        let backoff = old.map_or(self.initial, |e| (e.backoff * 2).min(self.max));
        entries.insert(key.to_string(), Entry { backoff, last: now });
    }

    /// When the delay that began at `event` is over, if it is not over at `now`.
    pub(crate) fn until(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.lock().get(key).copied()?;
        if expired(event, entry.last, self.max) {
            return None;
        }
        let end = event.checked_add(entry.backoff).ok()?;
        (now < end).then_some(end)
    }

    /// When the delay that began with the last failure is over, if it is not over at `now`.
    pub(crate) fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let last = self.entries.lock().get(key)?.last;
        self.until(key, last, now)
    }

    pub(crate) fn forget_prefix(&self, prefix: &str) {
        self.entries.lock().retain(|key, _| !key.starts_with(prefix));
    }
}

/// An entry is stale when the last failure is more than twice the longest delay ago.
fn expired(event: Timestamp, last: Timestamp, max: Duration) -> bool {
    let max = SignedDuration::try_from(max * 2).unwrap_or(SignedDuration::MAX);
    event.duration_since(last) > max
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn doubles_to_the_limit_and_is_forgotten() {
        let backoff = KeyedBackoff::new(Duration::from_secs(10), Duration::from_secs(300));
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |seconds: i64| start.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        assert_eq!(backoff.until("k", start, start), None);
        backoff.next("k", start, start);
        assert_eq!(backoff.until("k", start, at(9)), Some(at(10)));
        assert_eq!(backoff.until("k", start, at(10)), None);
        for _ in 0..8 {
            backoff.next("k", at(10), at(10));
        }
        assert_eq!(backoff.get("k"), Duration::from_secs(300));
        backoff.next("k", at(1000), at(1000));
        assert_eq!(backoff.get("k"), Duration::from_secs(10));
    }
}
