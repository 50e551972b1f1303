//! Guarantees about what is refused, and about what just still goes.

use std::time::Duration;

use kedge_kv::{Error, KeyRange, Op, Range};

use crate::store::{Store, bytes, put, when};

const REQUEST: usize = 1_572_864;

pub async fn empty_keys_are_refused(s: Store) {
    let before = s.newest().await;
    assert!(matches!(s.put_with("", "1", 0).await, Err(Error::EmptyKey)));
    assert!(matches!(s.range(Range::key("")).await, Err(Error::EmptyKey)));
    let delete = when(vec![], vec![Op::Delete(KeyRange::key(""))], vec![]);
    assert!(matches!(s.txn(delete).await, Err(Error::EmptyKey)));
    assert_eq!(s.newest().await, before);
}

pub async fn large_requests_are_refused(s: Store) {
    let before = s.newest().await;
    let refused = s.put_with("/a", &"x".repeat(REQUEST), 0).await;
    assert!(matches!(refused, Err(Error::TooLarge { limit: REQUEST, .. })), "{refused:?}");
    let half = "x".repeat(REQUEST / 2);
    let two = when(vec![], vec![put("/a", &half, 0), put("/b", &half, 0)], vec![]);
    assert!(matches!(s.txn(two).await, Err(Error::TooLarge { .. })));
    assert_eq!((s.newest().await, s.keys("/").await.len()), (before, 0));
}

pub async fn many_operations_are_refused(s: Store) {
    let ops = |n: usize| (0..n).map(|i| put(&format!("/{i:03}"), "1", 0)).collect::<Vec<_>>();
    let refused = s.txn(when(vec![], ops(129), vec![])).await;
    assert!(matches!(refused, Err(Error::TooManyOps { limit: 128, .. })), "{refused:?}");
    assert_eq!(s.keys("/").await.len(), 0);
    s.txn(when(vec![], ops(128), vec![])).await.unwrap();
    assert_eq!(s.keys("/").await.len(), 128);
}

pub async fn long_leases_are_refused(s: Store) {
    let refused = s.grant(None, Duration::from_secs(9_000_000_001)).await;
    assert!(matches!(refused, Err(Error::LeaseTtl(9_000_000_001))), "{refused:?}");
    s.grant(None, Duration::from_secs(9_000_000_000)).await.unwrap();
}

pub async fn large_values_come_back_whole(s: Store) {
    for (i, key) in ["/a", "/b", "/c", "/d"].iter().enumerate() {
        s.put(key, &format!("{i}").repeat(1_400_000)).await;
    }
    let all = s.range(Range::prefix(b"/")).await.unwrap();
    assert_eq!(all.kvs.iter().map(|kv| kv.value.len()).sum::<usize>(), 4 * 1_400_000);
    assert_eq!(all.kvs[3].value, bytes(&"3".repeat(1_400_000)));
}
