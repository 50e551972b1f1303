//! Evaluating transactions, compared with a map that does the plain thing.

use std::collections::BTreeMap;

use super::*;
use crate::embedded::view::{Execution, Overlay, View};

type Plain = BTreeMap<Bytes, (Bytes, u64)>;

fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn keys(seed: &mut u64) -> KeyRange {
    let (a, b) = (next(seed) % 12, next(seed) % 12);
    match next(seed) % 4 {
        0 => KeyRange::key(format!("/{a:02}")),
        1 => KeyRange { start: format!("/{a:02}").into(), end: Some(format!("/{b:02}").into()) },
        2 => KeyRange { start: format!("/{a:02}").into(), end: None },
        _ => KeyRange::prefix(b"/0"),
    }
}

fn read(plain: &Plain, range: &KeyRange) -> Vec<(Bytes, Bytes, u64)> {
    let inside = plain.iter().filter(|(key, _)| range.contains(key));
    inside.map(|(key, (value, revision))| (key.clone(), value.clone(), *revision)).collect()
}

/// Random groups of transactions on an index see exactly what a map sees to which they are applied one by one.
#[test]
fn a_group_sees_what_came_before_it_and_in_it() {
    let mut seed = 7;
    for _ in 0..200 {
        let (mut index, mut plain) = (Index::at(1, 0), Plain::new());
        for _ in 0..4 {
            let mut overlay = Overlay::on(index.revision());
            let mut changes = Vec::new();
            for _ in 0..4 {
                one(&mut seed, &index, &mut overlay, &mut plain, &mut changes);
            }
            let revision = overlay.revision();
            changes.into_iter().for_each(|change| drop(index.apply(change)));
            assert_eq!(index.revision(), revision);
            let all = index.range(&Range::prefix(b"")).unwrap();
            let all: Vec<_> = all.kvs.into_iter().map(|kv| (kv.key, kv.value, kv.mod_revision)).collect();
            assert_eq!(all, read(&plain, &KeyRange::prefix(b"")));
        }
    }
}

fn one(
    seed: &mut u64,
    index: &Index,
    overlay: &mut Overlay,
    plain: &mut Plain,
    changes: &mut Vec<crate::embedded::format::Change>,
) {
    let range = keys(seed);
    let absent = read(plain, &range).is_empty();
    let compare = Compare { keys: range.clone(), order: Order::Equal, target: Target::Version(0) };
    let (put_key, deleted, seen) = (format!("/{:02}", next(seed) % 12), keys(seed), keys(seed));
    let (value, limit) = (next(seed).to_string(), next(seed) as usize % 4);
    let ops = vec![
        put(&put_key, &value),
        Op::Range(Range { keys: seen.clone(), limit, ..Range::default() }),
        Op::Delete(deleted.clone()),
    ];
    let txn = Txn { compare: vec![compare], success: ops.clone(), failure: ops[1..].to_vec(), ..Txn::default() };
    let path = View { index, overlay }.path(&txn);
    let before = overlay.revision();
    let mut execution = Execution::new(index, overlay);
    let result = execution.run(&txn, &path).unwrap();
    changes.extend(std::mem::take(&mut execution.changes));
    assert_eq!(result.succeeded, absent, "{range:?} in {plain:?}");
    if absent {
        plain.insert(put_key.into(), (value.into(), before + 1));
    }
    let mut results = result.results.iter().skip(usize::from(absent));
    let Some(OpResult::Range(page)) = results.next() else { panic!("{result:?}") };
    let right = read(plain, &seen);
    let found: Vec<_> = page.kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone(), kv.mod_revision)).collect();
    assert_eq!(page.count, right.len());
    assert_eq!(found, right[..if limit == 0 { right.len() } else { right.len().min(limit) }]);
    let Some(OpResult::Delete { previous }) = results.next() else { panic!("{result:?}") };
    assert_eq!(previous.len(), read(plain, &deleted).len());
    plain.retain(|key, _| !deleted.contains(key));
    let wrote = absent || !previous.is_empty();
    assert_eq!(result.revision, before + u64::from(wrote));
}

/// As in etcd: a missing key has zeroes, also when a whole range is missing; a missing value equals nothing.
#[test]
fn conditions_on_what_is_not_there() {
    let (index, overlay) = (Index::at(1, 0), Overlay::on(1));
    let holds = |keys: KeyRange, order, target| {
        let compare = vec![Compare { keys, order, target }];
        let path = View { index: &index, overlay: &overlay }.path(&Txn { compare, ..Txn::default() });
        format!("{path:?}").contains("holds: true")
    };
    for keys in [KeyRange::key("/a"), KeyRange::prefix(b"/")] {
        assert!(holds(keys.clone(), Order::Equal, Target::Version(0)));
        assert!(holds(keys.clone(), Order::Less, Target::CreateRevision(5)));
        assert!(!holds(keys.clone(), Order::Greater, Target::ModRevision(0)));
        assert!(holds(keys.clone(), Order::Equal, Target::Lease(0)));
        assert!(!holds(keys.clone(), Order::Equal, Target::Value(Bytes::new())));
        assert!(!holds(keys, Order::NotEqual, Target::Value("x".into())));
    }
}
