//! What the kubelet is told at start; nothing of it changes while it runs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use kedge_base::SharedClock;
use kedge_client::Client;
use rustls::server::ResolvesServerCert;
use serde_json::{Value, json};

use crate::args::KubeletArgs;
use crate::runtime::RuntimeProblem;

/// A taint the node registers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTaint {
    pub key: String,
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The HTTPS port on which the API server reaches the kubelet.
#[derive(Clone, Debug)]
pub struct ServingConfig {
    /// Usually `[::]:10250` or `0.0.0.0:10250`.
    pub address: SocketAddr,
    /// The serving certificate with its chain, which may be another for later connections.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// The authority of client certificates, PEM.
    pub client_ca_pem: String,
}

/// The configuration of one kubelet.
#[derive(Clone)]
pub struct KubeletConfig {
    pub node_name: String,
    /// The main address first.
    pub node_ips: Vec<IpAddr>,
    pub client: Client,
    pub clock: SharedClock,
    /// `unix:///run/containerd/containerd.sock` or a bare path.
    pub cri_endpoint: String,
    /// Why that endpoint does not answer, from whoever keeps the runtime running.
    pub runtime_problem: RuntimeProblem,
    /// Where pods' volumes are kept.
    pub root_dir: PathBuf,
    /// `/var/log/pods`.
    pub pod_log_dir: PathBuf,
    /// `/var/log/containers`: links for log collectors; `None` makes none.
    pub container_log_dir: Option<PathBuf>,
    /// Addresses of the cluster's name servers; empty without cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolver configuration, for pods that use it.
    pub resolv_conf: PathBuf,
    /// The directory, or the one file, that tells of static pods; `None` runs none.
    pub static_pods: Option<PathBuf>,
    pub node_labels: Vec<(String, String)>,
    pub node_taints: Vec<NodeTaint>,
    pub args: KubeletArgs,
    /// `v1.36.2+kedge1`, as nodes show it.
    pub version: String,
    /// Whether the node object is made and kept up to date by this kubelet.
    pub register_node: bool,
    /// `None` opens no port: then logs and exec do not work.
    pub serving: Option<ServingConfig>,
}

impl KubeletConfig {
    /// The configuration as upstream's `KubeletConfiguration` names it: what is decided here, and nothing that is not.
    pub(crate) fn document(&self) -> Value {
        let args = &self.args;
        let dns: Vec<String> = self.cluster_dns.iter().map(ToString::to_string).collect();
        let taints: Vec<Value> =
            self.node_taints.iter().map(|t| json!({"key": t.key, "value": t.value, "effect": t.effect})).collect();
        let mut document = json!({
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "enableServer": self.serving.is_some(),
            "staticPodPath": self.static_pods.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            "syncFrequency": "1m0s",
            "fileCheckFrequency": "20s",
            "port": self.serving.as_ref().map_or(0, |serving| serving.address.port()),
            "address": self.serving.as_ref().map(|serving| serving.address.ip().to_string()).unwrap_or_default(),
            "authentication": {
                "x509": {}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}, "anonymous": {"enabled": false}},
            "authorization": {
                "mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}},
            "clusterDomain": self.cluster_domain,
            "clusterDNS": dns,
            "nodeStatusUpdateFrequency": "10s",
            "nodeStatusReportFrequency": "5m0s",
            "nodeLeaseDurationSeconds": 40,
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 5,
            "enableControllerAttachDetach": true,
            "serializeImagePulls": args.parallel_pulls == Some(1),
            "maxParallelImagePulls": args.parallel_pulls,
            "enableSystemLogHandler": true,
            "enableSystemLogQuery": false,
            "enableDebuggingHandlers": true,
            "containerRuntimeEndpoint": self.cri_endpoint,
            "registerNode": self.register_node,
            "registerWithTaints": taints,
        });
        if let (Some(document), Value::Object(limits)) = (document.as_object_mut(), self.limits()) {
            document.extend(limits);
        }
        document
    }

    /// The part that is about what may be used, and what goes when it is too much.
    fn limits(&self) -> Value {
        let args = &self.args;
        let seconds = |duration: std::time::Duration| {
            kedge_base::time::go_duration_text(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        };
        json!({
            "imageMinimumGCAge": seconds(args.image_min_age),
            "imageMaximumGCAge": seconds(args.image_max_age.unwrap_or_default()),
            "imageGCHighThresholdPercent": args.image_gc_high,
            "imageGCLowThresholdPercent": args.image_gc_low,
            "volumeStatsAggPeriod": "1m0s",
            "cgroupsPerQOS": true,
            "cgroupDriver": "cgroupfs",
            "maxPods": args.max_pods,
            "podPidsLimit": -1,
            "resolvConf": self.resolv_conf.display().to_string(),
            "evictionHard": args.eviction_hard.document(),
            "evictionSoft": args.eviction_soft.document(),
            "evictionSoftGracePeriod": args
                .eviction_soft_grace
                .iter()
                .map(|(signal, period)| ((*signal).to_owned(), Value::from(seconds(*period))))
                .collect::<serde_json::Map<_, _>>(),
            "evictionMaxPodGracePeriod": args.eviction_max_pod_grace,
            "evictionMinimumReclaim": args.eviction_minimum_reclaim.document(),
            "evictionPressureTransitionPeriod": seconds(args.pressure_transition),
        })
    }
}

/// Why the kubelet cannot start. A runtime that does not answer is no reason: the node is not ready until it does.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("cannot use the container runtime's endpoint")]
    Endpoint(#[source] kedge_cri::Error),
    #[error("cannot make the kubelet's directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the kubelet's serving certificate: {0}")]
    Certificate(String),
}
