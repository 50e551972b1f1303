//! One lease for many short-lived keys, as kube-apiserver does it: a lease a key would burden every engine.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::SharedClock;
use tokio::sync::Mutex;

use crate::api::{Kv, LeaseId};
use crate::error::Error;

/// A lease is reused while the time by which its keys would live too long is at most this.
const WINDOW: Duration = Duration::from_secs(60);
/// … and at most one part in so many of what was asked for.
const WINDOW_PART: u32 = 20;
/// Keys that one lease is handed out for.
const KEYS: usize = 1_000;

/// Hands out leases.
///
/// A key lives at least as long as it asked for, and at most 5 % or 60 seconds longer, whichever is less.
pub struct LeaseReuse {
    kv: Arc<dyn Kv>,
    clock: SharedClock,
    last: Mutex<Option<Granted>>,
}

struct Granted {
    id: LeaseId,
    /// On the monotonic clock.
    expires: Duration,
    keys: usize,
}

impl LeaseReuse {
    /// Without a lease yet.
    pub fn new(kv: Arc<dyn Kv>, clock: SharedClock) -> Self {
        Self { kv, clock, last: Mutex::new(None) }
    }

    /// A lease for one key that is to live for `ttl`.
    ///
    /// # Errors
    /// When a lease is needed and the store grants none.
    pub async fn lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        // Held across the grant, so that many keys that come at once share one lease.
        let mut last = self.last.lock().await;
        let now = self.clock.monotonic();
        let window = WINDOW.min(ttl / WINDOW_PART);
        if let Some(granted) = last.as_mut() {
            let long_enough = now + ttl < granted.expires;
            let not_too_long = now + ttl + window >= granted.expires;
            if long_enough && not_too_long && granted.keys < KEYS {
                granted.keys += 1;
                return Ok(granted.id);
            }
        }
        let lease = self.kv.grant(None, ttl + window).await?;
        *last = Some(Granted { id: lease.id, expires: now + lease.ttl, keys: 1 });
        Ok(lease.id)
    }

    /// Forgets the lease, because the store says that it does not exist (any more).
    pub async fn forget(&self, id: LeaseId) {
        let mut last = self.last.lock().await;
        if last.as_ref().is_some_and(|granted| granted.id == id) {
            *last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Embedded;
    use kedge_base::VirtualClock;

    #[tokio::test]
    async fn keys_share_a_lease_within_its_window() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let kv = Arc::new(Embedded::memory(Arc::new(clock.clone())).unwrap());
        let leases = LeaseReuse::new(kv.clone(), Arc::new(clock.clone()));
        let hour = Duration::from_secs(3_600);
        let first = leases.lease(hour).await.unwrap();
        assert_eq!(kv.lease(first).await.unwrap().ttl, Duration::from_secs(3_660));
        clock.advance(Duration::from_secs(59));
        assert_eq!(leases.lease(hour).await.unwrap(), first);
        clock.advance(Duration::from_secs(1));
        let second = leases.lease(hour).await.unwrap();
        assert_ne!(second, first, "a key would not live as long as it asked for");
        let short = leases.lease(Duration::from_secs(60)).await.unwrap();
        assert_ne!(short, second, "a key would live far longer than it asked for");
        assert_eq!(kv.lease(short).await.unwrap().ttl, Duration::from_secs(63));
    }

    #[tokio::test]
    async fn a_lease_has_so_many_keys() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let kv = Arc::new(Embedded::memory(Arc::new(clock.clone())).unwrap());
        let leases = LeaseReuse::new(kv, Arc::new(clock));
        let hour = Duration::from_secs(3_600);
        let first = leases.lease(hour).await.unwrap();
        for _ in 1..KEYS {
            assert_eq!(leases.lease(hour).await.unwrap(), first);
        }
        let second = leases.lease(hour).await.unwrap();
        assert_ne!(second, first);
        leases.forget(second).await;
        assert_ne!(leases.lease(hour).await.unwrap(), second);
    }
}
