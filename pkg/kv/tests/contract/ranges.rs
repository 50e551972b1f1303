//! Guarantees about reads of ranges.

use kedge_kv::{Error, KeyRange, Range};

use crate::store::{Store, bytes, texts};

async fn fill(s: &Store, keys: &[&str]) -> u64 {
    let mut revision = 0;
    for key in keys {
        revision = s.put(key, &format!("value of {key}")).await;
    }
    revision
}

pub async fn a_range_is_in_the_order_of_keys(s: Store) {
    fill(&s, &["/b", "/a/2", "/a", "/a/10", "/a0", "/c"]).await;
    assert_eq!(s.keys("/").await, ["/a", "/a/10", "/a/2", "/a0", "/b", "/c"]);
    assert_eq!(s.keys("/a/").await, ["/a/10", "/a/2"]);
    let keys = KeyRange { start: bytes("/a/2"), end: Some(bytes("/c")) };
    let some = s.range(Range { keys, ..Range::default() }).await.unwrap();
    assert_eq!(texts(&some.kvs), ["/a/2", "/a0", "/b"]);
}

pub async fn a_limit_leaves_the_count(s: Store) {
    let revision = fill(&s, &["/a", "/b", "/c", "/d", "/x"]).await;
    let page = s.range(Range { limit: 3, ..Range::prefix(b"/") }).await.unwrap();
    assert_eq!(texts(&page.kvs), ["/a", "/b", "/c"]);
    assert_eq!((page.count, page.remaining(), page.revision), (5, 2, revision));
    let all = s.range(Range { limit: 5, ..Range::prefix(b"/") }).await.unwrap();
    assert_eq!((all.kvs.len(), all.remaining()), (5, 0));
}

pub async fn counts_without_keys(s: Store) {
    fill(&s, &["/a", "/b", "/c"]).await;
    let counted = s.range(Range { count_only: true, limit: 1, ..Range::prefix(b"/") }).await.unwrap();
    assert_eq!((counted.kvs.len(), counted.count), (0, 3));
}

pub async fn keys_without_values(s: Store) {
    let revision = fill(&s, &["/a", "/b"]).await;
    let keys = s.range(Range { keys_only: true, ..Range::prefix(b"/") }).await.unwrap().kvs;
    assert_eq!(texts(&keys), ["/a", "/b"]);
    assert!(keys.iter().all(|kv| kv.value.is_empty()));
    assert_eq!(keys[1].mod_revision, revision);
}

pub async fn an_old_revision_shows_the_old_state(s: Store) {
    let old = fill(&s, &["/a", "/b"]).await;
    s.put("/a", "new").await;
    s.delete("/b").await;
    s.put("/c", "new").await;
    let then = s.range(Range { revision: Some(old), ..Range::prefix(b"/") }).await.unwrap();
    assert_eq!((texts(&then.kvs), then.revision), (vec!["/a".to_owned(), "/b".to_owned()], old));
    assert_eq!(then.kvs[0].value, "value of /a");
    assert_eq!(then.kvs[1].mod_revision, old);
    assert_eq!(s.keys("/").await, ["/a", "/c"]);
}

pub async fn pages_of_one_revision_make_one_list(s: Store) {
    for i in 0..40 {
        s.put(&format!("/k/{i:02}"), "1").await;
    }
    let first = s.range(Range { limit: 15, ..Range::prefix(b"/k/") }).await.unwrap();
    s.put("/k/20x", "added later").await;
    s.delete("/k/30").await;
    let mut got = texts(&first.kvs);
    let mut next = Range { limit: 15, revision: Some(first.revision), ..Range::prefix(b"/k/") };
    loop {
        next.keys.start = [got.last().unwrap().as_bytes(), &[0]].concat().into();
        let page = s.range(next.clone()).await.unwrap();
        assert_eq!(page.revision, first.revision);
        assert_eq!(page.count, 40 - got.len());
        got.extend(texts(&page.kvs));
        if page.remaining() == 0 {
            break;
        }
    }
    let all: Vec<String> = (0..40).map(|i| format!("/k/{i:02}")).collect();
    assert_eq!(got, all);
    let at_once = s.range(Range { revision: Some(first.revision), ..Range::prefix(b"/k/") }).await.unwrap();
    assert_eq!((texts(&at_once.kvs), at_once.count), (all, 40));
    assert_eq!(s.range(Range { limit: 33, ..Range::prefix(b"/k/") }).await.unwrap().kvs.len(), 33);
}

pub async fn ranges_without_end(s: Store) {
    fill(&s, &["/a", "/b", "/c"]).await;
    let from = Range { keys: KeyRange { start: bytes("/b"), end: None }, ..Range::default() };
    assert_eq!(texts(&s.range(from).await.unwrap().kvs), ["/b", "/c"]);
    assert_eq!(s.keys("").await, ["/a", "/b", "/c"]);
    let until = Range { keys: KeyRange { start: bytes(""), end: Some(bytes("/b")) }, ..Range::default() };
    assert_eq!(texts(&s.range(until).await.unwrap().kvs), ["/a"]);
}

pub async fn a_range_of_nothing_is_empty(s: Store) {
    let revision = fill(&s, &["/a", "/b"]).await;
    for (start, end) in [("/b", "/a"), ("/b", "/b"), ("/b", "")] {
        let keys = KeyRange { start: bytes(start), end: Some(bytes(end)) };
        let nothing = s.range(Range { keys, ..Range::default() }).await.unwrap();
        assert_eq!((nothing.kvs.len(), nothing.count, nothing.revision), (0, 0, revision), "{start} {end}");
    }
}

pub async fn a_future_revision_is_refused(s: Store) {
    let revision = fill(&s, &["/a"]).await;
    let future = s.range(Range { revision: Some(revision + 1), ..Range::prefix(b"/") }).await;
    let refused = matches!(future, Err(Error::FutureRevision { requested, current })
        if requested == revision + 1 && current <= revision);
    assert!(refused, "{future:?}");
}

pub async fn a_prefix_of_only_high_bytes(s: Store) {
    let key: &[u8] = &[0xff, 0xff, 1];
    let put = kedge_kv::Op::Put { key: key.into(), value: bytes("1"), lease: 0 };
    s.txn(crate::store::when(vec![], vec![put], vec![])).await.unwrap();
    fill(&s, &["/a"]).await;
    for prefix in [&[0xff][..], &[0xff, 0xff], key] {
        let found = s.range(Range::prefix(prefix)).await.unwrap();
        assert_eq!((found.kvs.len(), &found.kvs[0].key[..]), (1, key), "{prefix:?}");
    }
}
