//! The few fields of Services, EndpointSlices and Nodes that the proxy reads.
//!
//! Invariant: everything that ends up in an nft script is parsed into numbers or addresses here or
//! in the planner, never pasted as text, so a strange object cannot write rules of its own.

use kedge_client::Keyed;
use kedge_meta::{ObjectMeta, StringMap};
use serde::Deserialize;

use std::fmt;
use std::net::Ipv4Addr;

/// The label that names the Service an EndpointSlice belongs to.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services with this label belong to another proxy.
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Services and slices with this label need no proxy.
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// The zone a node is in.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// A transport protocol that services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Also what an absent protocol means.
    #[default]
    Tcp,
    /// Flows outlive their endpoints in conntrack and have to be deleted there.
    Udp,
    /// Stream control.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A Service, as far as the proxy reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// The load balancer's addresses.
    #[serde(default)]
    pub status: ServiceStatus,
}

/// The read part of a Service's spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub r#type: String,
    /// An address, empty, or `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All cluster addresses, of both families.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// Addresses that others route to this node.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// `None` or `ClientIP`.
    pub session_affinity: String,
    /// The timeout of `ClientIP` affinity.
    pub session_affinity_config: SessionAffinityConfig,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: String,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: String,
    /// Who may reach the load balancer's addresses.
    pub load_balancer_source_ranges: Vec<String>,
}

/// One port of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Empty when there is only one port.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The port of the service's addresses.
    pub port: u16,
    /// The port on every node, or 0.
    pub node_port: u16,
}

/// How long a client stays with its endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// The only kind there is.
    #[serde(rename = "clientIP")]
    pub client_ip: ClientIpConfig,
}

/// The timeout of `ClientIP` affinity.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// Seconds; three hours when absent.
    pub timeout_seconds: Option<u32>,
}

/// The read part of a Service's status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// The load balancer.
    pub load_balancer: LoadBalancerStatus,
}

/// Where a load balancer receives traffic.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// One entry an address or host name.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One address of a load balancer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    /// Empty for load balancers known by name.
    pub ip: String,
    /// `Proxy` means that packets come back with the node's address; then the proxy stays out.
    pub ip_mode: Option<String>,
}

/// An EndpointSlice, as far as the proxy reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(default)]
    pub address_type: String,
    /// The backends.
    #[serde(default, deserialize_with = "null_as_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports that every one of them has.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ports: Vec<SlicePort>,
}

/// One backend of a slice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// The first counts; the others are deprecated.
    pub addresses: Vec<String>,
    /// Whether it can take traffic.
    pub conditions: Conditions,
    /// The node it is on.
    pub node_name: Option<String>,
    /// For whom it is meant.
    pub hints: Hints,
}

/// Whether a backend can take traffic; an absent `ready` means yes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Takes new traffic.
    pub ready: Option<bool>,
    /// Works, terminating or not; absent means as `ready`.
    pub serving: Option<bool>,
    /// Is on its way out.
    pub terminating: Option<bool>,
}

/// Which zones and nodes a backend is meant for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// Zones.
    #[serde(deserialize_with = "null_as_default")]
    pub for_zones: Vec<Hint>,
    /// Nodes.
    #[serde(deserialize_with = "null_as_default")]
    pub for_nodes: Vec<Hint>,
}

/// The name of a zone or a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// The name.
    pub name: String,
}

/// One port of a slice; it belongs to the service port of the same name and protocol.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// Empty when there is only one.
    pub name: Option<String>,
    /// The transport.
    pub protocol: Option<Protocol>,
    /// Absent means "all ports", which the proxy cannot serve.
    pub port: Option<u16>,
}

/// A Node, as far as the proxy reads it: its labels.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Node {
    /// Name and labels.
    pub metadata: ObjectMeta,
}

fn null_as_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Keyed for Service {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Keyed for EndpointSlice {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Keyed for Node {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Service {
    /// The IPv4 cluster address, when the proxy has to serve this service at all.
    pub fn proxied_cluster_ip(&self) -> Option<Ipv4Addr> {
        let labels: &StringMap = &self.metadata.labels;
        if labels.contains_key(LABEL_PROXY_NAME)
            || labels.contains_key(LABEL_HEADLESS)
            || self.spec.r#type == "ExternalName"
        {
            return None;
        }
        let all = self.spec.cluster_ips.iter().chain(std::iter::once(&self.spec.cluster_ip));
        all.filter_map(|ip| ip.parse().ok()).next()
    }

    /// The timeout of client affinity in seconds, when it is asked for.
    pub fn affinity_seconds(&self) -> Option<u32> {
        (self.spec.session_affinity == "ClientIP")
            .then(|| self.spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(10_800))
    }

    /// Whether cluster-internal traffic stays on the node.
    pub fn internal_local(&self) -> bool {
        self.spec.internal_traffic_policy == "Local"
    }

    /// Whether traffic from outside stays on the node.
    pub fn external_local(&self) -> bool {
        // The API server clears the field on services that nothing outside can reach.
        self.spec.external_traffic_policy == "Local"
    }

    /// The load balancer's addresses whose packets arrive unchanged.
    pub fn load_balancer_ips(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let ingress =
            if self.spec.r#type == "LoadBalancer" { self.status.load_balancer.ingress.as_slice() } else { &[] };
        ingress
            .iter()
            .filter(|entry| entry.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|entry| entry.ip.parse().ok())
    }
}
