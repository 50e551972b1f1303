//! What a node needs to know.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use kedge_base::SharedClock;
use kedge_certs::Credential;
use kedge_client::Client;
use kedge_kubelet::KubeletArgs;

/// The settings of a node.
#[derive(Clone)]
pub struct AgentConfig {
    pub data_dir: PathBuf,
    pub node_name: String,
    pub node_ip: IpAddr,
    pub clock: SharedClock,
    /// Acts as `system:node:<name>`.
    pub node_client: Client,
    /// Acts as `system:kube-proxy`.
    pub proxy_client: Client,
    pub cluster_cidr: String,
    /// The IPv4 range of services, if there is one: pods reach no others.
    pub service_cidr: Option<String>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub resolv_conf: Option<PathBuf>,
    pub node_labels: Vec<String>,
    pub node_taints: Vec<String>,
    pub kubelet_args: KubeletArgs,
    /// A runtime that somebody else runs; else one is started here.
    pub runtime_endpoint: Option<String>,
    /// The image of pod sandboxes; else the built-in one.
    pub pause_image: Option<String>,
    pub kubelet_certificate: Arc<Credential>,
    /// PEM.
    pub client_ca: String,
    pub kubelet_address: SocketAddr,
    pub proxy: bool,
    pub dns: bool,
    /// What nodes show as the kubelet's version.
    pub version: String,
}

impl AgentConfig {
    /// Where short-lived state is: sockets, and what the runtime must forget at a reboot.
    pub fn run_dir(&self) -> PathBuf {
        if self.data_dir.as_os_str() == "/var/lib/kedge" {
            return PathBuf::from("/run/kedge");
        }
        // Several nodes on one host, each in its own data directory, do not meet here.
        let name = short_hash(&self.data_dir.to_string_lossy());
        PathBuf::from(format!("/run/kedge-{name}"))
    }

    /// Where the node's own things are.
    pub fn agent_dir(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    /// Where files tell of static pods, unless the kubelet is told another place.
    pub fn manifests_dir(&self) -> PathBuf {
        self.agent_dir().join("pod-manifests")
    }
}

/// A short name for a path.
fn short_hash(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().take(5).map(|b| format!("{b:02x}")).collect()
}
