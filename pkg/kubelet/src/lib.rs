//! The kubelet: runs the pods of this node over the container runtime interface and reports about them.

mod args;
mod backoff;
mod cgroups;
mod config;
mod csi;
mod eviction;
mod files;
mod generate;
mod http_get;
mod kubelet;
mod lifecycle;
mod local_volumes;
mod logs;
mod metrics;
mod node;
mod objects;
mod pod;
mod pods;
mod probes;
mod run;
mod runtime;
mod server;
mod static_pods;
mod stats;
mod status;
mod sync;
#[cfg(test)]
mod testing;
mod volumes;
mod worker;

pub use args::{ArgError, KubeletArgs};
pub use config::{KubeletConfig, KubeletError, NodeTaint, ServingConfig};
pub use run::run;
pub use runtime::RuntimeProblem;
