//! Pod networking of one node, as a CNI plug-in: links, addresses, host ports, masquerading.
//!
//! Invariant: the files under `<data-dir>/agent/cni/ips` are the truth about which pod has which
//! address and host ports. Interfaces and rules follow from them, every command can be repeated, and
//! a process killed at any point leaves nothing that the next ADD or DEL does not put right.
//!
//! Every pod has a link of its own to the node, with a /32 address, and reaches everything through
//! the node. So all traffic, also between pods of one node, is routed and seen by the packet filter,
//! and translated answers find their way back, whether br_netfilter is loaded or not. The bridge
//! `kedge0` has no ports: it holds the gateway's address, so that the node's servers can listen there
//! before the first pod, and the routes that must exist without any pod.
//!
//! Deliberately absent: IPv6, bandwidth limits, and routes to other nodes.

mod command;
mod conf;
mod conntrack;
mod entry;
mod error;
mod host;
mod hostport;
mod ipam;
mod link;
mod net;
mod result;

pub use command::{add, check, del, gc, status};
pub use conf::{Invocation, NetConf, PortMapping};
pub use entry::main_from_env;
pub use error::CniError;
pub use host::{cleanup, ensure_host};
pub use net::Ipv4Net;

use serde_json::json;
use std::path::{Path, PathBuf};

/// The file name under which the runtime finds the plug-in.
pub const PLUGIN: &str = "kedge-cni";
/// The interface that holds the gateway's address: the first of the pod network.
pub const BRIDGE: &str = "kedge0";

/// What shapes the pod network of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node's pods, such as `10.42.0.0/24`.
    pub pod_cidr: Ipv4Net,
    /// All nodes' pods, such as `10.42.0.0/16`; traffic to them is not masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// Services, such as `10.43.0.0/16`. With it the node gets a route, so that its own processes
    /// reach services even where there is no default route.
    pub service_cidr: Option<Ipv4Net>,
    /// The MTU of pods' interfaces, in bytes.
    pub mtu: u32,
    /// Where state is kept; see [`Settings::ips_dir`].
    pub data_dir: PathBuf,
}

impl Settings {
    /// The directory of address records.
    pub fn ips_dir(&self) -> PathBuf {
        ips_dir(&self.data_dir)
    }
}

fn ips_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/cni/ips")
}

/// The network configuration list (`*.conflist`) that makes a runtime use this plug-in.
pub fn config_list(settings: &Settings) -> String {
    let plugin = json!({
        "type": PLUGIN,
        "podCIDR": settings.pod_cidr,
        "clusterCIDR": settings.cluster_cidr,
        "serviceCIDR": settings.service_cidr,
        "mtu": settings.mtu,
        "dataDir": settings.data_dir,
        "capabilities": {"portMappings": true},
    });
    // 1.0.0 and not newer: runtimes on stable distributions refuse what they do not know.
    let list = json!({"cniVersion": "1.0.0", "name": "kedge", "plugins": [plugin]});
    format!("{list:#}\n")
}
