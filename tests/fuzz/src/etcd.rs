//! Requests of etcd's clients: what is decoded is encoded and decoded again as it was.

use kedge_etcdpb::etcdserverpb as pb;
use prost::Message;

use crate::input;

/// The first byte chooses the message.
pub fn message(data: &[u8]) {
    let Some((choice, raw)) = input::choice(data) else { return };
    match choice % 8 {
        0 => comes_back::<pb::RangeRequest>(raw),
        1 => comes_back::<pb::PutRequest>(raw),
        2 => comes_back::<pb::DeleteRangeRequest>(raw),
        3 => comes_back::<pb::TxnRequest>(raw),
        4 => comes_back::<pb::WatchRequest>(raw),
        5 => comes_back::<pb::LeaseGrantRequest>(raw),
        6 => comes_back::<pb::CompactionRequest>(raw),
        _ => comes_back::<pb::WatchResponse>(raw),
    }
}

fn comes_back<M: Message + Default + PartialEq + std::fmt::Debug>(raw: &[u8]) {
    let Ok(message) = M::decode(raw) else { return };
    let written = message.encode_to_vec();
    assert_eq!(M::decode(&*written).as_ref(), Ok(&message));
}
