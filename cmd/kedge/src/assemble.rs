//! Server and agent in one process.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use kedge_agent::{Agent, AgentConfig, KubeletArgs, host};
use kedge_base::{Shutdown, system_clock};
use kedge_certs::{LeafRequest, Usage};
use kedge_cli::{ApiServerArgs, AuthenticationArgs, AuthorizationArgs, ServerFlags, TokenArgs};
use kedge_meta::UserInfo;
use kedge_server::{
    AdmissionPlugins, AuditConfig, AuthenticationConfig, AuthorizationConfig, Batching, ControllerSettings, InFlight,
    OidcConfig, Server, ServerConfig, SnapshotSettings, TokenSettings, TokenWebhookConfig,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// What nodes and `kubectl version` show.
const VERSION: &str = concat!("v1.36.2+kedge", env!("CARGO_PKG_VERSION"));

/// Runs `kedge server` until it is told to stop.
pub async fn server(flags: ServerFlags) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let kubelet_args = KubeletArgs::parse(&flags.kubelet_arg)?;
    let controllers = controllers(&flags)?;
    flags.check_places()?;
    let shutdown = Shutdown::new();
    let node_name = flags.node_name.clone().unwrap_or_else(host::name);
    let node_ip = flags.node_ip.unwrap_or_else(host::address);
    let server = Server::start(server_config(&flags, controllers, &node_name, node_ip)?, &shutdown).await?;
    let agent = if flags.disable_agent {
        None
    } else {
        let started = match agent_config(&flags, &server, kubelet_args, (node_name, node_ip)) {
            Ok(config) => Agent::start(config, &shutdown).await.map_err(anyhow::Error::from),
            Err(err) => Err(err),
        };
        match started {
            Ok(agent) => Some(agent),
            Err(err) => {
                server.stop().await;
                return Err(err.context("cannot start the node"));
            }
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping; pods keep running");
    shutdown.trigger();
    if let Some(agent) = agent {
        agent.stop().await;
    }
    server.stop().await;
    Ok(())
}

/// What is set of the controllers. That a setting has no effect is no reason not to start.
fn controllers(flags: &ServerFlags) -> anyhow::Result<ControllerSettings> {
    let (settings, idle) = ControllerSettings::parse(&flags.kube_controller_manager_arg)?;
    for name in idle {
        warn!(name, "this --kube-controller-manager-arg has no effect");
    }
    Ok(settings)
}

fn server_config(
    flags: &ServerFlags,
    controllers: ControllerSettings,
    node_name: &str,
    node_ip: IpAddr,
) -> anyhow::Result<ServerConfig> {
    let (datastore, datastore_tls) = crate::store::datastore(&flags.datastore)?;
    let settings = flags.api_server();
    let (enable, disable) = settings.admission_plugins();
    let TokenArgs { issuers, key_files, signing_key_file, audiences, extended, longest } =
        flags.token_args().map_err(anyhow::Error::msg)?;
    Ok(ServerConfig {
        data_dir: flags.data_dir(),
        bind_address: flags.bind_address,
        https_port: flags.https_listen_port,
        advertise_address: flags.advertise_address.unwrap_or(node_ip),
        tls_sans: flags.tls_san.clone(),
        service_cidrs: flags.service_cidr.0.clone(),
        cluster_cidr: flags.cluster_cidr.to_string(),
        cluster_dns: flags.cluster_dns(),
        cluster_domain: flags.cluster_domain.clone(),
        node_ports: (flags.service_node_port_range.0, flags.service_node_port_range.1),
        kubeconfig: flags.kubeconfig(),
        kubeconfig_mode: flags.write_kubeconfig_mode.0,
        node_name: node_name.to_owned(),
        scheduler: !flags.disable_scheduler,
        controllers: !flags.disable_controller_manager,
        controller_settings: controllers,
        dns: flags.enabled("dns"),
        metrics: flags.enabled("metrics-server"),
        local_storage: flags.local_storage(),
        storage_migration: settings.storage_migration(),
        datastore,
        datastore_tls,
        token: flags.token.read().map_err(anyhow::Error::msg)?,
        secrets_encryption: flags.secrets_encryption,
        encryption_config: settings.encryption_config(),
        admission: AdmissionPlugins { enable, disable, ..AdmissionPlugins::default() },
        admission_config: settings.admission_config(),
        in_flight: in_flight(settings),
        audit: audit(settings),
        authentication: authentication(settings),
        authorization: authorization(settings),
        tokens: TokenSettings { issuers, key_files, signing_key_file, audiences, extended, longest },
        snapshots: SnapshotSettings {
            schedule: (!flags.etcd_disable_snapshots).then(|| flags.etcd_snapshot_schedule_cron.clone()),
            retention: flags.etcd_snapshot_retention as usize,
            dir: flags.etcd_snapshot_dir.clone(),
        },
        etcd_listen: flags.etcd_listen.clone(),
    })
}

fn in_flight(settings: ApiServerArgs<'_>) -> InFlight {
    let (reading, writing) = settings.in_flight();
    let usual = InFlight::default();
    InFlight {
        read_only: reading.unwrap_or(usual.read_only),
        mutating: writing.unwrap_or(usual.mutating),
        fairness: settings.fairness(),
    }
}

fn authentication(settings: ApiServerArgs<'_>) -> AuthenticationConfig {
    let AuthenticationArgs { file, oidc, tokens, anonymous, webhook } = settings.authentication();
    let webhook =
        webhook.map(|given| TokenWebhookConfig { file: given.file, version: given.version, kept_for: given.kept_for });
    let oidc = oidc.map(|given| OidcConfig {
        issuer: given.issuer,
        client: given.client,
        username_claim: given.username_claim,
        username_prefix: given.username_prefix,
        groups_claim: given.groups_claim,
        groups_prefix: given.groups_prefix,
        required: given.required,
        algorithms: given.algorithms,
        authority: given.authority,
    });
    AuthenticationConfig { file, oidc, tokens, anonymous, webhook }
}

fn authorization(settings: ApiServerArgs<'_>) -> AuthorizationConfig {
    let AuthorizationArgs { file, modes, webhook, version, authorized, unauthorized } = settings.authorization();
    let usual = AuthorizationConfig::default();
    AuthorizationConfig {
        file,
        modes: if modes.is_empty() { usual.modes } else { modes },
        webhook,
        version: version.unwrap_or(usual.version),
        authorized: authorized.unwrap_or(usual.authorized),
        unauthorized: unauthorized.unwrap_or(usual.unauthorized),
    }
}

fn audit(settings: ApiServerArgs<'_>) -> AuditConfig {
    let given = settings.audit();
    let usual = Batching::default();
    let throttle = usual.throttle.map(|(qps, burst)| (given.qps.unwrap_or(qps), given.burst.unwrap_or(burst)));
    AuditConfig {
        policy: given.policy,
        log: given.log,
        size: given.size.unwrap_or_default(),
        backups: given.backups.unwrap_or_default(),
        days: given.days.unwrap_or_default(),
        compress: given.compress,
        legacy: given.legacy,
        webhook: given.webhook,
        batching: Batching {
            buffer: given.buffer.unwrap_or(usual.buffer),
            size: given.batch.unwrap_or(usual.size),
            wait: given.wait.unwrap_or(usual.wait),
            throttle,
            backoff: given.backoff.unwrap_or(usual.backoff),
        },
    }
}

fn agent_config(
    flags: &ServerFlags,
    server: &Server,
    kubelet_args: KubeletArgs,
    (node_name, node_ip): (String, IpAddr),
) -> anyhow::Result<AgentConfig> {
    let clock = system_clock();
    let request = LeafRequest {
        common_name: format!("system:node:{node_name}"),
        organization: None,
        names: vec![node_name.clone(), "localhost".into(), "127.0.0.1".into(), node_ip.to_string()],
        usage: Usage::Server,
    };
    let certificate = server.issue("serving-kubelet", request)?;
    Ok(AgentConfig {
        data_dir: flags.data_dir(),
        node_client: server.client_as(UserInfo::new(format!("system:node:{node_name}"), &["system:nodes"])),
        proxy_client: server.client_as(UserInfo::new("system:kube-proxy", &[])),
        node_name,
        node_ip,
        clock,
        cluster_cidr: flags.cluster_cidr.to_string(),
        service_cidr: flags.service_cidr.0.iter().find(|cidr| !cidr.is_ipv6()).map(ToString::to_string),
        cluster_dns: flags.cluster_dns(),
        cluster_domain: flags.cluster_domain.clone(),
        resolv_conf: flags.resolv_conf.clone(),
        node_labels: flags.node_label.clone(),
        node_taints: flags.node_taint.clone(),
        kubelet_args,
        runtime_endpoint: flags.container_runtime_endpoint.clone(),
        pause_image: flags.pause_image.clone(),
        kubelet_certificate: certificate,
        client_ca: server.pki.client_ca.certificate.clone(),
        kubelet_address: SocketAddr::new(flags.bind_address, flags.kubelet_port),
        proxy: !flags.disable_kube_proxy,
        dns: flags.enabled("dns"),
        version: VERSION.to_owned(),
    })
}
