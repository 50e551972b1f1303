//! Layer 4: a store over etcd's v3 gRPC API, so that etcdctl and backup tools work on it.
//!
//! Invariants: answers, their texts and their codes are etcd's. A watcher that reads slowly costs no memory: it is a place
//! in the history, not a queue. Nobody gets in but over a unix socket of the same user, or with a client certificate.

mod cluster;
mod convert;
mod kv;
mod lease;
mod listen;
mod maintenance;
mod range;
mod server;
mod status;
mod txn;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use kedge_base::{SharedClock, Shutdown};
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Embedded, Error, Kv as _};
use tokio::sync::Semaphore;

pub use listen::{Listen, ListenError, ServingTls};
pub use server::serve;
use watch::Hub;

/// What this server says it is: tools ask for it before they use what this version has.
pub const VERSION: &str = "3.5.30";

/// A snapshot on its way.
pub struct SnapshotStream {
    /// All bytes that the stream will bring.
    pub size: u64,
    pub chunks: BoxStream<'static, Result<Bytes, Error>>,
}

/// Makes snapshots as files of etcd's format.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// The state as it is now.
    async fn snapshot(&self) -> Result<SnapshotStream, Error>;
    /// The bytes that the store takes on disk, and those of them that are in use.
    fn sizes(&self) -> (u64, u64);
}

/// What the services share.
pub struct Api {
    kv: Arc<Embedded>,
    hub: Arc<Hub>,
    identity: u64,
    snapshots: Arc<dyn Snapshots>,
    /// Each is a copy of the store on disk as long as it is sent.
    sending: Arc<Semaphore>,
    client_urls: Vec<String>,
    clock: SharedClock,
    shutdown: Shutdown,
}

/// Snapshots that are sent at once.
const SENDING: usize = 2;

impl Api {
    /// `client_urls` are what clients are told to use. Streams end with `shutdown`.
    ///
    /// # Errors
    /// When the store cannot be observed.
    pub async fn new(
        kv: Arc<Embedded>,
        snapshots: Arc<dyn Snapshots>,
        client_urls: Vec<String>,
        clock: SharedClock,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, Error> {
        let hub = Hub::over(&*kv).await?;
        let identity = kv.identity();
        let sending = Arc::new(Semaphore::new(SENDING));
        Ok(Arc::new(Self { kv, hub, identity, snapshots, sending, client_urls, clock, shutdown }))
    }

    /// The one member and the cluster have ids of their own, which never are 0.
    fn member(&self) -> u64 {
        self.identity.rotate_left(32) | 1
    }

    fn header_at(&self, revision: u64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.identity | 1,
            member_id: self.member(),
            revision: convert::signed(revision),
            raft_term: 1,
        })
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        self.header_at(self.kv.revision())
    }
}
