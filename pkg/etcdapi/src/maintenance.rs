//! The Maintenance service.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Kv as _, Range};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use crate::convert::{signed, unsigned};
use crate::status::{self, unimplemented};
use crate::{Api, SnapshotStream, VERSION};

/// Keys that are hashed at once.
const PAGE: usize = 1_000;

pub(crate) struct MaintenanceService(pub(crate) Arc<Api>);

impl Api {
    /// A checksum of all keys and values at a revision. Two stores of the same content have the same; it is not the
    /// number that etcd computes over its files.
    async fn hash(&self, revision: Option<u64>) -> Result<(u32, u64), Status> {
        let mut next = Range { limit: PAGE, revision, ..Range::prefix(b"") };
        let mut hasher = crc32fast::Hasher::new();
        loop {
            let page = self.kv.range(next.clone()).await.map_err(|e| status::of(&e))?;
            next.revision = Some(page.revision);
            let last =
                page.kvs.last().filter(|_| page.remaining() > 0).map(|last| [&last.key[..], &[0]].concat().into());
            for kv in page.kvs {
                let kv = kv.plain().map_err(|e| status::of(&e))?;
                for part in [&kv.key, &kv.value] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                for number in [kv.create_revision, kv.mod_revision, kv.version] {
                    hasher.update(&number.to_le_bytes());
                }
            }
            match last {
                Some(start) => next.keys.start = start,
                None => return Ok((hasher.finalize(), page.revision)),
            }
        }
    }

    async fn alarms(&self) -> Result<Vec<pb::AlarmMember>, Status> {
        self.kv.health().await.map_err(|e| status::of(&e))?;
        let alarm = pb::AlarmMember { member_id: self.member(), alarm: pb::AlarmType::Nospace.into() };
        Ok(if self.kv.is_short_of_space() { vec![alarm] } else { Vec::new() })
    }
}

#[async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    /// Alarms come and go with their causes here: to disarm one is to look again.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        if request.into_inner().action() == pb::alarm_request::AlarmAction::Activate {
            return Err(Status::unimplemented("Alarm ACTIVATE is not implemented: alarms come with their causes"));
        }
        Ok(Response::new(pb::AlarmResponse { alarms: self.0.alarms().await?, header: self.0.header() }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let revision = self.0.kv.revision();
        let (size, in_use) = self.0.snapshots.sizes();
        let mut errors: Vec<String> =
            self.0.kv.health().await.err().map(|error| error.to_string()).into_iter().collect();
        if self.0.kv.is_short_of_space() {
            // As etcd prints an alarm.
            errors.push(format!("memberID:{} alarm:NOSPACE ", self.0.member()));
        }
        Ok(Response::new(pb::StatusResponse {
            header: self.0.header_at(revision),
            version: VERSION.to_owned(),
            db_size: signed(size),
            db_size_in_use: signed(in_use),
            leader: self.0.member(),
            raft_index: revision,
            raft_term: 1,
            raft_applied_index: revision,
            errors,
            is_learner: false,
        }))
    }

    /// The store gives back space by itself.
    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        Ok(Response::new(pb::DefragmentResponse { header: self.0.header() }))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let (hash, revision) = self.0.hash(None).await?;
        Ok(Response::new(pb::HashResponse { header: self.0.header_at(revision), hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let asked = unsigned(request.into_inner().revision);
        let (hash, hashed) = self.0.hash(if asked == 0 { None } else { Some(asked) }).await?;
        let header = self.0.header();
        Ok(Response::new(pb::HashKvResponse { header, hash, compact_revision: -1, hash_revision: signed(hashed) }))
    }

    /// The file, then its SHA-256 as etcd appends it.
    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let api = self.0.clone();
        let busy = |_| Status::resource_exhausted("other snapshots are being sent; try again later");
        let permit = api.sending.clone().try_acquire_owned().map_err(busy)?;
        let snapshot = api.snapshots.snapshot().await.map_err(|e| status::of(&e))?;
        let shutdown = api.shutdown.clone();
        let stream = blobs(snapshot).map(move |blob| {
            // Given back with the stream.
            let _held = &permit;
            let (blob, remaining_bytes) = blob?;
            Ok(pb::SnapshotResponse { header: api.header(), remaining_bytes, blob, version: VERSION.to_owned() })
        });
        Ok(Response::new(stream.take_until(async move { shutdown.requested().await }).boxed()))
    }

    async fn move_leader(&self, _: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(unimplemented("MoveLeader"))
    }
}

/// A snapshot on its way to a client.
struct Sending {
    snapshot: SnapshotStream,
    hasher: Sha256,
    ended: bool,
}

/// Each blob with the number of bytes that come after it. A snapshot that ends early, or says too much, is an error.
fn blobs(snapshot: SnapshotStream) -> impl futures::Stream<Item = Result<(Bytes, u64), Status>> {
    let sending = Sending { snapshot, hasher: Sha256::new(), ended: false };
    futures::stream::try_unfold(sending, |mut sending| async move {
        if sending.ended {
            return Ok(None);
        }
        match sending.snapshot.chunks.next().await {
            Some(chunk) => {
                let chunk = chunk.map_err(|e| status::of(&e))?;
                sending.hasher.update(&chunk);
                let left = sending.snapshot.size.checked_sub(chunk.len() as u64);
                sending.snapshot.size = left.ok_or_else(|| Status::data_loss("the snapshot is longer than it was"))?;
                Ok(Some(((chunk, sending.snapshot.size), sending)))
            }
            None if sending.snapshot.size > 0 => Err(Status::data_loss("the snapshot ended early")),
            None => {
                sending.ended = true;
                let sum = Bytes::copy_from_slice(&sending.hasher.finalize_reset());
                Ok(Some(((sum, 0), sending)))
            }
        }
    })
}
