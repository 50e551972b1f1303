//! Whether a quota has come to rest.
//!
//! Who admits an object charges the quota before the object is stored. In between a count would miss the object, and what was
//! written then would let one too many in. So a count that finds less than is charged is believed at once when just that much was seen
//! to go. Else it is made again when nothing has been charged for a moment, as is so once the quota is full, or when that has
//! gone on for long.

use std::collections::HashMap;
use std::time::Duration;

use kedge_meta::ObjectKey;
use kedge_quota::{Amounts, amounts};

/// How long nothing must have been charged.
pub(super) const QUIET: Duration = Duration::from_millis(300);
/// Then it is counted anyway, however many are let in too many.
const LONGEST: Duration = Duration::from_secs(60);
/// Objects that go together are counted together: from one count to the next, at least this.
const GATHER: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Seen {
    version: String,
    since: Duration,
    /// Since when somebody waits to count it.
    waiting: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// When it last changed, as far as somebody waits for it.
    seen: Option<Seen>,
    /// What objects used that have gone since the last count.
    gone: Amounts,
    /// When a count last began.
    begun: Option<Duration>,
}

/// What is known of quotas beside the quotas themselves.
#[derive(Debug, Default)]
pub(super) struct Settling(HashMap<ObjectKey, State>);

impl Settling {
    /// Something that used this has gone; how long to wait before the quota is counted.
    pub(super) fn went(&mut self, key: &ObjectKey, gone: &Amounts, now: Duration) -> Duration {
        let state = self.0.entry(key.clone()).or_default();
        amounts::add(&mut state.gone, gone);
        state.begun.map_or(Duration::ZERO, |begun| GATHER.saturating_sub(now.saturating_sub(begun)))
    }

    /// A count begins: what has gone by now, which it may find.
    pub(super) fn begin(&mut self, key: &ObjectKey, now: Duration) -> Amounts {
        let state = self.0.entry(key.clone()).or_default();
        state.begun = Some(now);
        std::mem::take(&mut state.gone)
    }

    /// The count is not to be believed.
    pub(super) fn put_back(&mut self, key: &ObjectKey, gone: &Amounts) {
        amounts::add(&mut self.0.entry(key.clone()).or_default().gone, gone);
    }

    /// The count is believed.
    pub(super) fn end(&mut self, key: &ObjectKey) {
        if let Some(state) = self.0.get_mut(key) {
            state.seen = None;
        }
    }

    /// How long to wait before any count of the quota of this version is believed; none if it is now.
    pub(super) fn wait(&mut self, key: &ObjectKey, version: &str, now: Duration) -> Option<Duration> {
        let state = self.0.entry(key.clone()).or_default();
        let first = || Seen { version: version.to_owned(), since: now, waiting: now };
        let seen = state.seen.get_or_insert_with(first);
        if seen.version != version {
            (seen.version, seen.since) = (version.to_owned(), now);
        }
        let left = QUIET.saturating_sub(now.saturating_sub(seen.since));
        if left.is_zero() || now.saturating_sub(seen.waiting) >= LONGEST {
            state.seen = None;
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

    #[test]
    fn what_went_is_counted_at_once_and_then_together() {
        let (mut settling, key) = (Settling::default(), ObjectKey::new("a", "q"));
        let (at, pods) = (Duration::from_millis, |n: &str| amounts::parse([("pods", n)]));
        assert_eq!(settling.went(&key, &pods("1"), at(0)), Duration::ZERO);
        assert_eq!(settling.begin(&key, at(1)), pods("1"));
        assert_eq!(settling.went(&key, &pods("1"), at(31)), at(70));
        assert_eq!(settling.went(&key, &pods("2"), at(41)), at(60));
        let gone = settling.begin(&key, at(101));
        assert_eq!(gone, pods("3"));
        settling.put_back(&key, &gone);
        assert_eq!(settling.begin(&key, at(201)), pods("3"));
        assert!(settling.begin(&key, at(301)).is_empty());
    }
}
