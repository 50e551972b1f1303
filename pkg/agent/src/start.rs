//! The order of things: runtime, kubelet, then, with the node's range, network, DNS and the service proxy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Backoff, Shutdown, TaskGroup};
use kedge_dns::Health;
use kedge_kubelet::{KubeletConfig, NodeTaint, RuntimeProblem, ServingConfig};
use kedge_nft::{Nft, NftCommand};
use tracing::{info, warn};

use crate::config::AgentConfig;
use crate::containerd::{self, Paths};
use crate::error::Error;
use crate::{dns_slice, host, kubelet_dir, network};

/// How long parts may take to end.
const STOP: Duration = Duration::from_secs(8);
const DNS_PORT: u16 = 53;
/// How long clients remember answers about the cluster.
const DNS_TTL: u32 = 5;

/// A running node.
pub struct Agent {
    tasks: TaskGroup,
}

impl Agent {
    /// Starts everything; what is missing on the host is waited for in the background.
    ///
    /// # Errors
    /// When a setting cannot be used, a directory not made, or the kubelet's port not opened.
    pub async fn start(config: AgentConfig, shutdown: &Shutdown) -> Result<Self, Error> {
        let tasks = TaskGroup::new("agent", shutdown.child());
        let problem = RuntimeProblem::default();
        let paths = match &config.runtime_endpoint {
            None => containerd::start(&config, &problem, &tasks)?,
            Some(_) => Paths::new(&config),
        };
        for dir in [&paths.cni_bin, &paths.cni_conf, &config.manifests_dir()] {
            std::fs::create_dir_all(dir).map_err(Error::io("create directory", dir))?;
        }
        let endpoint = config.runtime_endpoint.clone().unwrap_or_else(|| paths.endpoint());
        let kubelet = kubelet(&config, endpoint, problem)?;
        if let Err(error) = kubelet_dir::spread_mounts(&kubelet.root_dir, &config.data_dir) {
            let directory = kubelet.root_dir.display();
            warn!(%directory, %error, "what drivers mount in their pods is not seen by others");
        }
        kedge_kubelet::run(kubelet, &tasks).await?;
        let nft: Arc<dyn Nft> = Arc::new(nft_command());
        if config.proxy {
            start_proxy(&config, nft.clone(), &tasks);
        }
        tasks.spawn_until_shutdown("pod network", start_network(config, paths, nft, tasks.clone()));
        Ok(Self { tasks })
    }

    /// Stops the parts; pods and their network stay.
    pub async fn stop(&self) {
        if !self.tasks.join(STOP).await {
            warn!(left = self.tasks.len(), "some tasks of the node did not end in time");
        }
    }
}

/// The packet filter's program is where the search path of a login that is not root's may not lead.
fn nft_command() -> NftCommand {
    match host::find_program("nft") {
        Some(path) => NftCommand::new().with_program(path.to_string_lossy()),
        None => NftCommand::new(),
    }
}

fn kubelet(
    config: &AgentConfig,
    cri_endpoint: String,
    runtime_problem: RuntimeProblem,
) -> Result<KubeletConfig, Error> {
    let bad = |what: &'static str, value: &str| Error::Setting {
        what,
        value: value.to_owned(),
        why: "its form is wrong".into(),
    };
    let label = |text: &String| {
        text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| bad("--node-label", text))
    };
    let taint = |text: &String| {
        let (key, effect) = text.rsplit_once(':').ok_or_else(|| bad("--node-taint", text))?;
        let (key, value) = key.split_once('=').unwrap_or((key, ""));
        Ok(NodeTaint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
    };
    Ok(KubeletConfig {
        node_name: config.node_name.clone(),
        node_ips: vec![config.node_ip],
        client: config.node_client.clone(),
        clock: config.clock.clone(),
        cri_endpoint,
        runtime_problem,
        root_dir: kubelet_dir::choose(config),
        pod_log_dir: PathBuf::from("/var/log/pods"),
        container_log_dir: Some(PathBuf::from("/var/log/containers")),
        cluster_dns: if config.dns { vec![config.cluster_dns] } else { Vec::new() },
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: config.resolv_conf.clone().unwrap_or_else(|| PathBuf::from("/etc/resolv.conf")),
        static_pods: Some(config.kubelet_args.static_pods.clone().unwrap_or_else(|| config.manifests_dir())),
        node_labels: config.node_labels.iter().map(label).collect::<Result<_, _>>()?,
        node_taints: config.node_taints.iter().map(taint).collect::<Result<_, Error>>()?,
        args: config.kubelet_args.clone(),
        version: config.version.clone(),
        register_node: true,
        serving: Some(ServingConfig {
            address: config.kubelet_address,
            certificate: config.kubelet_certificate.clone(),
            client_ca_pem: config.client_ca.clone(),
        }),
    })
}

fn start_proxy(config: &AgentConfig, nft: Arc<dyn Nft>, tasks: &TaskGroup) {
    let proxy = kedge_proxy::Config {
        node_name: config.node_name.clone(),
        node_ips: vec![config.node_ip],
        cluster_cidrs: vec![config.cluster_cidr.clone()],
        service_cidrs: config.service_cidr.iter().cloned().collect(),
        localhost_node_ports: true,
        clock: config.clock.clone(),
    };
    let (client, group) = (config.proxy_client.clone(), tasks.clone());
    tasks.spawn("service proxy", async move {
        if let Err(err) = kedge_proxy::run(proxy, client, nft, group).await {
            warn!(error = %err, "the service proxy does not run");
        }
    });
}

async fn start_network(config: AgentConfig, paths: Paths, nft: Arc<dyn Nft>, tasks: TaskGroup) {
    let Some(cidr) = network::pod_cidr(&config, &tasks).await else { return };
    let mut wait = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), 20);
    let range = loop {
        match tasks.catch("pod network", network::set_up(&config, &paths, &cidr, &*nft)).await {
            Ok(Ok(range)) => break range,
            Ok(Err(err)) => warn!(error = %err, "pod network not ready, trying again"),
            Err(err) => warn!(error = %err, "pod network not ready, trying again"),
        }
        config.clock.sleep(wait.next()).await;
    };
    if !config.dns {
        return;
    }
    let gateway: IpAddr = range.gateway().into();
    let health = Health::default();
    let dns = kedge_dns::Config {
        domain: config.cluster_domain.clone(),
        listen: vec![SocketAddr::new(gateway, DNS_PORT)],
        advertised: vec![config.cluster_dns],
        resolv_conf: Some(config.resolv_conf.clone().unwrap_or_else(|| PathBuf::from("/etc/resolv.conf"))),
        ttl: DNS_TTL,
        clock: config.clock.clone(),
        health: health.clone(),
    };
    let (client, clock, node) = (config.node_client.clone(), config.clock.clone(), config.node_name.clone());
    tasks.spawn_worker("kube-dns endpoint", move || {
        dns_slice::publish(client.clone(), clock.clone(), health.clone(), node.clone(), gateway, DNS_PORT)
    });
    info!(%gateway, "starting cluster DNS");
    if let Err(err) = kedge_dns::run(dns, config.proxy_client.clone(), tasks.clone()).await {
        warn!(error = %err, "cluster DNS does not run");
    }
}
