//! What a request may be: the limits of etcd, judged before an engine sees the request, so that all engines answer alike.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;

use crate::api::{Compare, KeyRange, Op, Range, Target, Txn};
use crate::error::Error;

/// Keys and values of one request together, in bytes.
pub(crate) const MAX_REQUEST: usize = 1_572_864;
/// Operations of one branch of a transaction, or its conditions, with those of the longest chain of transactions in it.
pub const MAX_OPS: usize = 128;
/// The longest lease, in seconds.
pub(crate) const MAX_LEASE_SECONDS: u64 = 9_000_000_000;

/// Refuses a read that no engine may be asked for.
pub(crate) fn range(range: &Range) -> Result<(), Error> {
    keys(&range.keys)
}

/// Refuses a transaction that is too large, or that would write a key twice.
pub(crate) fn txn(txn: &Txn) -> Result<(), Error> {
    shape(txn, MAX_OPS)?;
    let size = size(txn);
    if size > MAX_REQUEST {
        return Err(Error::TooLarge { what: "a request", size, limit: MAX_REQUEST });
    }
    Touched::by(&txn.success)?;
    Touched::by(&txn.failure)?;
    Ok(())
}

/// The seconds of a lease that lasts at least `ttl`.
pub(crate) fn lease_seconds(ttl: std::time::Duration) -> Result<u64, Error> {
    let seconds = (ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(1);
    if seconds > MAX_LEASE_SECONDS {
        return Err(Error::LeaseTtl(seconds));
    }
    Ok(seconds)
}

/// Whether a transaction writes nothing, whichever way it goes.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put { .. } | Op::Delete(_) => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

fn keys(range: &KeyRange) -> Result<(), Error> {
    // A range of many keys may begin at the empty key; one key may not be empty.
    if range.start.is_empty() && range.is_single() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Keys are not empty, and there are no more than `limit` operations.
fn shape(txn: &Txn, limit: usize) -> Result<(), Error> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if count > limit {
        return Err(Error::TooManyOps { count: MAX_OPS - limit + count, limit: MAX_OPS });
    }
    for compare in &txn.compare {
        keys(&compare.keys)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) => keys(&range.keys)?,
            Op::Put { key, .. } if key.is_empty() => return Err(Error::EmptyKey),
            Op::Put { .. } => {}
            Op::Delete(range) => keys(range)?,
            Op::Txn(inner) => shape(inner, limit - count)?,
        }
    }
    Ok(())
}

fn size(txn: &Txn) -> usize {
    let of_range = |range: &KeyRange| range.start.len() + range.end.as_ref().map_or(0, Bytes::len);
    let of_compare = |compare: &Compare| {
        of_range(&compare.keys) + if let Target::Value(value) = &compare.target { value.len() } else { 0 }
    };
    let of_op = |op: &Op| match op {
        Op::Range(range) => of_range(&range.keys),
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(range) => of_range(range),
        Op::Txn(inner) => size(inner),
    };
    let conditions: usize = txn.compare.iter().map(of_compare).sum();
    conditions + txn.success.iter().chain(&txn.failure).map(of_op).sum::<usize>()
}

/// What a list of operations writes, those of inner transactions included.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: HashSet<KeyRange>,
}

impl Touched {
    /// A key must not be put twice, nor be put and deleted. The branches of an inner transaction exclude each other, so
    /// both may put the same key. The number of operations has been judged before, which bounds the work here.
    fn by(ops: &[Op]) -> Result<Self, Error> {
        let mut all = Self::default();
        for op in ops {
            if let Op::Delete(range) = op {
                all.deletes.insert(range.clone());
            }
        }
        for op in ops {
            if let Op::Txn(inner) = op {
                let (then, otherwise) = (Self::by(&inner.success)?, Self::by(&inner.failure)?);
                for key in then.puts.union(&otherwise.puts) {
                    all.put(key)?;
                }
                all.deletes.extend(then.deletes);
                all.deletes.extend(otherwise.deletes);
            }
        }
        for op in ops {
            if let Op::Put { key, .. } = op {
                all.put(key)?;
            }
        }
        Ok(all)
    }

    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        let deleted = self.deletes.iter().any(|range| range.contains(key));
        if deleted || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey(String::from_utf8_lossy(key).into_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(key: &'static str) -> Op {
        Op::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::from_static(b"v"), lease: 0 }
    }

    fn ops(success: Vec<Op>) -> Txn {
        Txn { success, ..Txn::default() }
    }

    fn delete(prefix: &'static str) -> Op {
        Op::Delete(KeyRange::prefix(prefix.as_bytes()))
    }

    #[test]
    fn a_key_is_written_once() {
        let twice = [
            vec![put("/a"), put("/a")],
            vec![delete("/"), put("/a")],
            vec![put("/a"), delete("/")],
            vec![put("/a"), Op::Txn(ops(vec![put("/a")]))],
            vec![delete("/"), Op::Txn(ops(vec![put("/a")]))],
            vec![Op::Txn(ops(vec![delete("/a")])), put("/a")],
            vec![Op::Txn(ops(vec![put("/a")])), Op::Txn(ops(vec![put("/a")]))],
        ];
        for case in twice {
            let refused = txn(&ops(case.clone()));
            assert!(matches!(&refused, Err(Error::DuplicateKey(key)) if key == "/a"), "{case:?}: {refused:?}");
        }
        let both_ways = Txn { success: vec![put("/a")], failure: vec![put("/a")], ..Txn::default() };
        txn(&both_ways).unwrap();
        txn(&ops(vec![Op::Txn(both_ways), put("/b"), delete("/c"), delete("/c")])).unwrap();
    }

    #[test]
    fn sizes_and_counts_have_limits() {
        let many = |n: usize| {
            let one = |i: usize| Op::Delete(KeyRange::key(format!("/{i}")));
            ops((0..n).map(one).collect())
        };
        txn(&many(MAX_OPS)).unwrap();
        assert!(matches!(txn(&many(MAX_OPS + 1)), Err(Error::TooManyOps { count: 129, limit: 128 })));
        let nested = ops(vec![Op::Txn(many(MAX_OPS - 1))]);
        txn(&nested).unwrap();
        let nested = ops(vec![Op::Txn(many(MAX_OPS))]);
        assert!(matches!(txn(&nested), Err(Error::TooManyOps { count: 129, limit: 128 })));
        let value = |len| ops(vec![Op::Put { key: "/a".into(), value: vec![0; len].into(), lease: 0 }]);
        txn(&value(MAX_REQUEST - 2)).unwrap();
        assert!(matches!(txn(&value(MAX_REQUEST - 1)), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn keys_are_not_empty() {
        assert!(matches!(txn(&ops(vec![put("")])), Err(Error::EmptyKey)));
        assert!(matches!(range(&Range::key("")), Err(Error::EmptyKey)));
        range(&Range::prefix(b"")).unwrap();
    }

    #[test]
    fn leases_last_whole_seconds() {
        use std::time::Duration;
        assert_eq!(lease_seconds(Duration::ZERO).unwrap(), 1);
        assert_eq!(lease_seconds(Duration::from_millis(1_001)).unwrap(), 2);
        assert!(matches!(lease_seconds(Duration::from_secs(MAX_LEASE_SECONDS + 1)), Err(Error::LeaseTtl(_))));
    }
}
