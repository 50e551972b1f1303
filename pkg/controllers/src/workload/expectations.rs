//! What a controller has done and its cache does not show yet.
//!
//! Invariant: an expectation is raised before the request is sent, so the event can never overtake it. One that is not met
//! within five minutes is given up, since then an event was lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kedge_base::SharedClock;
use kedge_meta::ObjectKey;
use parking_lot::Mutex;

/// After this time the cache is believed whatever is missing.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Expected creations and deletions by owner.
pub struct Expectations {
    clock: SharedClock,
    owners: Mutex<HashMap<ObjectKey, Expected>>,
}

struct Expected {
    creations: usize,
    /// The uids of objects that are being deleted.
    deletions: HashSet<String>,
    since: Duration,
}

impl Expectations {
    /// None.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, owners: Mutex::default() }
    }

    /// Whether the cache shows everything that was done for this owner.
    pub fn satisfied(&self, owner: &ObjectKey) -> bool {
        let mut owners = self.owners.lock();
        let Some(expected) = owners.get(owner) else {
            return true;
        };
        let met = expected.creations == 0 && expected.deletions.is_empty();
        let over = self.clock.monotonic().saturating_sub(expected.since) > TIMEOUT;
        if met || over {
            owners.remove(owner);
        }
        met || over
    }

    /// `n` objects are about to be created.
    pub fn expect_creations(&self, owner: &ObjectKey, n: usize) {
        self.raise(owner, |e| e.creations += n);
    }

    /// These objects are about to be deleted.
    pub fn expect_deletions(&self, owner: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.raise(owner, |e| e.deletions.extend(uids));
    }

    fn raise(&self, owner: &ObjectKey, change: impl FnOnce(&mut Expected)) {
        let since = self.clock.monotonic();
        let mut owners = self.owners.lock();
        let expected =
            owners.entry(owner.clone()).or_insert(Expected { creations: 0, deletions: HashSet::new(), since });
        expected.since = since;
        change(expected);
    }

    /// A creation was seen, or will not come.
    pub fn creation_observed(&self, owner: &ObjectKey) {
        if let Some(expected) = self.owners.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or will not come.
    pub fn deletion_observed(&self, owner: &ObjectKey, uid: &str) {
        if let Some(expected) = self.owners.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.owners.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_base::VirtualClock;
    use std::sync::Arc;

    #[test]
    fn expectations_hold_until_met_or_given_up() {
        let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let expectations = Expectations::new(Arc::new(clock.clone()));
        let owner = ObjectKey::new("ns", "rs");
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 1);
        expectations.expect_deletions(&owner, ["u".to_owned()]);
        expectations.creation_observed(&owner);
        assert!(!expectations.satisfied(&owner));
        expectations.deletion_observed(&owner, "other");
        assert!(!expectations.satisfied(&owner));
        expectations.deletion_observed(&owner, "u");
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 1);
        clock.advance(TIMEOUT + Duration::from_secs(1));
        assert!(expectations.satisfied(&owner));
    }
}
