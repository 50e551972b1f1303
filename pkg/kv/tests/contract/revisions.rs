//! Guarantees about revisions and versions.

use crate::store::Store;

pub async fn every_write_takes_the_next_revision(s: Store) {
    let first = s.put("/a", "1").await;
    assert_eq!(s.put("/b", "2").await, first + 1);
    assert_eq!(s.put("/a", "3").await, first + 2);
    assert_eq!(s.delete("/b").await.revision, first + 3);
    assert_eq!(s.newest().await, first + 3);
}

pub async fn a_write_of_the_same_value_is_a_write(s: Store) {
    let first = s.put("/a", "1").await;
    assert_eq!(s.put("/a", "1").await, first + 1);
    let kv = s.read("/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, first + 1, 2));
}

pub async fn versions_count_from_creation(s: Store) {
    let created = s.put("/a", "1").await;
    s.put("/a", "2").await;
    let kv = s.read("/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (created, created + 1, 2, 0));
    s.delete("/a").await;
    assert_eq!(s.read("/a").await, None);
    let again = s.put("/a", "3").await;
    let kv = s.read("/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
}

pub async fn a_deletion_of_nothing_takes_no_revision(s: Store) {
    let revision = s.put("/a", "1").await;
    let nothing = s.delete("/b").await;
    assert!(nothing.succeeded);
    assert_eq!(nothing.revision, revision);
    assert_eq!(s.newest().await, revision);
}

pub async fn reads_take_no_revision(s: Store) {
    let revision = s.put("/a", "1").await;
    s.read("/a").await;
    assert!(s.holds(vec![]).await);
    assert!(!s.holds(vec![kedge_kv::Compare::absent("/a")]).await);
    assert_eq!(s.newest().await, revision);
}

pub async fn the_handle_knows_the_newest_revision(s: Store) {
    let revision = s.put("/a", "1").await;
    assert!(s.revision() >= revision);
    let by_other =
        s.other.txn(crate::store::when(vec![], vec![crate::store::put("/a", "2", 0)], vec![])).await.unwrap();
    assert!(s.barrier().await.unwrap() >= by_other.revision);
    assert!(s.revision() >= by_other.revision);
}
