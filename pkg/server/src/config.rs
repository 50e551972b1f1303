//! What a server needs to know.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The settings of a server; the defaults are those of the command line.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub bind_address: IpAddr,
    pub https_port: u16,
    /// The address that clients in the cluster use.
    pub advertise_address: IpAddr,
    pub tls_sans: Vec<String>,
    pub service_cidr: String,
    pub cluster_cidr: String,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    pub node_ports: (u16, u16),
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub node_name: String,
    /// Whether the built-in scheduler runs.
    pub scheduler: bool,
    /// Whether cluster DNS runs in this cluster.
    pub dns: bool,
}

impl ServerConfig {
    /// Where certificates and keys are.
    pub fn tls_dir(&self) -> PathBuf {
        self.data_dir.join("server/tls")
    }

    /// Where the embedded store is.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("server/db")
    }

    /// The first address of the service range: the service `kubernetes`.
    pub fn api_service_ip(&self) -> Option<Ipv4Addr> {
        let base: Ipv4Addr = self.service_cidr.split('/').next()?.parse().ok()?;
        Some(Ipv4Addr::from(u32::from(base) + 1))
    }
}
