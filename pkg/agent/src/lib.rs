//! Layer 6: a node, put together: container runtime, pod network, kubelet, service proxy, DNS.
//!
//! Invariants: whatever is missing on the host makes the node not ready with a reason, never the process end; stopping
//! leaves pods, their network and the service table as they are; nothing is pulled to start a pod.

mod config;
mod containerd;
mod dns_slice;
mod error;
pub mod host;
mod kubelet_dir;
mod network;
mod pause;
mod start;
mod supervise;

pub use config::AgentConfig;
pub use error::Error;
pub use kedge_kubelet::KubeletArgs;
pub use start::Agent;
