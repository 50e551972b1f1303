//! The task against an API in memory and a packet filter that panics.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use kedge_base::{Ledger, Shutdown, system_clock};
use kedge_client::{Body, BoxError, Transport};
use kedge_nft::RecordingNft;
use serde_json::json;

use super::*;

/// One service with an address in each list of services; watches hold.
struct Api;

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let service = json!({"metadata": {"name": "web", "namespace": "ns", "resourceVersion": "1"},
            "spec": {"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ipFamilies": ["IPv4"], "type": "ClusterIP",
                "ports": [{"port": 80, "protocol": "TCP"}]}});
        let items = if request.uri().path().ends_with("/services") { vec![service] } else { Vec::new() };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string();
        let body = Full::new(Bytes::from(list)).map_err(|never| -> BoxError { match never {} });
        Ok(http::Response::new(body.boxed_unsync()))
    }
}

/// Panics on the first transaction.
#[derive(Default)]
struct Panicking {
    calls: AtomicUsize,
    inner: RecordingNft,
}

#[async_trait]
impl Nft for Panicking {
    async fn apply(&self, script: &str) -> Result<(), NftError> {
        assert!(self.calls.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
        self.inner.apply(script).await
    }

    async fn list_table(&self, family: &str, table: &str) -> Result<Option<String>, NftError> {
        self.inner.list_table(family, table).await
    }

    async fn list_json(&self, family: &str, table: &str) -> Result<Option<String>, NftError> {
        self.inner.list_json(family, table).await
    }
}

#[tokio::test]
async fn after_a_panic_the_table_is_written_as_a_whole() {
    // What had been planned and not written was lost with the task: services went without rules until the next start.
    let ledger = Ledger::new(system_clock());
    let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
    let config = Config {
        node_name: "n".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".into()],
        service_cidrs: vec!["10.43.0.0/16".into()],
        localhost_node_ports: false,
        clock: system_clock(),
    };
    let nft = Arc::new(Panicking::default());
    let (client, group, filter) = (Client::new(Arc::new(Api)), tasks.clone(), nft.clone());
    tasks.spawn("proxy", async move { run(config, client, filter, group).await.unwrap() });
    let mut written = String::new();
    while !written.contains("10.43.0.9") {
        written.extend(nft.inner.take());
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger.panics_of(SYNCER), 1);
    assert!(tasks.join(Duration::from_secs(5)).await);
}
