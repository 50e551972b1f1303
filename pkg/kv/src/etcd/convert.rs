//! The store's requests and answers as etcd's, and back.

use bytes::Bytes;
use kedge_etcdpb::{etcdserverpb as pb, mvccpb};

use crate::api::{Compare, Event, KeyRange, KeyValue, Op, OpResult, Order, Range, RangeResult, Target, Txn, TxnResult};
use crate::error::Error;

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `key` and `range_end` of a range. An empty `range_end` means one key, a zero byte means no end.
pub(super) fn bounds(keys: &KeyRange) -> Result<(Bytes, Bytes), Error> {
    const FIRST: &[u8] = &[0];
    if keys.is_single() {
        return if keys.start.is_empty() { Err(Error::EmptyKey) } else { Ok((keys.start.clone(), Bytes::new())) };
    }
    if keys.is_empty() {
        // An end that is not behind the start: etcd finds nothing there, as it should be.
        return Ok((Bytes::from_static(b"\x01"), Bytes::from_static(b"\x01")));
    }
    // Keys are never empty, so the first possible key is a zero byte.
    let start = if keys.start.is_empty() { Bytes::from_static(FIRST) } else { keys.start.clone() };
    Ok((start, keys.end.clone().unwrap_or(Bytes::from_static(FIRST))))
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        lease: kv.lease,
    }
}

pub(super) fn range_request(range: &Range) -> Result<pb::RangeRequest, Error> {
    let (key, range_end) = bounds(&range.keys)?;
    Ok(pb::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(range.limit).unwrap_or(i64::MAX),
        revision: signed(range.revision.unwrap_or(0)),
        count_only: range.count_only,
        keys_only: range.keys_only,
        ..Default::default()
    })
}

/// `asked`: the revision that the request named.
pub(super) fn range_result(answer: pb::RangeResponse, asked: Option<u64>) -> RangeResult {
    let newest = answer.header.map_or(0, |h| unsigned(h.revision));
    RangeResult {
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        revision: asked.unwrap_or(newest),
        count: usize::try_from(answer.count).unwrap_or(0),
    }
}

fn compare(compare: &Compare) -> Result<pb::Compare, Error> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (key, range_end) = bounds(&compare.keys)?;
    let result = match compare.order {
        Order::Equal => CompareResult::Equal,
        Order::NotEqual => CompareResult::NotEqual,
        Order::Greater => CompareResult::Greater,
        Order::Less => CompareResult::Less,
    };
    let (target, union) = match &compare.target {
        Target::Version(n) => (CompareTarget::Version, TargetUnion::Version(signed(*n))),
        Target::CreateRevision(n) => (CompareTarget::Create, TargetUnion::CreateRevision(signed(*n))),
        Target::ModRevision(n) => (CompareTarget::Mod, TargetUnion::ModRevision(signed(*n))),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        Target::Lease(id) => (CompareTarget::Lease, TargetUnion::Lease(*id)),
    };
    Ok(pb::Compare { result: result.into(), target: target.into(), key, range_end, target_union: Some(union) })
}

fn request_op(op: &Op) -> Result<pb::RequestOp, Error> {
    use pb::request_op::Request;
    let request = match op {
        Op::Range(range) => Request::RequestRange(range_request(range)?),
        Op::Put { key, value, lease } => {
            let (key, value) = (key.clone(), value.clone());
            Request::RequestPut(pb::PutRequest { key, value, lease: *lease, prev_kv: true, ..Default::default() })
        }
        Op::Delete(keys) => {
            let (key, range_end) = bounds(keys)?;
            Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: true })
        }
        Op::Txn(txn) => Request::RequestTxn(txn_request(txn)?),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

pub(super) fn txn_request(txn: &Txn) -> Result<pb::TxnRequest, Error> {
    Ok(pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: txn.success.iter().map(request_op).collect::<Result<_, _>>()?,
        failure: txn.failure.iter().map(request_op).collect::<Result<_, _>>()?,
    })
}

/// `revision`: of the whole transaction, for inner answers, which need not repeat it.
pub(super) fn txn_result(txn: &Txn, answer: pb::TxnResponse, revision: u64) -> Result<TxnResult, Error> {
    let ops = if answer.succeeded { &txn.success } else { &txn.failure };
    if ops.len() != answer.responses.len() {
        let (asked, got) = (ops.len(), answer.responses.len());
        return Err(Error::Protocol(format!("{got} answers to a transaction of {asked} operations")));
    }
    let results = ops.iter().zip(answer.responses).map(|(op, response)| op_result(op, response, revision));
    Ok(TxnResult { succeeded: answer.succeeded, revision, results: results.collect::<Result<_, _>>()? })
}

fn op_result(op: &Op, answer: pb::ResponseOp, revision: u64) -> Result<OpResult, Error> {
    use pb::response_op::Response;
    match (op, answer.response) {
        (Op::Range(range), Some(Response::ResponseRange(answer))) => {
            Ok(OpResult::Range(range_result(answer, Some(range.revision.unwrap_or(revision)))))
        }
        (Op::Put { .. }, Some(Response::ResponsePut(answer))) => {
            Ok(OpResult::Put { previous: answer.prev_kv.map(key_value) })
        }
        (Op::Delete(_), Some(Response::ResponseDeleteRange(answer))) => {
            Ok(OpResult::Delete { previous: answer.prev_kvs.into_iter().map(key_value).collect() })
        }
        (Op::Txn(txn), Some(Response::ResponseTxn(answer))) => Ok(OpResult::Txn(txn_result(txn, answer, revision)?)),
        _ => Err(Error::Protocol("the answer to an operation is of another kind".into())),
    }
}

pub(super) fn event(event: mvccpb::Event) -> Result<Event, Error> {
    let deleted = event.r#type() == mvccpb::event::EventType::Delete;
    let kv = event.kv.ok_or_else(|| Error::Protocol("an event without a key".into()))?;
    let current = key_value(kv);
    Ok(Event {
        revision: current.mod_revision,
        key: current.key.clone(),
        current: if deleted { None } else { Some(current) },
        previous: event.prev_kv.map(key_value),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_in_the_terms_of_etcd() {
        let of = |keys: KeyRange| {
            let (key, end) = bounds(&keys).unwrap();
            (key.to_vec(), end.to_vec())
        };
        assert_eq!(of(KeyRange::key("a")), (b"a".to_vec(), vec![]));
        assert_eq!(of(KeyRange::prefix(b"a")), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(of(KeyRange::prefix(b"")), (vec![0], vec![0]));
        assert_eq!(of(KeyRange::prefix(&[0xff])), (vec![0xff], vec![0]));
        let nothing = KeyRange { start: Bytes::from_static(b"b"), end: Some(Bytes::from_static(b"a")) };
        let (key, end) = of(nothing);
        assert!(!end.is_empty() && key >= end);
        assert!(matches!(bounds(&KeyRange::key("")), Err(Error::EmptyKey)));
    }
}
