//! What a new cluster starts with: namespaces, roles, the services `kubernetes` and `kube-dns`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_apiserver::Readiness;
use kedge_base::{Backoff, SharedClock, TaskGroup};
use kedge_client::{Client, Patch};
use kedge_controllers::priority_and_fairness;
use kedge_manifests::{ALL, FLOW_CONTROL, METRICS, MIGRATION, Manifest, RBAC};
use kedge_meta::{Resource, resources};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::config::ServerConfig;
use crate::default_service_cidr::DefaultServiceCidr;
use crate::endpoints;
use crate::error::Error;
use crate::{hooks, local_storage, policy, roles};

/// The pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What is needed to make what a cluster starts with.
#[derive(Clone)]
pub(crate) struct Bootstrap {
    pub client: Client,
    pub config: ServerConfig,
    pub shared: bool,
    pub ranges: Arc<DefaultServiceCidr>,
    pub readiness: Readiness,
}

impl Bootstrap {
    /// Makes what is missing. What somebody else stands in the way of today is tried again while the server runs, which is not ready until then: a
    /// webhook that cannot be asked is mended, or runs, on a cluster that is up.
    ///
    /// # Errors
    /// What the server was told wrongly.
    pub(crate) async fn begin(self, tasks: &TaskGroup, clock: &SharedClock) -> Result<(), Error> {
        match self.run().await {
            Err(err @ Error::Bootstrap { .. }) => warn!(error = %err, "the cluster is not complete; it is tried again"),
            other => return other,
        }
        let clock = clock.clone();
        tasks.spawn_worker("bootstrap", move || {
            let (bootstrap, clock) = (self.clone(), clock.clone());
            async move {
                let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
                loop {
                    clock.sleep(pause.next()).await;
                    match bootstrap.run().await {
                        Ok(()) => return info!("the cluster is complete"),
                        Err(err) => warn!(error = %err, "the cluster is not complete; it is tried again"),
                    }
                }
            }
        });
        Ok(())
    }

    async fn run(&self) -> Result<(), Error> {
        let Self { client, config, shared, ranges, readiness } = self;
        run(client, config, *shared, ranges, readiness).await
    }
}

/// Creates what is missing, and says in `readiness` what is there.
async fn run(
    client: &Client,
    config: &ServerConfig,
    shared: bool,
    ranges: &DefaultServiceCidr,
    readiness: &Readiness,
) -> Result<(), Error> {
    for manifest in ALL {
        for object in parse(manifest)? {
            ensure(client, &object).await?;
        }
    }
    hooks::done(readiness, &hooks::MANIFESTS);
    let (policy, levels) = (policy::unfold(RBAC)?, flow_control()?);
    // Together, so that they share writes to the disk.
    tokio::try_join!(roles::ensure(client, &policy), ensure_levels(client, &levels))?;
    hooks::done(readiness, &hooks::LEVELS);
    if config.metrics {
        roles::ensure(client, &policy::unfold(METRICS)?).await?;
    }
    if config.storage_migration {
        roles::ensure(client, &policy::unfold(MIGRATION)?).await?;
    }
    hooks::done(readiness, &hooks::ROLES);
    ranges.sync().await.map_err(|source| Error::Bootstrap { what: "the default ServiceCIDR".into(), source })?;
    hooks::done(readiness, &hooks::RANGE);
    if let Some(ip) = config.api_service_ip() {
        let flag = format!("--service-cidr {}", config.service_ranges().join(","));
        keeps_address(client, ("default", "kubernetes"), ip, flag).await?;
    }
    api_service(client, config, shared).await?;
    hooks::done(readiness, &hooks::SERVICE);
    local_storage::ensure(client, config.local_storage.as_deref()).await?;
    if config.dns {
        keeps_address(client, ("kube-system", "kube-dns"), config.cluster_dns, "--cluster-dns".into()).await?;
        dns_service(client, config).await?;
    }
    Ok(())
}

async fn ensure_levels(client: &Client, levels: &[Value]) -> Result<(), Error> {
    let ensured = priority_and_fairness::ensure(client, levels).await;
    ensured.map_err(|source| Error::Bootstrap { what: "priority levels and flow schemas".into(), source })
}

/// The default priority levels and flow schemas.
pub(crate) fn flow_control() -> Result<Vec<Value>, Error> {
    parse(&FLOW_CONTROL)
}

fn parse(manifest: &Manifest) -> Result<Vec<Value>, Error> {
    let damaged = |what: String| Error::Manifest { name: manifest.name.to_owned(), what };
    let documents = serde_yaml::Deserializer::from_str(manifest.content);
    documents
        .map(|d| serde::Deserialize::deserialize(d).map_err(|e: serde_yaml::Error| damaged(e.to_string())))
        .collect()
}

fn resource_of(object: &Value) -> Option<&'static Resource> {
    [
        &resources::CONFIG_MAPS,
        &resources::NAMESPACES,
        &resources::PRIORITY_CLASSES,
        &resources::SERVICES,
        &resources::STORAGE_CLASSES,
        &resources::ENDPOINT_SLICES,
        &resources::ENDPOINTS,
    ]
    .into_iter()
    .find(|r| object["kind"] == *r.kind && object["apiVersion"] == r.api_version())
}

/// Creates an object that is missing. The one that is there then, unless somebody else has just made it.
pub(crate) async fn ensure(client: &Client, object: &Value) -> Result<Option<Value>, Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let what = format!("{} {name}", object["kind"].as_str().unwrap_or_default());
    let Some(resource) = resource_of(object) else {
        return Err(Error::Manifest { name: what, what: "its kind is not one of a manifest".into() });
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    match client.get::<Value>(resource, namespace, name).await {
        Ok(found) => return Ok(Some(found)),
        Err(err) if err.is_not_found() => {}
        Err(source) => return Err(Error::Bootstrap { what, source }),
    }
    match client.create::<Value>(resource, namespace, object).await {
        Ok(created) => {
            info!(object = what, "created");
            Ok(Some(created))
        }
        Err(err) if err.is_already_exists() => Ok(None),
        Err(source) => Err(Error::Bootstrap { what, source }),
    }
}

/// Creates an object, or brings the given fields of it up to date.
async fn converge(client: &Client, object: &Value, fields: &[&str]) -> Result<(), Error> {
    let found = ensure(client, object).await?;
    let Some(resource) = resource_of(object) else { return Ok(()) };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    let mut patch = json!({});
    for field in fields {
        patch[*field] = object[*field].clone();
    }
    let what = format!("{} {name}", resource.kind);
    // Nobody is asked about a change that is none.
    if found.is_some_and(|found| has(&found, &patch)) {
        return Ok(());
    }
    let patched: Result<Value, _> = client.patch(resource, &namespace, &name, Patch::Merge(patch), None).await;
    patched.map(drop).map_err(|source| Error::Bootstrap { what, source })
}

/// Whether an object has all that is wanted, beside what else it has.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| found.get(field).is_some_and(|found| has(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        _ => found == wanted,
    }
}

/// A service keeps its address for life, and certificates and pods of the cluster know it.
async fn keeps_address(
    client: &Client,
    (namespace, service): (&str, &'static str),
    wanted: IpAddr,
    flag: String,
) -> Result<(), Error> {
    let found: Value = match client.get(&resources::SERVICES, namespace, service).await {
        Ok(found) => found,
        Err(err) if err.is_not_found() => return Ok(()),
        Err(source) => return Err(Error::Bootstrap { what: format!("Service {service}"), source }),
    };
    match found["spec"]["clusterIP"].as_str() {
        Some(existing) if existing.parse() != Ok(wanted) => {
            Err(Error::Address { service, existing: existing.to_owned(), flag, wanted })
        }
        _ => Ok(()),
    }
}

/// The service `kubernetes` and its endpoints: this server.
async fn api_service(client: &Client, config: &ServerConfig, shared: bool) -> Result<(), Error> {
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let address = config.advertise_address;
    if let Some(ip) = config.api_service_ip() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
            "spec": {
                "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": [family(ip)],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.https_port }],
            },
        });
        converge(client, &service, &["spec"]).await?;
    }
    if address.is_loopback() {
        warn!(%address, "the service kubernetes has no endpoint: the advertised address is this host's own; see --advertise-address");
        return Ok(());
    }
    if shared {
        // Kept by all servers together.
        return Ok(());
    }
    let alone = BTreeSet::from([address]);
    let written = endpoints::write(client, &alone, config.https_port).await;
    written.map_err(|source| Error::Bootstrap { what: "the endpoints of the service kubernetes".into(), source })
}

/// The service `kube-dns`; every node adds the DNS server inside its own process as an endpoint, for its own pods.
async fn dns_service(client: &Client, config: &ServerConfig) -> Result<(), Error> {
    let ip = config.cluster_dns;
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol, "targetPort": 53 });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "KubeDNS",
        } },
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": [family(ip)],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "internalTrafficPolicy": "Local",
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    });
    ensure(client, &service).await.map(drop)
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_manifest_can_be_read_and_placed() {
        assert_eq!(flow_control().unwrap().len(), 19);
        let objects: Vec<Value> = ALL.iter().flat_map(|m| parse(m).unwrap()).collect();
        assert!(objects.len() >= 6);
        for object in objects {
            assert!(resource_of(&object).is_some(), "{object}");
        }
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        let found = json!({"spec": {"clusterIP": "10.43.0.1", "sessionAffinity": "None", "ports": [{"port": 443, "nodePort": 0}]}});
        assert!(has(&found, &json!({"spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}})));
        assert!(!has(&found, &json!({"spec": {"clusterIP": "10.43.0.2"}})));
        assert!(!has(&found, &json!({"spec": {"ports": [{"port": 443}, {"port": 80}]}})));
        assert!(!has(&found, &json!({"spec": {"type": "ClusterIP"}})));
    }
}
