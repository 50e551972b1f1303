//! The few fields of Services, EndpointSlices and Namespaces that DNS reads.
//!
//! Invariant: nothing is kept that no answer needs.

use kedge_client::Keyed;
use kedge_meta::ObjectMeta;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

/// The label that names the Service an EndpointSlice belongs to.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service, as far as DNS reads it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What it is.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// The read part of a Service's spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ExternalName`, or one of those with addresses.
    pub r#type: String,
    /// An address, empty, or `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All cluster addresses, of both families.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Where an `ExternalName` service points.
    pub external_name: String,
    /// The ports.
    pub ports: Vec<Port>,
}

/// A port, of a service or of the endpoints in a slice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Empty when there is only one.
    pub name: Option<String>,
    /// `TCP` when absent.
    pub protocol: Option<String>,
    /// The number.
    pub port: Option<u16>,
}

/// An EndpointSlice, as far as DNS reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
    /// The backends.
    #[serde(default, deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that every one of them has.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ports: Vec<Port>,
}

/// A backend.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The first counts.
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    pub conditions: Conditions,
    /// The pod's host name, when it has a subdomain.
    pub hostname: Option<String>,
}

/// Whether a backend takes traffic.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Absent means yes. It is also set for services that publish addresses that are not ready.
    pub ready: Option<bool>,
}

/// A Namespace: that it exists.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Namespace {
    /// The name.
    pub metadata: ObjectMeta,
}

fn null_as_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
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

impl Keyed for Namespace {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Service {
    /// Whether names lead to endpoints instead of a cluster address.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    /// The cluster addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.spec.cluster_ips.iter();
        let single = std::iter::once(&self.spec.cluster_ip).filter(|_| self.spec.cluster_ips.is_empty());
        all.chain(single).filter_map(|ip| ip.parse().ok())
    }
}

impl EndpointSlice {
    /// The name of the service it belongs to.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(LABEL_SERVICE_NAME)
    }

    /// The backends that take traffic, with their address.
    pub fn ready(&self) -> impl Iterator<Item = (IpAddr, &Endpoint)> {
        let ready = self.endpoints.iter().filter(|e| e.conditions.ready.unwrap_or(true));
        ready.filter_map(|e| Some((e.addresses.first()?.parse().ok()?, e)))
    }
}

impl Endpoint {
    /// The label under which the backend is found: its host name, or its address with dashes.
    pub fn label(&self, address: IpAddr) -> String {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
            _ => address.to_string().replace(['.', ':'], "-"),
        }
    }
}

impl Port {
    /// Whether it goes by these names in a query (without underscores, in lower case).
    pub fn is_called(&self, name: &str, protocol: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
            && self.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    }
}
