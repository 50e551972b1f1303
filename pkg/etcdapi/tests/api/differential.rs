//! The same random requests to a real etcd and to this server: the same answers, revisions included.

use bytes::Bytes;
use kedge_base::random;
use kedge_etcdpb::etcdserverpb as pb;
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::transport::Channel;

use crate::served::{Etcd, Served, with_tools};

const REQUESTS: usize = 3_000;

/// Numbers from a seed, which a failure names.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) { Bytes::new() } else { Bytes::from(format!("/{}", self.roll(6))) }
    }

    /// One key, a range, everything from a key on, or nonsense.
    fn range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.roll(6) {
            0 | 1 => (key, Bytes::from_static(b"0")),
            2 => (key, Bytes::from_static(&[0])),
            3 => (key, Bytes::from(format!("/{}", self.roll(6)))),
            _ => (key, Bytes::new()),
        }
    }

    fn revision(&mut self, newest: i64) -> i64 {
        match self.roll(8) {
            0 => (newest - self.roll(12) as i64).max(0),
            1 => newest + self.roll(3) as i64 - 1,
            _ => 0,
        }
    }

    fn range_request(&mut self, newest: i64) -> pb::RangeRequest {
        let (key, range_end) = self.range();
        let mut request = pb::RangeRequest { key, range_end, revision: self.revision(newest), ..Default::default() };
        request.limit = if self.chance(40) { self.roll(4) as i64 } else { 0 };
        request.keys_only = self.chance(15);
        request.count_only = self.chance(15);
        if self.chance(30) {
            (request.sort_order, request.sort_target) = (self.roll(3) as i32, self.roll(5) as i32);
        }
        let mut bound = |field: &mut i64| {
            if self.chance(7) {
                *field = newest - self.roll(10) as i64;
            }
        };
        bound(&mut request.min_mod_revision);
        bound(&mut request.max_mod_revision);
        bound(&mut request.min_create_revision);
        bound(&mut request.max_create_revision);
        request
    }

    fn put(&mut self) -> pb::PutRequest {
        let mut put = pb::PutRequest { key: self.key(), prev_kv: self.chance(50), ..Default::default() };
        put.ignore_value = self.chance(8);
        put.ignore_lease = self.chance(8);
        if !put.ignore_value || self.chance(10) {
            put.value = Bytes::from(format!("value {}", self.roll(20)));
        }
        if self.chance(15) {
            put.lease = 1 + self.roll(4) as i64;
        }
        put
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, mut range_end) = self.range();
        if range_end == "\0" {
            // etcd overlooks that such a deletion overlaps with puts of its transaction; here it is refused.
            range_end = Bytes::from_static(b"0");
        }
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.chance(50) }
    }

    fn compare(&mut self, newest: i64) -> pb::Compare {
        use pb::compare::TargetUnion;
        let (key, range_end) = self.range();
        let near = newest - self.roll(6) as i64;
        let (target, union) = match self.roll(5) {
            0 => (0, TargetUnion::Version(self.roll(4) as i64)),
            1 => (1, TargetUnion::CreateRevision(if self.chance(50) { 0 } else { near })),
            2 => (2, TargetUnion::ModRevision(if self.chance(50) { 0 } else { near })),
            3 => (3, TargetUnion::Value(Bytes::from(format!("value {}", self.roll(20))))),
            _ => (4, TargetUnion::Lease(self.roll(4) as i64)),
        };
        pb::Compare { result: self.roll(4) as i32, target, key, range_end, target_union: Some(union) }
    }

    fn ops(&mut self, newest: i64, depth: u64) -> Vec<pb::RequestOp> {
        let one = |dice: &mut Self| match dice.roll(7 + depth) {
            0 | 1 => Request::RequestRange(dice.range_request(newest)),
            2..=4 => Request::RequestPut(dice.put()),
            5 => Request::RequestDeleteRange(dice.delete()),
            _ if depth < 3 => Request::RequestTxn(dice.txn(newest, depth + 1)),
            _ => Request::RequestPut(dice.put()),
        };
        (0..self.roll(4)).map(|_| pb::RequestOp { request: Some(one(self)) }).collect()
    }

    fn txn(&mut self, newest: i64, depth: u64) -> pb::TxnRequest {
        let compare = (0..self.roll(3)).map(|_| self.compare(newest)).collect();
        pb::TxnRequest { compare, success: self.ops(newest, depth), failure: self.ops(newest, depth) }
    }
}

#[derive(Debug, Clone)]
enum Asked {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    Leases,
}

fn draw(dice: &mut Dice, newest: i64) -> Asked {
    match dice.roll(40) {
        0..=11 => Asked::Range(dice.range_request(newest)),
        12..=21 => Asked::Put(dice.put()),
        22..=24 => Asked::Delete(dice.delete()),
        25..=35 => Asked::Txn(dice.txn(newest, 0)),
        36 => Asked::Compact(pb::CompactionRequest {
            revision: (newest - dice.roll(30) as i64 + 2).max(1),
            physical: false,
        }),
        37 => Asked::Grant(pb::LeaseGrantRequest { ttl: 3_600, id: 1 + dice.roll(4) as i64 }),
        38 => Asked::Revoke(pb::LeaseRevokeRequest { id: 1 + dice.roll(4) as i64 }),
        _ => Asked::Leases,
    }
}

/// Leaves the revision of a header, and forgets whose it is.
fn anonymous(header: &mut Option<pb::ResponseHeader>) -> i64 {
    let revision = header.as_ref().map_or(0, |h| h.revision);
    *header = Some(pb::ResponseHeader { revision, ..Default::default() });
    revision
}

/// Operations of a transaction have the revision of the moment when they were done, which nobody uses.
fn anonymous_inside(answer: &mut pb::TxnResponse) {
    for response in &mut answer.responses {
        match &mut response.response {
            Some(Response::ResponseRange(range)) => range.header = None,
            Some(Response::ResponsePut(put)) => put.header = None,
            Some(Response::ResponseDeleteRange(delete)) => delete.header = None,
            Some(Response::ResponseTxn(inner)) => {
                inner.header = None;
                anonymous_inside(inner);
            }
            None => {}
        }
    }
}

/// What was answered as text, and the revision of the answer.
async fn ask(channel: &Channel, asked: &Asked) -> (String, i64) {
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    let mut leases = pb::lease_client::LeaseClient::new(channel.clone());
    macro_rules! answer {
        ($answer:expr) => {
            match $answer.await {
                Ok(answer) => {
                    let mut answer = answer.into_inner();
                    let revision = anonymous(&mut answer.header);
                    (format!("{answer:?}"), revision)
                }
                Err(status) => (format!("{:?} {}", status.code(), status.message()), 0),
            }
        };
    }
    match asked.clone() {
        Asked::Range(request) => answer!(kv.range(request)),
        Asked::Put(request) => answer!(kv.put(request)),
        Asked::Delete(request) => answer!(kv.delete_range(request)),
        Asked::Txn(request) => answer!(async {
            let mut answer = kv.txn(request).await?;
            anonymous_inside(answer.get_mut());
            Ok::<_, tonic::Status>(answer)
        }),
        Asked::Compact(request) => answer!(kv.compact(request)),
        Asked::Grant(request) => answer!(leases.lease_grant(request)),
        Asked::Revoke(request) => answer!(leases.lease_revoke(request)),
        Asked::Leases => {
            let answer = leases.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
            let mut ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
            ids.sort_unstable();
            (format!("{ids:?}"), 0)
        }
    }
}

#[test]
fn both_answer_alike() {
    with_tools(async {
        let (etcd, served) = (Etcd::start(), Served::on_socket().await);
        let (theirs, ours) = (etcd.channel().await, served.channel().await);
        let seed = random::u64() | 1;
        let (mut dice, mut newest) = (Dice(seed), 1);
        for number in 0..REQUESTS {
            let asked = draw(&mut dice, newest);
            let ((expected, revision), (got, _)) = (ask(&theirs, &asked).await, ask(&ours, &asked).await);
            // Which of several mistakes in one transaction is named is nobody's business.
            let both_refuse = |a: &str, b: &str| [a, b].iter().all(|text| text.contains(" etcdserver: "));
            if matches!(asked, Asked::Txn(_)) && both_refuse(&got, &expected) {
                continue;
            }
            assert_eq!(got, expected, "request {number} of seed {seed}: {asked:?}");
            newest = newest.max(revision);
        }
        served.stop().await;
    });
}
