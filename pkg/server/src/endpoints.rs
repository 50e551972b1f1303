//! The endpoints of the service `kubernetes`: all servers that are alive.
//!
//! On a shared store every server keeps a key under upstream's `/registry/masterleases/`, which goes with its lease when the
//! server does; each makes the endpoints what these keys say. A server alone on its store writes its own address once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{SharedClock, Shutdown};
use kedge_client::{Client, Error as ClientError};
use kedge_kv::{Error as KvError, KeyRange, Kv, LeaseId, Op, Range, Txn};
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::warn;

const PREFIX: &str = "/registry/masterleases/";
/// As upstream: a server that is gone is no endpoint any more after this time.
const TTL: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_secs(10);

/// What a server says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Advertised {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// Keeps this server's key and the endpoints up to date until the shutdown; then the key is removed.
pub(crate) async fn keep(kv: Arc<dyn Kv>, client: Client, own: Advertised, clock: SharedClock, shutdown: Shutdown) {
    let mut lease = None;
    loop {
        if let Err(err) = refresh(&*kv, &mut lease, &own).await {
            warn!(error = %err, "cannot renew this server's entry among the endpoints of the service kubernetes");
        } else if let Err(err) = reconcile(&*kv, &client, own.port).await {
            warn!(error = %err, "cannot bring the endpoints of the service kubernetes up to date");
        }
        tokio::select! {
            () = clock.sleep(INTERVAL) => {}
            () = shutdown.requested() => break,
        }
    }
    let gone = Txn { success: vec![Op::Delete(KeyRange::key(key(own.address)))], ..Txn::default() };
    let removed = async {
        kv.txn(gone).await.map_err(Failed::from)?;
        reconcile(&*kv, &client, own.port).await
    };
    if let Err(err) = removed.await {
        warn!(error = %err, "this server stays among the endpoints of the service kubernetes until its lease ends");
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// Renews the lease; writes the key when it is not there.
async fn refresh(kv: &dyn Kv, lease: &mut Option<LeaseId>, own: &Advertised) -> Result<(), KvError> {
    let kept = match *lease {
        Some(id) => match kv.keep_alive(id).await {
            Ok(_) => true,
            Err(KvError::LeaseNotFound(_)) => false,
            Err(err) => return Err(err),
        },
        None => false,
    };
    let there = kv.get(key(own.address).as_bytes()).await?;
    if kept && there.is_some_and(|kv| Some(kv.lease) == *lease) {
        return Ok(());
    }
    let id = match *lease {
        Some(id) if kept => id,
        _ => kv.grant(None, TTL).await?.id,
    };
    *lease = Some(id);
    // The form that upstream writes, so that a stock server beside this one understands it.
    let value = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "", "generation": 1},
        "subsets": [{"addresses": [{"ip": own.address}]}]});
    let put = Op::Put { key: key(own.address).into(), value: value.to_string().into(), lease: id };
    kv.txn(Txn { success: vec![put], ..Txn::default() }).await.map(drop)
}

async fn reconcile(kv: &dyn Kv, client: &Client, port: u16) -> Result<(), Failed> {
    let alive = kv.range(Range { keys_only: true, ..Range::prefix(PREFIX.as_bytes()) }).await?;
    let addresses: BTreeSet<IpAddr> = alive.kvs.iter().filter_map(|kv| address_of(&kv.key)).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    write(client, &addresses, port).await.map_err(Failed::from)
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Makes Endpoints and EndpointSlice those of the addresses.
pub(crate) async fn write(client: &Client, addresses: &BTreeSet<IpAddr>, port: u16) -> Result<(), ClientError> {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let ports = json!([{ "name": "https", "port": port, "protocol": "TCP" }]);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": ips, "ports": ports }],
    });
    ensure(client, &resources::ENDPOINTS, &endpoints, "subsets").await?;
    let ready: Vec<Value> =
        addresses.iter().map(|ip| json!({ "addresses": [ip], "conditions": { "ready": true } })).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": "IPv4", "endpoints": ready, "ports": ports,
    });
    ensure(client, &resources::ENDPOINT_SLICES, &slice, "endpoints").await
}

/// Creates the object, or brings one of its fields up to date.
async fn ensure(
    client: &Client,
    resource: &kedge_meta::Resource,
    wanted: &Value,
    field: &str,
) -> Result<(), ClientError> {
    let mut current: Value = match client.get(resource, "default", "kubernetes").await {
        Ok(current) => current,
        Err(err) if err.is_not_found() => {
            return match client.create::<Value>(resource, "default", wanted).await {
                Err(err) if !err.is_already_exists() => Err(err),
                _ => Ok(()),
            };
        }
        Err(err) => return Err(err),
    };
    if current[field] == wanted[field] && current["ports"] == wanted["ports"] {
        return Ok(());
    }
    current[field] = wanted[field].clone();
    if wanted.get("ports").is_some() {
        current["ports"] = wanted["ports"].clone();
    }
    match client.update::<Value>(resource, "default", "kubernetes", &current).await {
        // Another server does the same; the next round looks again.
        Err(err) if !err.is_conflict() && !err.is_not_found() => Err(err),
        _ => Ok(()),
    }
}
