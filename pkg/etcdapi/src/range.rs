//! Ranges with what etcd adds to them after the read: filters by revision, and orders other than that of keys.

use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Error, KeyValue, Range, RangeResult};
use pb::range_request::{SortOrder, SortTarget};
use tonic::Status;

use crate::convert::{key_range, key_value, signed, unsigned};
use crate::status;

/// Whether the keys are chosen or ordered after the read.
fn is_worked_over(request: &pb::RangeRequest) -> bool {
    needs_all(request) || request.sort_target() != SortTarget::Key
}

/// Whether all keys must be read for it. An order that is only implied by what it is by is one of the first keys only.
fn needs_all(request: &pb::RangeRequest) -> bool {
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    filtered || request.sort_order() != SortOrder::None
}

/// What the store is asked for.
pub(crate) fn request(request: &pb::RangeRequest) -> Result<Range, Status> {
    if request.key.is_empty() {
        return Err(status::of(&Error::EmptyKey));
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(status::invalid(status::INVALID_SORT));
    }
    let limit = match usize::try_from(request.limit).unwrap_or(0) {
        _ if needs_all(request) => 0,
        // One more than is answered takes part in the order.
        limit if limit > 0 && is_worked_over(request) => limit + 1,
        limit => limit,
    };
    Ok(Range {
        keys: key_range(&request.key, &request.range_end),
        limit,
        revision: if request.revision > 0 { Some(unsigned(request.revision)) } else { None },
        count_only: request.count_only,
        keys_only: request.keys_only && request.sort_target() != SortTarget::Value,
    })
}

/// The answer, without its header.
pub(crate) fn response(request: &pb::RangeRequest, result: RangeResult) -> Result<pb::RangeResponse, Status> {
    let count = i64::try_from(result.count).unwrap_or(i64::MAX);
    let mut more = result.remaining() > 0 && !request.count_only;
    let mut kvs = result.kvs;
    if request.sort_target() == SortTarget::Value {
        kvs = kvs.into_iter().map(KeyValue::plain).collect::<Result<_, _>>().map_err(|err| status::of(&err))?;
    }
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
    let kvs = kvs.into_iter().map(key_value).collect::<Result<_, _>>().map_err(|err| status::of(&err))?;
    Ok(pb::RangeResponse { header: None, kvs, more, count })
}

fn passes(request: &pb::RangeRequest, kv: &KeyValue) -> bool {
    let between = |min: i64, max: i64, is: u64| (min == 0 || signed(is) >= min) && (max == 0 || signed(is) <= max);
    between(request.min_mod_revision, request.max_mod_revision, kv.mod_revision)
        && between(request.min_create_revision, request.max_create_revision, kv.create_revision)
}

/// What is equal stays in the order of keys, also when the order is reversed.
fn sort(request: &pb::RangeRequest, kvs: &mut [KeyValue]) {
    let target = request.sort_target();
    let descending = request.sort_order() == SortOrder::Descend;
    kvs.sort_by(|a, b| {
        let (a, b) = if descending { (b, a) } else { (a, b) };
        match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    });
}
