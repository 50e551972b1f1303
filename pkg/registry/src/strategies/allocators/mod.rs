//! Service addresses and node ports: which are taken.
//!
//! The truth is in the store, shared by all servers: an `IPAddress` object for each address, as upstream keeps them, and a
//! key of our own for each node port. They are claimed and given back in the transaction that stores the service, so two
//! servers cannot give out one twice. What is being written right now by this server is kept here. Such a transaction takes
//! some 125 claims: a service with more node ports is made in steps, and of one that is deleted the repair gives back the
//! rest.

mod addresses;
mod node_ports;
mod numbers;
mod range_allocation;
mod repair;

use std::net::IpAddr;

use kedge_meta::{Cidr, Text};
use kedge_storage::{ResourceConfig, Storage};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub(crate) use addresses::{Addresses, Family, Source};
pub(crate) use node_ports::NodePorts;
pub use repair::Finding;

use crate::registry::ClusterConfig;
use crate::value::ValueExt;

/// What strategies keep between requests.
pub(crate) struct State {
    pub(crate) addresses: Addresses,
    pub(crate) node_ports: NodePorts,
    /// How often the repair is still to see each port of the record that no service has before it gives it back.
    leaks: Mutex<repair::Leaks>,
}

/// Why something could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfRange,
    Taken,
    Full,
}

impl State {
    pub(crate) fn node_port_config() -> ResourceConfig {
        ResourceConfig::new(Text::of(NodePorts::CLAIMS), "nodeports.kedge")
    }

    pub(crate) fn new(config: &ClusterConfig, storage: &Storage) -> Self {
        // The flags were read as ranges before they came here.
        let flags: Vec<Cidr> = config.service_cidrs.clone();
        let (service_cidrs, claims) = (storage.resource("servicecidrs"), storage.resource("ipaddresses"));
        let ports = storage.resource(NodePorts::CLAIMS);
        Self {
            addresses: Addresses::new(flags, service_cidrs, claims),
            node_ports: NodePorts::new(config.node_ports, config.shared, ports),
            leaks: Mutex::default(),
        }
    }
}

/// By which a claim says whose it is.
fn parent(service: &Value) -> Value {
    let (namespace, name) = (service.text(&["metadata", "namespace"]), service.name());
    json!({"resource": "services", "namespace": namespace, "name": name})
}

/// The cluster addresses of a service.
pub(crate) fn cluster_ips(service: &Value) -> impl Iterator<Item = IpAddr> + '_ {
    cluster_ip_texts(service).filter_map(|ip| ip.parse().ok())
}

/// The cluster addresses of a service as they are written, without that which says that it has none.
fn cluster_ip_texts(service: &Value) -> impl Iterator<Item = &str> {
    let listed = service.list(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    // Those of old servers are in one field only.
    let single = Some(service.text(&["spec", "clusterIP"]));
    let single = single.filter(|_| service.list(&["spec", "clusterIPs"]).is_empty());
    listed.chain(single).filter(|ip| !matches!(*ip, "" | "None"))
}

/// Whether the type of a service is one that has node ports.
pub(crate) fn may_have_node_ports(service: &Value) -> bool {
    matches!(service.text(&["spec", "type"]), "NodePort" | "LoadBalancer")
}

/// The node ports of a service. Numbers in a service of another type are not its own.
pub(crate) fn service_ports(service: &Value) -> impl Iterator<Item = u32> + '_ {
    let ports = service.list(&["spec", "ports"]).iter().filter(|_| may_have_node_ports(service));
    let ports = ports.filter_map(|p| p.int(&["nodePort"]));
    let health = service.int(&["spec", "healthCheckNodePort"]);
    ports.chain(health).filter(|p| *p > 0).filter_map(|p| u32::try_from(p).ok())
}
