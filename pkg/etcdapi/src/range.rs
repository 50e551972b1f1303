//! Ranges with what etcd adds to them after the read: filters by revision, and orders other than that of keys.

use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Error, KeyValue, Range, RangeResult};
use pb::range_request::{SortOrder, SortTarget};
use tonic::Status;

use crate::convert::{key_range, key_value, signed, unsigned};
use crate::status;

/// Whether the keys are chosen or ordered after the read, so that all of them must be read.
fn is_worked_over(request: &pb::RangeRequest) -> bool {
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    filtered || request.sort_order() != SortOrder::None || request.sort_target() != SortTarget::Key
}

/// What the store is asked for.
pub(crate) fn request(request: &pb::RangeRequest) -> Result<Range, Status> {
    if request.key.is_empty() {
        return Err(status::of(&Error::EmptyKey));
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(status::invalid(status::INVALID_SORT));
    }
    let limit = if is_worked_over(request) { 0 } else { usize::try_from(request.limit).unwrap_or(0) };
    Ok(Range {
        keys: key_range(&request.key, &request.range_end),
        limit,
        revision: if request.revision > 0 { Some(unsigned(request.revision)) } else { None },
        count_only: request.count_only,
        keys_only: request.keys_only && request.sort_target() != SortTarget::Value,
    })
}

/// The answer, without its header.
pub(crate) fn response(request: &pb::RangeRequest, result: RangeResult) -> pb::RangeResponse {
    let count = i64::try_from(result.count).unwrap_or(i64::MAX);
    let mut more = result.remaining() > 0 && !request.count_only;
    let mut kvs = result.kvs;
    if is_worked_over(request) {
        kvs.retain(|kv| passes(request, kv));
        sort(request, &mut kvs);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
        }
    }
    pb::RangeResponse { header: None, kvs: kvs.into_iter().map(key_value).collect(), more, count }
}

fn passes(request: &pb::RangeRequest, kv: &KeyValue) -> bool {
    let between = |min: i64, max: i64, is: u64| (min == 0 || signed(is) >= min) && (max == 0 || signed(is) <= max);
    between(request.min_mod_revision, request.max_mod_revision, kv.mod_revision)
        && between(request.min_create_revision, request.max_create_revision, kv.create_revision)
}

fn sort(request: &pb::RangeRequest, kvs: &mut [KeyValue]) {
    match request.sort_target() {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}
