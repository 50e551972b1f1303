//! Guarantees about transactions.

use kedge_kv::{Compare, Error, KeyRange, Op, OpResult, Order, Range, Target};

use crate::store::{Store, bytes, found, put, texts, when};

fn key(key: &str, order: Order, target: Target) -> Compare {
    Compare { keys: KeyRange::key(key.to_owned()), order, target }
}

fn prefix(prefix: &str, order: Order, target: Target) -> Compare {
    Compare { keys: KeyRange::prefix(prefix.as_bytes()), order, target }
}

fn value(text: &str) -> Target {
    Target::Value(bytes(text))
}

pub async fn a_compare_and_swap_has_one_winner(s: Store) {
    let first = s.put("/a", "0").await;
    let swap = |kv: std::sync::Arc<dyn kedge_kv::Kv>, i: usize| {
        let txn = when(vec![Compare::mod_revision("/a", first)], vec![put("/a", &i.to_string(), 0)], vec![]);
        async move { kv.txn(txn).await.unwrap().succeeded }
    };
    let swaps = (0..32).map(|i| swap(if i % 2 == 0 { s.kv.clone() } else { s.other.clone() }, i));
    let won = futures::future::join_all(swaps).await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = won.iter().position(|won| *won).unwrap();
    let kv = s.read("/a").await.unwrap();
    assert_eq!((kv.value, kv.version, kv.mod_revision), (bytes(&winner.to_string()), 2, first + 1));
}

pub async fn conditions_compare_all_that_a_key_has(s: Store) {
    let lease = s.grant(None, std::time::Duration::from_secs(3_600)).await.unwrap().id;
    let created = s.put("/a", "old").await;
    let changed = s.put_with("/a", "m", lease).await.unwrap();
    let targets: [(&str, Target, Target, Target); 5] = [
        ("version", Target::Version(1), Target::Version(2), Target::Version(3)),
        (
            "created",
            Target::CreateRevision(created - 1),
            Target::CreateRevision(created),
            Target::CreateRevision(changed),
        ),
        ("changed", Target::ModRevision(created), Target::ModRevision(changed), Target::ModRevision(changed + 1)),
        ("value", value("lz"), value("m"), value("m0")),
        ("lease", Target::Lease(lease - 1), Target::Lease(lease), Target::Lease(lease + 1)),
    ];
    for (name, less, same, more) in targets {
        let cases = [
            (Order::Equal, [false, true, false]),
            (Order::NotEqual, [true, false, true]),
            (Order::Greater, [true, false, false]),
            (Order::Less, [false, false, true]),
        ];
        for (order, expected) in cases {
            for (target, expected) in [&less, &same, &more].into_iter().zip(expected) {
                let holds = s.holds(vec![key("/a", order, target.clone())]).await;
                assert_eq!(holds, expected, "{name} {order:?} {target:?}");
            }
        }
    }
}

pub async fn conditions_on_absent_keys_see_zeroes(s: Store) {
    for zero in [Target::Version(0), Target::CreateRevision(0), Target::ModRevision(0), Target::Lease(0)] {
        assert!(s.holds(vec![key("/a", Order::Equal, zero.clone())]).await, "{zero:?}");
        assert!(!s.holds(vec![key("/a", Order::Greater, zero.clone())]).await, "{zero:?}");
        assert!(!s.holds(vec![key("/a", Order::NotEqual, zero)]).await);
    }
    assert!(s.holds(vec![key("/a", Order::Less, Target::Version(1))]).await);
    for order in [Order::Equal, Order::NotEqual, Order::Greater, Order::Less] {
        assert!(!s.holds(vec![key("/a", order, value(""))]).await, "{order:?}");
    }
}

pub async fn conditions_on_ranges_hold_for_every_key(s: Store) {
    s.put("/a/1", "x").await;
    s.put("/a/2", "x").await;
    assert!(s.holds(vec![prefix("/a/", Order::Equal, Target::Version(1))]).await);
    assert!(s.holds(vec![prefix("/a/", Order::Equal, value("x"))]).await);
    s.put("/a/2", "y").await;
    assert!(!s.holds(vec![prefix("/a/", Order::Equal, Target::Version(1))]).await);
    assert!(s.holds(vec![prefix("/a/", Order::Greater, Target::Version(0))]).await);
    assert!(!s.holds(vec![prefix("/a/", Order::Equal, value("x"))]).await);
}

pub async fn conditions_on_empty_ranges_see_zeroes(s: Store) {
    s.put("/b", "x").await;
    assert!(s.holds(vec![prefix("/a/", Order::Equal, Target::Version(0))]).await);
    assert!(s.holds(vec![prefix("/a/", Order::Less, Target::ModRevision(1))]).await);
    assert!(!s.holds(vec![prefix("/a/", Order::Greater, Target::Version(0))]).await);
    assert!(!s.holds(vec![prefix("/a/", Order::Equal, Target::CreateRevision(5))]).await);
    assert!(!s.holds(vec![prefix("/a/", Order::NotEqual, value("x"))]).await);
}

pub async fn all_conditions_must_hold(s: Store) {
    s.put("/a", "x").await;
    assert!(s.holds(vec![key("/a", Order::Equal, value("x")), Compare::absent("/b")]).await);
    assert!(!s.holds(vec![key("/a", Order::Equal, value("x")), Compare::absent("/a")]).await);
    assert!(!s.holds(vec![Compare::absent("/a"), key("/a", Order::Equal, value("x"))]).await);
    assert!(s.holds(vec![]).await);
}

pub async fn a_transaction_reads_its_own_writes(s: Store) {
    let old = s.put("/a", "old").await;
    let read = || Op::Range(Range::prefix(b"/"));
    let ops = vec![
        read(),
        put("/a", "new", 0),
        put("/b", "new", 0),
        read(),
        Op::Delete(KeyRange::key("/c")),
        Op::Txn(when(vec![], vec![read(), put("/d", "inner", 0)], vec![])),
        read(),
        Op::Range(Range { revision: Some(old), ..Range::prefix(b"/") }),
    ];
    let done = s.txn(when(vec![], ops, vec![])).await.unwrap();
    assert_eq!(texts(&found(&done, 0)), ["/a"]);
    let between = found(&done, 3);
    assert_eq!(texts(&between), ["/a", "/b"]);
    assert_eq!((between[0].value.clone(), between[0].mod_revision, between[0].version), (bytes("new"), old + 1, 2));
    assert_eq!(texts(&found(&done, 6)), ["/a", "/b", "/d"]);
    assert_eq!(found(&done, 7)[0].value, "old");
    let OpResult::Txn(inner) = &done.results[5] else { panic!("no inner result: {:?}", done.results[5]) };
    assert_eq!(texts(&found(inner, 0)), ["/a", "/b"]);
}

pub async fn writes_of_a_transaction_share_a_revision(s: Store) {
    let before = s.put("/gone", "1").await;
    let ops = vec![put("/a", "1", 0), Op::Delete(KeyRange::key("/gone")), put("/b", "1", 0)];
    let done = s.txn(when(vec![], ops, vec![])).await.unwrap();
    assert_eq!(done.revision, before + 1);
    assert_eq!(s.read("/a").await.unwrap().mod_revision, before + 1);
    assert_eq!(s.read("/b").await.unwrap().mod_revision, before + 1);
    assert_eq!(s.put("/c", "1").await, before + 2);
}

pub async fn conditions_come_before_all_writes(s: Store) {
    s.put("/a", "old").await;
    let inner =
        when(vec![key("/a", Order::Equal, value("old"))], vec![put("/then", "1", 0)], vec![put("/else", "1", 0)]);
    let done = s.txn(when(vec![], vec![put("/a", "new", 0), Op::Txn(inner)], vec![])).await.unwrap();
    let OpResult::Txn(inner) = &done.results[1] else { panic!("no inner result: {:?}", done.results) };
    assert!(inner.succeeded);
    assert_eq!(s.keys("/").await, ["/a", "/then"]);
}

pub async fn inner_transactions_nest(s: Store) {
    let revision = s.put("/a", "1").await;
    let third = when(vec![Compare::absent("/a")], vec![put("/wrong", "1", 0)], vec![put("/third", "1", 0)]);
    let second =
        when(vec![Compare::mod_revision("/a", revision)], vec![Op::Txn(third), put("/second", "1", 0)], vec![]);
    let first = when(vec![], vec![put("/first", "1", 0), Op::Txn(second)], vec![]);
    let done = s.txn(first).await.unwrap();
    let OpResult::Txn(second) = &done.results[1] else { panic!("{:?}", done.results) };
    let OpResult::Txn(third) = &second.results[0] else { panic!("{:?}", second.results) };
    assert!(second.succeeded && !third.succeeded);
    assert_eq!(s.keys("/").await, ["/a", "/first", "/second", "/third"]);
    assert_eq!(s.read("/third").await.unwrap().mod_revision, done.revision);
}

pub async fn a_range_is_deleted_with_its_previous_values(s: Store) {
    for key in ["/a/2", "/a/1", "/b", "/a/3"] {
        s.put(key, &format!("value of {key}")).await;
    }
    let done = s.txn(when(vec![], vec![Op::Delete(KeyRange::prefix(b"/a/"))], vec![])).await.unwrap();
    let OpResult::Delete { previous } = &done.results[0] else { panic!("{:?}", done.results) };
    assert_eq!(texts(previous), ["/a/1", "/a/2", "/a/3"]);
    assert_eq!(previous[2].value, "value of /a/3");
    assert_eq!(s.keys("/").await, ["/b"]);
    let nothing = KeyRange { start: bytes("/b"), end: Some(bytes("/a")) };
    let done = s.txn(when(vec![], vec![Op::Delete(nothing), put("/b", "2", 0)], vec![])).await.unwrap();
    assert_eq!(done.results[0], OpResult::Delete { previous: vec![] });
    let OpResult::Put { previous: Some(before) } = &done.results[1] else { panic!("{:?}", done.results) };
    assert_eq!(before.value, "value of /b");
}

pub async fn keys_are_written_once(s: Store) {
    let before = s.put("/z", "1").await;
    let inner = |ops| Op::Txn(when(vec![], ops, vec![]));
    let twice = [
        vec![put("/a", "1", 0), put("/a", "2", 0)],
        vec![put("/a", "1", 0), Op::Delete(KeyRange::prefix(b"/"))],
        vec![Op::Delete(KeyRange::key("/a")), put("/a", "1", 0)],
        vec![put("/a", "1", 0), inner(vec![put("/a", "2", 0)])],
        vec![inner(vec![put("/a", "1", 0)]), inner(vec![put("/a", "2", 0)])],
        vec![inner(vec![Op::Delete(KeyRange::prefix(b"/"))]), put("/a", "1", 0)],
    ];
    for ops in twice {
        let refused = s.txn(when(vec![], ops.clone(), vec![])).await;
        assert!(matches!(&refused, Err(Error::DuplicateKey(key)) if key == "/a"), "{ops:?}: {refused:?}");
    }
    assert_eq!((s.newest().await, s.keys("/").await), (before, vec!["/z".to_owned()]));
    let either = when(vec![Compare::absent("/a")], vec![put("/a", "1", 0)], vec![put("/a", "2", 0)]);
    let both_deleted = vec![Op::Txn(either), Op::Delete(KeyRange::key("/z")), Op::Delete(KeyRange::key("/z"))];
    s.txn(when(vec![], both_deleted, vec![])).await.unwrap();
    assert_eq!(s.keys("/").await, ["/a"]);
}

pub async fn the_other_branch_runs_when_a_condition_fails(s: Store) {
    let revision = s.put("/a", "1").await;
    let read = Op::Range(Range::key("/a"));
    let lost = when(vec![Compare::absent("/a")], vec![put("/a", "2", 0)], vec![read.clone()]);
    let lost = s.txn(lost).await.unwrap();
    assert_eq!((lost.succeeded, lost.revision, lost.results.len()), (false, revision, 1));
    assert_eq!(found(&lost, 0)[0].value, "1");
    let other = when(vec![Compare::absent("/a")], vec![], vec![put("/b", "2", 0), read]);
    let other = s.txn(other).await.unwrap();
    assert_eq!((other.succeeded, other.revision), (false, revision + 1));
    assert_eq!(s.keys("/").await, ["/a", "/b"]);
}
