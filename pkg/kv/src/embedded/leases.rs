//! Leases: how long they last, when they end, which keys go with them.
//!
//! Time is monotonic: a clock that is set does not end a lease. Keeping a lease alive is not logged; when the store is
//! opened all leases start anew, as they do in etcd when its leader changes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use crate::api::{Event, Lease, LeaseId, LeaseStatus};
use crate::error::Error;

#[derive(Debug)]
struct Held {
    seconds: u64,
    expires: Duration,
    keys: BTreeSet<Bytes>,
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<LeaseId, Held>,
    expiries: BTreeSet<(Duration, LeaseId)>,
}

impl Leases {
    /// Takes in a lease whose time begins at `now`.
    pub(super) fn grant(&mut self, id: LeaseId, seconds: u64, now: Duration) {
        let expires = now + Duration::from_secs(seconds);
        if let Some(before) = self.held.insert(id, Held { seconds, expires, keys: BTreeSet::new() }) {
            self.expiries.remove(&(before.expires, id));
        }
        self.expiries.insert((expires, id));
    }

    pub(super) fn revoke(&mut self, id: LeaseId) {
        if let Some(held) = self.held.remove(&id) {
            self.expiries.remove(&(held.expires, id));
        }
    }

    /// Follows a change of a key from one lease to another.
    pub(super) fn follow(&mut self, event: &Event) {
        let before = event.previous.as_ref().map_or(0, |kv| kv.lease);
        let after = event.current.as_ref().map_or(0, |kv| kv.lease);
        self.attach(&event.key, before, after);
    }

    pub(super) fn attach(&mut self, key: &Bytes, before: LeaseId, after: LeaseId) {
        if before == after {
            return;
        }
        if let Some(held) = self.held.get_mut(&before) {
            held.keys.remove(key);
        }
        if let Some(held) = self.held.get_mut(&after) {
            held.keys.insert(key.clone());
        }
    }

    /// All leases begin anew.
    pub(super) fn restart(&mut self, now: Duration) {
        self.expiries.clear();
        for (id, held) in &mut self.held {
            held.expires = now + Duration::from_secs(held.seconds);
            self.expiries.insert((held.expires, *id));
        }
    }

    /// Starts a lease's time anew, unless it has run out.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Lease, Error> {
        let held = self.held.get_mut(&id).filter(|held| held.expires > now).ok_or(Error::LeaseNotFound(id))?;
        self.expiries.remove(&(held.expires, id));
        held.expires = now + Duration::from_secs(held.seconds);
        self.expiries.insert((held.expires, id));
        Ok(Lease { id, ttl: Duration::from_secs(held.seconds) })
    }

    pub(super) fn status(&self, id: LeaseId, now: Duration) -> Result<LeaseStatus, Error> {
        let held = self.held.get(&id).filter(|held| held.expires > now).ok_or(Error::LeaseNotFound(id))?;
        let keys = held.keys.iter().cloned().collect();
        let (ttl, remaining) = (Duration::from_secs(held.seconds), held.expires.saturating_sub(now));
        Ok(LeaseStatus { id, ttl, remaining, keys })
    }

    /// Whether the id is taken, also by a lease that has run out and whose keys are about to go.
    pub(super) fn exists(&self, id: LeaseId) -> bool {
        self.held.contains_key(&id)
    }

    /// Whether keys may be attached to it.
    pub(super) fn is_alive(&self, id: LeaseId, now: Duration) -> bool {
        self.held.get(&id).is_some_and(|held| held.expires > now)
    }

    /// Keys that go with a lease.
    pub(super) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.held.get(&id).into_iter().flat_map(|held| &held.keys)
    }

    /// All ids with the seconds that they last, sorted.
    pub(super) fn all(&self) -> Vec<(LeaseId, u64)> {
        let mut all: Vec<_> = self.held.iter().map(|(id, held)| (*id, held.seconds)).collect();
        all.sort_unstable();
        all
    }

    /// Leases that have run out, at most `limit`.
    pub(super) fn expired(&self, now: Duration, limit: usize) -> Vec<LeaseId> {
        self.expiries.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| *id).collect()
    }

    /// When the next lease runs out.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(at, _)| *at)
    }
}
