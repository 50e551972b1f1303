//! Service addresses and node ports: which are taken.
//!
//! The truth is in the store, shared by all servers: an `IPAddress` object for each address, as upstream keeps them, and a
//! key of our own for each node port. They are claimed and given back in the transaction that stores the service, so two
//! servers cannot give out one twice. What is being written right now by this server is kept here. Such a transaction takes
//! some 125 claims: a service with more node ports is made in steps, and of one that is deleted the repair gives back the
//! rest.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use kedge_base::random;
use kedge_meta::Text;
use kedge_storage::{Error as StorageError, Matcher, Object, ResourceConfig, ResourceStore, With};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::warn;

use crate::registry::ClusterConfig;
use crate::value::ValueExt;

/// By which an address says that it belongs to a service.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long an address may be there without its service, as upstream.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What strategies keep between requests.
pub(crate) struct State {
    pub(crate) addresses: Arc<Pool>,
    pub(crate) node_ports: Arc<Pool>,
}

/// Why something could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfRange,
    Taken,
    Full,
}

/// What the numbers of a pool are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Address,
    NodePort,
}

/// Numbers of a range, each free or taken.
pub(crate) struct Pool {
    kind: Kind,
    first: u32,
    last: u32,
    /// Numbers below this are only taken when asked for by name.
    dynamic_from: u32,
    /// The claims that are stored.
    stored: Option<ResourceStore>,
    /// Taken for services that are being written.
    pending: Mutex<BTreeSet<u32>>,
}

impl Pool {
    fn new(kind: Kind, (first, last): (u32, u32), dynamic_from: u32, stored: Option<ResourceStore>) -> Arc<Self> {
        Arc::new(Self { kind, first, last, dynamic_from, stored, pending: Mutex::default() })
    }

    fn name(&self, number: u32) -> String {
        match self.kind {
            Kind::Address => Ipv4Addr::from(number).to_string(),
            Kind::NodePort => number.to_string(),
        }
    }

    fn is_stored(&self, number: u32) -> bool {
        // A claim that cannot be read is one, too.
        self.stored.as_ref().is_some_and(|stored| !matches!(stored.get(&self.name(number)), Ok(None)))
    }

    /// Takes a certain number.
    pub(crate) fn take(&self, number: u32) -> Result<(), Refused> {
        if !(self.first..=self.last).contains(&number) {
            return Err(Refused::OutOfRange);
        }
        let free = self.pending.lock().insert(number);
        if free && self.is_stored(number) {
            self.release(number);
            return Err(Refused::Taken);
        }
        if free { Ok(()) } else { Err(Refused::Taken) }
    }

    /// Takes any free number: a random one of the upper band, when that is full one of the lower.
    pub(crate) fn take_any(&self) -> Result<u32, Refused> {
        let mut pending = self.pending.lock();
        for (from, to) in [(self.dynamic_from, self.last), (self.first, self.dynamic_from.saturating_sub(1))] {
            if from > to {
                continue;
            }
            let size = u64::from(to - from) + 1;
            let start = from + (random::u64() % size) as u32;
            let free = |n: &u32| !pending.contains(n) && !self.is_stored(*n);
            if let Some(number) = (start..=to).chain(from..start).find(free) {
                pending.insert(number);
                return Ok(number);
            }
        }
        Err(Refused::Full)
    }

    /// The write for which a number was taken is over; if it succeeded, the claim is stored.
    pub(crate) fn release(&self, number: u32) {
        self.pending.lock().remove(&number);
    }

    /// The key of a claim.
    pub(crate) fn key(&self, number: u32) -> String {
        let prefix = match self.kind {
            Kind::Address => "ipaddresses",
            Kind::NodePort => State::NODE_PORTS,
        };
        format!("/registry/{prefix}/{}", self.name(number))
    }

    /// What is stored for a number of a service.
    fn claim(&self, number: u32, service: &Value, now: Timestamp) -> Value {
        let (name, created) = (self.name(number), kedge_base::time::rfc3339(now));
        let (namespace, owner) = (service.text(&["metadata", "namespace"]), service.text(&["metadata", "name"]));
        let parent = json!({"resource": "services", "namespace": namespace, "name": owner});
        let metadata = json!({"name": name, "uid": random::uuid(), "creationTimestamp": created});
        match self.kind {
            Kind::Address => {
                let mut metadata = metadata;
                metadata["labels"] = json!({
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    MANAGED_BY: ALLOCATOR,
                });
                metadata["generation"] = json!(1);
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": metadata,
                    "spec": {"parentRef": parent}})
            }
            Kind::NodePort => json!({"apiVersion": "kedge/v1", "kind": "NodePort", "metadata": metadata,
                "spec": {"parentRef": parent}}),
        }
    }

    /// Key and value of the claim on a number for a service.
    pub(crate) fn claims(
        &self,
        numbers: &[u32],
        service: &Value,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, StorageError> {
        let ty = match self.kind {
            Kind::Address => kedge_schema::kind("networking.k8s.io", "v1", "IPAddress"),
            Kind::NodePort => None,
        };
        let claim = |n: &u32| Ok((self.key(*n), Object::encode(ty, &self.claim(*n, service, now))?));
        numbers.iter().map(claim).collect()
    }
}

impl State {
    /// Where the claims on node ports are, below `/registry/`.
    pub(crate) const NODE_PORTS: &str = "kedge/nodeports";

    pub(crate) fn node_port_config() -> ResourceConfig {
        ResourceConfig::new(Text::of(Self::NODE_PORTS), "nodeports.kedge")
    }

    pub(crate) fn new(
        config: &ClusterConfig,
        addresses: Option<ResourceStore>,
        node_ports: Option<ResourceStore>,
    ) -> Self {
        let (first, last) = usable_addresses(&config.service_cidr).unwrap_or((1, 0));
        // As upstream: the lower band of min(max(16, size/16), 256) addresses is left to those that ask by name.
        let size = last.saturating_sub(first);
        let from = first.saturating_add((size / 16).clamp(16, 256)).min(last);
        let addresses = Pool::new(Kind::Address, (first, last), from, addresses);
        let (low, high) = (u32::from(config.node_ports.0), u32::from(config.node_ports.1));
        let band = ((high.saturating_sub(low)) / 32).clamp(16, 128);
        let node_ports = Pool::new(Kind::NodePort, (low, high), (low + band).min(high), node_ports);
        Self { addresses, node_ports }
    }

    /// Makes the stored claims those of the stored services.
    pub(crate) async fn repair(&self, services: &ResourceStore, now: Timestamp) -> Result<(), StorageError> {
        let all = |pool: &Pool| pool.stored.as_ref().map(|s| s.readable("", &Matcher::default()).objects);
        let (claimed, addresses) = (all(&self.node_ports), all(&self.addresses));
        let (mut used, mut used_addresses) = (BTreeSet::new(), BTreeSet::new());
        // What a service that cannot be read has is not known, so that nothing is given back while there is one.
        let (services, complete) = match services.list("", &Matcher::default(), 0) {
            Ok(listing) => (listing, true),
            Err(StorageError::Unreadable { .. }) => (services.readable("", &Matcher::default()), false),
            Err(err) => return Err(err),
        };
        for (_, object) in services.objects {
            let service = object.to_value()?;
            let ports: Vec<u32> = node_ports(&service).collect();
            self.addresses.claim_missing(cluster_ips(&service), &service, now).await?;
            self.node_ports.claim_missing(ports.iter().copied(), &service, now).await?;
            used.extend(ports);
            used_addresses.extend(cluster_ips(&service));
        }
        if !complete {
            return Ok(());
        }
        // The claims were read before the services, and one that was taken anew since has another revision.
        for (name, object) in claimed.unwrap_or_default() {
            let unused = name.parse().is_ok_and(|port: u32| !used.contains(&port));
            if let (true, Some(stored)) = (unused, &self.node_ports.stored) {
                ignore_races(stored.delete(&name, object.revision, With::default()).await.map(drop))?;
            }
        }
        for (name, object) in addresses.unwrap_or_default() {
            let unused = name.parse::<Ipv4Addr>().is_ok_and(|ip| !used_addresses.contains(&u32::from(ip)));
            if let (true, Some(stored)) = (unused && has_leaked(&object.to_value()?, now), &self.addresses.stored) {
                warn!(address = %name, "the claim on a service address has no service; it is given back");
                ignore_races(stored.delete(&name, object.revision, With::default()).await.map(drop))?;
            }
        }
        Ok(())
    }
}

impl Pool {
    async fn claim_missing(
        &self,
        numbers: impl Iterator<Item = u32>,
        service: &Value,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let Some(stored) = &self.stored else { return Ok(()) };
        for number in numbers {
            if matches!(stored.get(&self.name(number)), Ok(None)) {
                let claim = self.claim(number, service, now);
                ignore_races(stored.create(&self.name(number), &claim, With::default()).await.map(drop))?;
            }
        }
        Ok(())
    }
}

/// Whether an address that no service has is to be given back. Addresses are objects that others may own, too; and a stock
/// server stores the address before the service.
fn has_leaked(address: &Value, now: Timestamp) -> bool {
    let managed = address.text(&["metadata", "labels", MANAGED_BY]) == ALLOCATOR;
    let created = address.text(&["metadata", "creationTimestamp"]).parse::<Timestamp>();
    managed && created.is_ok_and(|created| now.duration_since(created) > GRACE)
}

/// Another server may have done the same.
fn ignore_races(result: Result<(), StorageError>) -> Result<(), StorageError> {
    match result {
        Err(StorageError::Exists | StorageError::Conflict(_) | StorageError::NotFound) => Ok(()),
        other => other,
    }
}

/// First and last address that a service can have: without the network's own and the broadcast address.
fn usable_addresses(cidr: &str) -> Option<(u32, u32)> {
    let (address, bits) = cidr.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let bits: u32 = bits.parse().ok().filter(|b| (1..=30).contains(b))?;
    let mask = u32::MAX << (32 - bits);
    Some(((address & mask) + 1, (address | !mask) - 1))
}

/// The IPv4 cluster addresses of a service.
pub(crate) fn cluster_ips(service: &Value) -> impl Iterator<Item = u32> + '_ {
    let listed = service.list(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    let single =
        Some(service.text(&["spec", "clusterIP"])).filter(|_| service.list(&["spec", "clusterIPs"]).is_empty());
    listed.chain(single).filter_map(|ip| ip.parse::<Ipv4Addr>().ok()).map(u32::from)
}

/// Whether the type of a service is one that has node ports.
pub(crate) fn may_have_node_ports(service: &Value) -> bool {
    matches!(service.text(&["spec", "type"]), "NodePort" | "LoadBalancer")
}

/// The node ports of a service. Numbers in a service of another type are not its own.
pub(crate) fn node_ports(service: &Value) -> impl Iterator<Item = u32> + '_ {
    let ports = service.list(&["spec", "ports"]).iter().filter(|_| may_have_node_ports(service));
    let ports = ports.filter_map(|p| p.int(&["nodePort"]));
    let health = service.int(&["spec", "healthCheckNodePort"]);
    ports.chain(health).filter(|p| *p > 0).filter_map(|p| u32::try_from(p).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_each_number_once() {
        let pool = Pool::new(Kind::NodePort, (1, 4), 3, None);
        assert_eq!(pool.take(9), Err(Refused::OutOfRange));
        assert_eq!(pool.take(1), Ok(()));
        assert_eq!(pool.take(1), Err(Refused::Taken));
        let mut any: Vec<_> = (0..3).filter_map(|_| pool.take_any().ok()).collect();
        assert!(any[..2].iter().all(|n| *n >= 3), "the upper band first");
        any.sort_unstable();
        assert_eq!(any, [2, 3, 4]);
        assert_eq!(pool.take_any(), Err(Refused::Full));
        pool.release(2);
        assert_eq!(pool.take_any(), Ok(2));
    }

    #[test]
    fn the_ends_of_the_range_are_not_given_away() {
        assert_eq!(usable_addresses("10.43.0.0/30"), Some((0x0a2b_0001, 0x0a2b_0002)));
        assert_eq!(usable_addresses("nonsense"), None);
    }
}
