//! The endpoint of the service `kube-dns` on this node: the DNS server in this process.

use std::net::IpAddr;
use std::time::Duration;

use kedge_base::{Backoff, SharedClock};
use kedge_client::{Client, Error, Patch};
use kedge_dns::Health;
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::{info, warn};

const NAMESPACE: &str = "kube-system";

/// Publishes the endpoint once DNS answers.
pub(crate) async fn publish(
    client: Client,
    clock: SharedClock,
    health: Health,
    node: String,
    address: IpAddr,
    port: u16,
) {
    let mut wait = Backoff::new(Duration::from_millis(20), Duration::from_secs(1), 15);
    while !health.healthy() {
        clock.sleep(wait.next()).await;
    }
    let slice = slice(&node, address, port);
    let mut wait = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), 20);
    while let Err(err) = apply(&client, &slice).await {
        warn!(error = %err, "endpoint of kube-dns not published, trying again");
        clock.sleep(wait.next()).await;
    }
    info!(%address, port, "cluster DNS ready");
}

/// Admission (NodeRestriction) lets a node write its slice only under this name, with this service and with its own addresses.
fn slice(node: &str, address: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("kube-dns-{node}"), "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "kedge" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true }, "nodeName": node }],
        "ports": [
            { "name": "dns", "port": port, "protocol": "UDP" },
            { "name": "dns-tcp", "port": port, "protocol": "TCP" },
        ],
    })
}

async fn apply(client: &Client, slice: &Value) -> Result<(), Error> {
    match client.create::<Value>(&resources::ENDPOINT_SLICES, NAMESPACE, slice).await {
        Err(err) if err.is_already_exists() => {}
        other => return other.map(drop),
    }
    let name = slice["metadata"]["name"].as_str().unwrap_or_default();
    let patch = json!({ "endpoints": slice["endpoints"], "ports": slice["ports"] });
    let _: Value = client.patch(&resources::ENDPOINT_SLICES, NAMESPACE, name, Patch::Merge(patch), None).await?;
    Ok(())
}
