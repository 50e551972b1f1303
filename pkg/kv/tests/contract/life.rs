//! Guarantees about compaction, health and the end.

use std::time::Duration;

use kedge_kv::{Error, Range};

use crate::recorder::Recorder;
use crate::store::{Store, texts};

async fn at(s: &Store, revision: u64) -> Result<Vec<String>, Error> {
    let range = Range { revision: Some(revision), ..Range::prefix(b"/") };
    s.range(range).await.map(|r| texts(&r.kvs))
}

pub async fn compacted_revisions_are_refused(s: Store) {
    let first = s.put("/a", "1").await;
    s.put("/a", "2").await;
    let kept = s.put("/b", "3").await;
    let last = s.delete("/a").await.revision;
    s.compact(kept).await.unwrap();
    for revision in first..kept {
        let refused = at(&s, revision).await;
        let right = matches!(refused, Err(Error::Compacted { requested, compacted })
            if requested == revision && compacted > revision && compacted <= kept);
        assert!(right, "{revision}: {refused:?}");
    }
    assert_eq!(at(&s, kept).await.unwrap(), ["/a", "/b"]);
    assert_eq!(at(&s, last).await.unwrap(), ["/b"]);
}

pub async fn compaction_keeps_what_is_current(s: Store) {
    let created = s.put("/a", "1").await;
    let changed = s.put("/a", "2").await;
    s.put("/gone", "1").await;
    let last = s.delete("/gone").await.revision;
    s.compact(last).await.unwrap();
    let kv = s.read("/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, changed, 2));
    assert_eq!(s.keys("/").await, ["/a"]);
    assert_eq!(s.put("/a", "3").await, last + 1);
}

pub async fn compaction_goes_forward_only(s: Store) {
    s.put("/a", "1").await;
    let kept = s.put("/a", "2").await;
    let last = s.put("/a", "3").await;
    s.compact(kept).await.unwrap();
    for revision in [kept, kept - 1] {
        let refused = s.compact(revision).await;
        assert!(matches!(refused, Err(Error::Compacted { requested, .. }) if requested == revision), "{refused:?}");
    }
    let refused = s.compact(last + 1).await;
    assert!(matches!(refused, Err(Error::FutureRevision { requested, .. }) if requested == last + 1), "{refused:?}");
    s.compact(last).await.unwrap();
    assert_eq!(at(&s, last).await.unwrap(), ["/a"]);
}

pub async fn a_store_is_healthy(s: Store) {
    s.health().await.unwrap();
}

pub async fn a_closed_store_takes_nothing(s: Store) {
    let recorder = Recorder::new();
    s.observe(b"/", recorder.clone()).await.unwrap();
    s.put("/a", "1").await;
    s.close().await;
    s.close().await;
    assert!(matches!(s.put_with("/a", "2", 0).await, Err(Error::Closed(_))));
    assert!(matches!(s.compact(1).await, Err(Error::Closed(_))));
    assert!(matches!(s.grant(None, Duration::from_secs(5)).await, Err(Error::Closed(_))));
    assert!(s.health().await.is_err());
}
