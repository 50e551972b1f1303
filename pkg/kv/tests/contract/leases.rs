//! Guarantees about leases.

use std::time::Duration;

use kedge_base::random;
use kedge_kv::Error;

use crate::recorder::Recorder;
use crate::store::{Store, put, when};

const LONG: Duration = Duration::from_secs(3_600);

fn new_id() -> i64 {
    i64::try_from(random::u64() >> 2).unwrap() + 1
}

pub async fn an_expired_lease_takes_its_keys_along(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    let lease = s.grant(None, Duration::from_secs(2)).await.unwrap();
    let two = vec![put("/a", "1", lease.id), put("/b", "1", lease.id), put("/c", "1", 0)];
    let written = s.txn(when(vec![], two, vec![])).await.unwrap().revision;
    let events = recorder.wait(|events| events.iter().filter(|e| e.current.is_none()).count() == 2).await;
    let gone: Vec<_> = events.iter().filter(|e| e.current.is_none()).collect();
    assert!(gone.iter().all(|e| e.revision > written && e.previous.as_ref().is_some_and(|kv| kv.lease == lease.id)));
    assert_eq!(s.keys("/").await, ["/c"]);
    assert!(matches!(s.lease(lease.id).await, Err(Error::LeaseNotFound(id)) if id == lease.id));
    assert!(!s.leases().await.unwrap().contains(&lease.id));
}

pub async fn a_revoked_lease_takes_its_keys_along(s: Store) {
    let lease = s.grant(None, LONG).await.unwrap();
    s.put_with("/a", "1", lease.id).await.unwrap();
    s.put_with("/b", "1", lease.id).await.unwrap();
    let before = s.put("/c", "1").await;
    s.revoke(lease.id).await.unwrap();
    assert_eq!(s.keys("/").await, ["/c"]);
    assert_eq!(s.newest().await, before + 1);
    let empty = s.grant(None, LONG).await.unwrap();
    s.revoke(empty.id).await.unwrap();
    assert_eq!(s.newest().await, before + 1);
}

/// The time that is left only ever falls, unless a lease is kept alive.
pub async fn a_kept_lease_stays(s: Store) {
    let lease = s.grant(None, LONG).await.unwrap();
    s.put_with("/kept", "1", lease.id).await.unwrap();
    let remaining = async || s.lease(lease.id).await.unwrap().remaining;
    let mut least = remaining().await;
    while least > LONG - Duration::from_secs(2) {
        least = remaining().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loop {
        let again = s.keep_alive(lease.id).await.unwrap();
        assert_eq!((again.id, again.ttl), (lease.id, LONG));
        if remaining().await > least {
            break;
        }
    }
    assert_eq!(s.keys("/").await, ["/kept"]);
}

pub async fn a_lease_is_described(s: Store) {
    let id = new_id();
    let lease = s.grant(Some(id), Duration::from_millis(99_001)).await.unwrap();
    assert_eq!((lease.id, lease.ttl), (id, Duration::from_secs(100)));
    s.put_with("/b", "1", id).await.unwrap();
    s.put_with("/a", "1", id).await.unwrap();
    assert_eq!(s.read("/a").await.unwrap().lease, id);
    let status = s.lease(id).await.unwrap();
    assert_eq!((status.id, status.ttl), (id, Duration::from_secs(100)));
    assert!(status.remaining <= status.ttl);
    assert_eq!(status.keys, ["/a", "/b"]);
    let own = s.grant(None, LONG).await.unwrap();
    assert_ne!(own.id, 0);
    let mut all = vec![id, own.id];
    all.sort_unstable();
    assert_eq!(s.leases().await.unwrap(), all);
}

pub async fn a_key_follows_its_last_lease(s: Store) {
    let (first, second) = (s.grant(None, LONG).await.unwrap(), s.grant(None, LONG).await.unwrap());
    s.put_with("/moved", "1", first.id).await.unwrap();
    s.put_with("/moved", "2", second.id).await.unwrap();
    s.put_with("/freed", "1", first.id).await.unwrap();
    s.put("/freed", "2").await;
    s.put_with("/gone", "1", first.id).await.unwrap();
    s.delete("/gone").await;
    s.put("/gone", "2").await;
    assert_eq!(s.lease(first.id).await.unwrap().keys.len(), 0);
    assert_eq!(s.lease(second.id).await.unwrap().keys, ["/moved"]);
    s.revoke(first.id).await.unwrap();
    assert_eq!(s.keys("/").await, ["/freed", "/gone", "/moved"]);
    s.revoke(second.id).await.unwrap();
    assert_eq!(s.keys("/").await, ["/freed", "/gone"]);
}

pub async fn an_unknown_lease_changes_nothing(s: Store) {
    let before = s.put("/a", "1").await;
    let unknown = new_id();
    let both = when(vec![], vec![put("/a", "2", 0), put("/b", "2", unknown)], vec![]);
    let refused = s.txn(both).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound(id)) if id == unknown), "{refused:?}");
    assert_eq!((s.newest().await, s.keys("/").await), (before, vec!["/a".to_owned()]));
    assert_eq!(s.read("/a").await.unwrap().value, "1");
    // Only the branch that is taken counts.
    let other = when(vec![], vec![put("/c", "1", 0)], vec![put("/c", "1", unknown)]);
    assert!(s.txn(other).await.unwrap().succeeded);
}

pub async fn unknown_leases_are_named(s: Store) {
    let unknown = new_id();
    let not_found = |error: &Error| matches!(error, Error::LeaseNotFound(id) if *id == unknown);
    assert!(not_found(&s.revoke(unknown).await.unwrap_err()));
    assert!(not_found(&s.keep_alive(unknown).await.unwrap_err()));
    assert!(not_found(&s.lease(unknown).await.unwrap_err()));
}

pub async fn a_lease_id_is_taken_once(s: Store) {
    let id = new_id();
    s.grant(Some(id), LONG).await.unwrap();
    let again = s.grant(Some(id), LONG).await;
    assert!(matches!(again, Err(Error::LeaseExists(taken)) if taken == id), "{again:?}");
    s.revoke(id).await.unwrap();
    s.grant(Some(id), LONG).await.unwrap();
}
