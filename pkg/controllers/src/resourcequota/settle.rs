//! Whether a quota has come to rest.
//!
//! Who admits an object charges the quota before the object is stored. In between a count would miss the object, and what was
//! written then would let one too many in. So a quota that is being charged is counted only when that has stopped for a moment, as it
//! does once the quota is full, or has gone on for long.

use std::collections::HashMap;
use std::time::Duration;

use kedge_meta::ObjectKey;

/// How long nothing must have been charged.
pub(super) const QUIET: Duration = Duration::from_millis(300);
/// Then it is counted anyway, however many are let in too many.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Seen {
    version: String,
    since: Duration,
    /// Since when somebody waits to count it.
    waiting: Duration,
}

/// When quotas last changed, as far as somebody waits for it.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<ObjectKey, Seen>);

impl Settling {
    /// How long to wait before the quota of this version is counted; none if it can be now.
    pub(super) fn wait(&mut self, key: &ObjectKey, version: &str, now: Duration) -> Option<Duration> {
        let first = || Seen { version: version.to_owned(), since: now, waiting: now };
        let seen = self.0.entry(key.clone()).or_insert_with(first);
        if seen.version != version {
            (seen.version, seen.since) = (version.to_owned(), now);
        }
        let left = QUIET.saturating_sub(now.saturating_sub(seen.since));
        if left.is_zero() || now.saturating_sub(seen.waiting) >= LONGEST {
            self.0.remove(key);
            return None;
        }
        Some(left)
    }

    /// The quota is gone.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_counted_when_it_is_quiet_or_never_is() {
        let (mut settling, key) = (Settling::default(), ObjectKey::new("a", "q"));
        let at = Duration::from_millis;
        assert_eq!(settling.wait(&key, "1", at(0)), Some(at(300)));
        assert_eq!(settling.wait(&key, "1", at(100)), Some(at(200)));
        assert_eq!(settling.wait(&key, "2", at(200)), Some(at(300)), "it was charged");
        assert_eq!(settling.wait(&key, "2", at(500)), None);
        assert_eq!(settling.wait(&key, "2", at(600)), Some(at(300)), "a new wait begins");
        for i in 0..599 {
            assert!(settling.wait(&key, &format!("x{i}"), at(700 + i * 100)).is_some(), "{i}");
        }
        assert_eq!(settling.wait(&key, "y", at(60_600)), None, "it was charged all the time");
        settling.wait(&key, "z", at(60_700));
        settling.forget(&key);
        assert!(settling.0.is_empty());
    }
}
