//! Transactions, and puts that keep a key's value or lease.

use std::collections::BTreeMap;

use bytes::Bytes;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Compare, Error, KeyValue, Kv as _, Op, OpResult, Txn, TxnResult};
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::Status;

use crate::convert::{compare, key_range, key_value, signed};
use crate::{Api, range, status};

/// How often a transaction that keeps values is tried when they change meanwhile.
const MAX_TRIES: u32 = 100;

/// The lease of a put whose key does not exist although its value or lease is to be kept. No lease has this id, so the
/// store refuses the transaction if it comes to that put, and only then.
const NOTHING_TO_KEEP: i64 = i64::MIN;

/// What must be read for puts that keep a value or a lease.
#[derive(Default)]
struct Kept {
    /// Current values of their keys.
    values: BTreeMap<Bytes, Option<KeyValue>>,
    /// The leases that they name, and whether these exist: etcd complains of a lease before it complains of the key.
    leases: BTreeMap<i64, bool>,
}

impl Api {
    /// Runs a transaction. Values that are kept are read first, and the transaction only counts if they stayed.
    pub(crate) async fn run(&self, request: &pb::TxnRequest) -> Result<TxnResult, Status> {
        let mut kept = Kept::default();
        keys_to_keep(request, &mut kept);
        for _ in 0..MAX_TRIES {
            for (key, value) in &mut kept.values {
                *value = self.kv.get(key).await.map_err(|e| status::of(&e))?;
            }
            for (id, exists) in &mut kept.leases {
                *exists = match self.kv.lease(*id).await {
                    Ok(_) => true,
                    Err(Error::LeaseNotFound(_)) => false,
                    Err(error) => return Err(status::of(&error)),
                };
            }
            let txn = store_txn(request, &kept)?;
            if kept.values.is_empty() {
                return self.kv.txn(txn).await.map_err(|e| status::of(&e));
            }
            let refused = |error: Error| match error {
                Error::LeaseNotFound(NOTHING_TO_KEEP) => status::invalid(status::KEY_NOT_FOUND),
                other => status::of(&other),
            };
            let unchanged = |(key, value): (&Bytes, &Option<KeyValue>)| {
                Compare::mod_revision(key.clone(), value.as_ref().map_or(0, |kv| kv.mod_revision))
            };
            let guarded = Txn {
                compare: kept.values.iter().map(unchanged).collect(),
                success: vec![Op::Txn(txn)],
                ..Txn::default()
            };
            let mut result = self.kv.txn(guarded).await.map_err(refused)?;
            if let (true, Some(OpResult::Txn(inner))) = (result.succeeded, result.results.pop()) {
                return Ok(inner);
            }
        }
        Err(Status::unavailable("the values to keep change too often"))
    }

    pub(crate) fn txn_response(&self, request: &pb::TxnRequest, result: TxnResult) -> Result<pb::TxnResponse, Status> {
        let ops = if result.succeeded { &request.success } else { &request.failure };
        let header = self.header_at(result.revision);
        let responses = ops.iter().zip(result.results).map(|(op, result)| self.response_op(op, result, &header));
        let responses = responses.collect::<Result<_, _>>()?;
        Ok(pb::TxnResponse { header, succeeded: result.succeeded, responses })
    }

    fn response_op(
        &self,
        op: &pb::RequestOp,
        result: OpResult,
        header: &Option<pb::ResponseHeader>,
    ) -> Result<pb::ResponseOp, Status> {
        // Inner answers only have a revision in their headers.
        let inner = header.map(|h| pb::ResponseHeader { revision: h.revision, ..pb::ResponseHeader::default() });
        let response = match (&op.request, result) {
            (Some(Request::RequestRange(request)), OpResult::Range(result)) => {
                let header = Some(pb::ResponseHeader { revision: signed(result.revision), ..Default::default() });
                Response::ResponseRange(pb::RangeResponse { header, ..range::response(request, result)? })
            }
            (Some(Request::RequestPut(request)), OpResult::Put { previous }) => {
                Response::ResponsePut(pb::PutResponse { header: inner, ..put_response(request, previous)? })
            }
            (Some(Request::RequestDeleteRange(request)), OpResult::Delete { previous }) => {
                let response = delete_response(request, previous)?;
                Response::ResponseDeleteRange(pb::DeleteRangeResponse { header: inner, ..response })
            }
            (Some(Request::RequestTxn(request)), OpResult::Txn(result)) => {
                let response = self.txn_response(request, result)?;
                Response::ResponseTxn(pb::TxnResponse { header: Some(pb::ResponseHeader::default()), ..response })
            }
            _ => return Err(Status::internal("the store answered an operation with another one's result")),
        };
        Ok(pb::ResponseOp { response: Some(response) })
    }
}

pub(crate) fn put_response(request: &pb::PutRequest, previous: Option<KeyValue>) -> Result<pb::PutResponse, Status> {
    let prev_kv = previous.filter(|_| request.prev_kv).map(key_value).transpose().map_err(|err| status::of(&err))?;
    Ok(pb::PutResponse { header: None, prev_kv })
}

pub(crate) fn delete_response(
    request: &pb::DeleteRangeRequest,
    previous: Vec<KeyValue>,
) -> Result<pb::DeleteRangeResponse, Status> {
    let deleted = i64::try_from(previous.len()).unwrap_or(i64::MAX);
    let shown = previous.into_iter().filter(|_| request.prev_kv).map(key_value);
    let prev_kvs = shown.collect::<Result<_, _>>().map_err(|err| status::of(&err))?;
    Ok(pb::DeleteRangeResponse { header: None, deleted, prev_kvs })
}

fn keys_to_keep(request: &pb::TxnRequest, kept: &mut Kept) {
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestPut(put)) if (put.ignore_value || put.ignore_lease) && !put.key.is_empty() => {
                kept.values.insert(put.key.clone(), None);
                if put.lease != 0 {
                    kept.leases.insert(put.lease, false);
                }
            }
            Some(Request::RequestTxn(inner)) => keys_to_keep(inner, kept),
            _ => {}
        }
    }
}

fn store_txn(request: &pb::TxnRequest, kept: &Kept) -> Result<Txn, Status> {
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::of(&Error::EmptyKey));
    }
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(|op| store_op(op, kept)).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compare: request.compare.iter().map(compare).collect(),
        success: ops(&request.success)?,
        failure: ops(&request.failure)?,
        ..Txn::default()
    })
}

fn store_op(op: &pb::RequestOp, kept: &Kept) -> Result<Op, Status> {
    match &op.request {
        Some(Request::RequestRange(request)) => Ok(Op::Range(range::request(request)?)),
        Some(Request::RequestPut(put)) => store_put(put, kept),
        Some(Request::RequestDeleteRange(delete)) => {
            if delete.key.is_empty() {
                return Err(status::of(&Error::EmptyKey));
            }
            Ok(Op::Delete(key_range(&delete.key, &delete.range_end)))
        }
        Some(Request::RequestTxn(txn)) => Ok(Op::Txn(store_txn(txn, kept)?)),
        None => Err(status::invalid(status::KEY_NOT_FOUND)),
    }
}

fn store_put(put: &pb::PutRequest, kept: &Kept) -> Result<Op, Status> {
    if put.key.is_empty() {
        return Err(status::of(&Error::EmptyKey));
    }
    if kedge_packed::is_packed(&put.value) {
        return Err(Status::invalid_argument("the value begins as one that the store has packed itself"));
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(status::invalid(status::VALUE_PROVIDED));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(status::invalid(status::LEASE_PROVIDED));
    }
    let (mut value, mut lease) = (put.value.clone(), put.lease);
    if put.ignore_value || put.ignore_lease {
        match kept.values.get(&put.key).and_then(Option::as_ref) {
            Some(current) if put.ignore_value && put.ignore_lease => {
                (value, lease) = (current.value.clone(), current.lease);
            }
            Some(current) if put.ignore_value => value = current.value.clone(),
            Some(current) => lease = current.lease,
            None if kept.leases.get(&lease) == Some(&false) => {}
            None => lease = NOTHING_TO_KEEP,
        }
    }
    Ok(Op::Put { key: put.key.clone(), value, lease })
}
