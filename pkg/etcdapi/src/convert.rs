//! etcd's messages as the store's requests, and back.

use bytes::Bytes;
use kedge_etcdpb::{etcdserverpb as pb, mvccpb};
use kedge_kv::{Error, Event, KeyRange, KeyValue};

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A zero byte as the end of a range means that it has none.
pub(crate) fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    match &range_end[..] {
        [] => KeyRange::key(key.clone()),
        [0] => KeyRange { start: key.clone(), end: None },
        _ => KeyRange { start: key.clone(), end: Some(range_end.clone()) },
    }
}

/// Clients know nothing of packed values.
pub(crate) fn key_value(kv: KeyValue) -> Result<mvccpb::KeyValue, Error> {
    let kv = kv.plain()?;
    Ok(mvccpb::KeyValue {
        key: kv.key,
        create_revision: signed(kv.create_revision),
        mod_revision: signed(kv.mod_revision),
        version: signed(kv.version),
        value: kv.value,
        lease: kv.lease,
    })
}

pub(crate) fn event(event: &Event, previous: bool) -> Result<mvccpb::Event, Error> {
    let prev_kv = event.previous.clone().filter(|_| previous).map(key_value).transpose()?;
    Ok(match event.current.clone() {
        Some(kv) => mvccpb::Event { r#type: mvccpb::event::EventType::Put.into(), kv: Some(key_value(kv)?), prev_kv },
        None => {
            let gone = mvccpb::KeyValue {
                key: event.key.clone(),
                mod_revision: signed(event.revision),
                ..mvccpb::KeyValue::default()
            };
            mvccpb::Event { r#type: mvccpb::event::EventType::Delete.into(), kv: Some(gone), prev_kv }
        }
    })
}

pub(crate) fn compare(compare: &pb::Compare) -> kedge_kv::Compare {
    use kedge_kv::{Order, Target};
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let order = match compare.result() {
        CompareResult::Equal => Order::Equal,
        CompareResult::Greater => Order::Greater,
        CompareResult::Less => Order::Less,
        CompareResult::NotEqual => Order::NotEqual,
    };
    // A target without its value compares with zero, or with nothing, as in etcd.
    let number = |union: &Option<TargetUnion>| match union {
        Some(
            TargetUnion::Version(n)
            | TargetUnion::CreateRevision(n)
            | TargetUnion::ModRevision(n)
            | TargetUnion::Lease(n),
        ) => *n,
        _ => 0,
    };
    if compare.target() != CompareTarget::Value
        && compare.target() != CompareTarget::Lease
        && number(&compare.target_union) < 0
    {
        // Every number is greater than it: as a condition that always or never holds.
        let always = matches!(order, Order::Greater | Order::NotEqual);
        let order = if always { Order::NotEqual } else { Order::Equal };
        return kedge_kv::Compare {
            keys: key_range(&compare.key, &compare.range_end),
            order,
            target: Target::Version(u64::MAX),
        };
    }
    let target = match compare.target() {
        CompareTarget::Version => Target::Version(unsigned(number(&compare.target_union))),
        CompareTarget::Create => Target::CreateRevision(unsigned(number(&compare.target_union))),
        CompareTarget::Mod => Target::ModRevision(unsigned(number(&compare.target_union))),
        CompareTarget::Lease => Target::Lease(number(&compare.target_union)),
        CompareTarget::Value => Target::Value(match &compare.target_union {
            Some(TargetUnion::Value(value)) => value.clone(),
            _ => Bytes::new(),
        }),
    };
    kedge_kv::Compare { keys: key_range(&compare.key, &compare.range_end), order, target }
}
