//! `--etcd-listen`: the embedded store over etcd's own API, for etcdctl and tools that back it up.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use kedge_base::{SharedClock, TaskGroup, blocking, random};
use kedge_certs::{Credential, Pki};
use kedge_datastore::{Snapshots, Store};
use kedge_etcdapi::{Api, Listen, ServingTls, SnapshotStream, serve};
use kedge_kv::{Embedded, Error as KvError};
use tokio::io::AsyncReadExt as _;
use tracing::info;

use crate::config::ServerConfig;
use crate::error::Error;
use crate::renewal::Renewal;
use crate::start::now;

/// Bytes of a snapshot that are sent at once; etcd's own measure.
const CHUNK: usize = 32 << 10;

/// Opens the listener and serves on it.
pub(crate) async fn start(
    config: &ServerConfig,
    endpoint: &str,
    store: &Store,
    (pki, renewal, serving): (&Pki, &Renewal, &Arc<Credential>),
    clock: &SharedClock,
    tasks: &TaskGroup,
) -> Result<(), Error> {
    let fail = |what: String| Error::EtcdListen(endpoint.to_owned(), what);
    let Some(engine) = store.embedded.clone() else {
        return Err(fail(format!("the store is {}, which clients reach themselves", config.datastore)));
    };
    // Clients read it from its files.
    renewal.keep(pki.store_client_leaf(now(clock))?, |_| Ok(()))?;
    let tls = ServingTls { certificate: serving.clone(), client_ca: config.tls_dir().join("etcd-client-ca.crt") };
    let listen = Listen::open(endpoint, Some(&tls)).await.map_err(|e| fail(e.to_string()))?;
    let snapshots =
        Arc::new(Files { engine: engine.clone(), directory: config.snapshot_dir(), store: config.layout().store() });
    let urls = vec![endpoint.to_owned()];
    let api = Api::new(engine, snapshots, urls, clock.clone(), tasks.shutdown().clone()).await?;
    let (listen, group) = (Arc::new(listen), tasks.clone());
    tasks.spawn_lasting("etcd API", move || serve(api.clone(), listen.clone(), group.clone()));
    info!(endpoint, "the store is served over etcd's API");
    Ok(())
}

/// Snapshots on their way to a client, by way of a file that has no name any more.
struct Files {
    engine: Arc<Embedded>,
    directory: Snapshots,
    store: PathBuf,
}

#[async_trait]
impl kedge_etcdapi::Snapshots for Files {
    async fn snapshot(&self) -> Result<SnapshotStream, KvError> {
        let (engine, directory) = (self.engine.clone(), self.directory.clone());
        let name = format!("etcd-api-{}", random::name_suffix(10));
        let written = blocking::unbounded("snapshot", move || directory.anonymous(&engine, &name)).await;
        let failed = |what: String| KvError::Closed(format!("a snapshot could not be made: {what}"));
        let (file, size) = written.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        // The checksum at its end is left to the API, which sends it apart.
        let size = size - kedge_datastore::CHECKSUM;
        let file = tokio::fs::File::from_std(file).take(size);
        let chunks = stream::try_unfold(file, move |mut file| async move {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk).await.map_err(|e| KvError::Closed(e.to_string()))?;
            chunk.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(chunk), file)))
        });
        Ok(SnapshotStream { size, chunks: chunks.boxed() })
    }

    fn sizes(&self) -> (u64, u64) {
        let entries = std::fs::read_dir(&self.store).into_iter().flatten().flatten();
        let total = entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum();
        (total, total)
    }
}
