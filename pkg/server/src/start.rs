//! The order of things: directory, store, certificates, API server, port, bootstrap, controllers, scheduler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_admission::Chain;
use kedge_apiserver::{ApiServer, Config, KubeletAccess, Readiness, serve};
use kedge_auth::{Authenticator, CertificateAuthenticator, NodeAuthorizer, RbacAuthorizer, TokenSigner, Union};
use kedge_base::{SharedClock, Shutdown, TaskGroup, system_clock};
use kedge_certs::{Kubeconfig, Leaf, LeafRequest, Pki, Usage, Users};
use kedge_client::{Client, ClusterAccess};
use kedge_kv::{Embedded, Kv, Options};
use kedge_meta::UserInfo;
use kedge_registry::{ClusterConfig, Registry};
use kedge_storage::{ResourceStore, Storage};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tracing::info;

use crate::config::ServerConfig;
use crate::error::Error;
use crate::{bootstrap, inprocess};

/// How long tasks may take to end at shutdown.
const STOP: Duration = Duration::from_secs(5);

/// A running control plane.
pub struct Server {
    pub config: ServerConfig,
    pub pki: Pki,
    api: Arc<ApiServer>,
    kv: Arc<dyn Kv>,
    tasks: TaskGroup,
    readiness: Readiness,
}

impl Server {
    /// Starts everything; returns when the API is ready.
    ///
    /// # Errors
    /// [`Error`], with what was started before stopped again.
    pub async fn start(config: ServerConfig, shutdown: &Shutdown) -> Result<Self, Error> {
        let clock = system_clock();
        let tasks = TaskGroup::new("server", shutdown.child());
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|source| Error::DataDir { path: config.data_dir.clone(), source })?;
        let address = SocketAddr::new(config.bind_address, config.https_port);
        let kv: Arc<dyn Kv> = Arc::new(Embedded::open(Options::new(config.store_dir(), clock.clone()))?);
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let pki = Pki::open(&config.tls_dir(), now(&clock))?;
        let readiness = Readiness::default();
        readiness.set("poststarthook/bootstrap", false);
        let storage = Arc::new(Storage::open(kv.clone(), &Registry::storage_configs()).await?);
        let api = api_server(&config, &pki, &storage, &clock, &tasks, readiness.clone())?;
        let tls = tls(&config, &pki, &clock)?;
        let server = Self { config, pki, api, kv, tasks, readiness };
        server.tasks.spawn("https", serve::serve(server.api.clone(), listener, tls, server.tasks.clone()));
        server.write_kubeconfig(&clock)?;
        bootstrap::run(&server.admin_client(), &server.config).await?;
        server.start_controllers(&clock);
        server.readiness.set("poststarthook/bootstrap", true);
        info!(%address, "API server ready");
        Ok(server)
    }

    fn start_controllers(&self, clock: &SharedClock) {
        let client = self.client_as(UserInfo::new("system:kube-controller-manager", &[]));
        let config = kedge_controllers::Config {
            cluster_cidr: self.config.cluster_cidr.clone(),
            root_ca: self.pki.server_ca.certificate.clone(),
        };
        kedge_controllers::start(&client, clock, &self.tasks, config);
        if self.config.scheduler {
            let client = self.client_as(UserInfo::new("system:kube-scheduler", &[]));
            kedge_scheduler::start(&client, clock, &self.tasks);
        }
    }

    /// A client inside this process that acts as `user`.
    pub fn client_as(&self, user: UserInfo) -> Client {
        inprocess::client(&self.api, user)
    }

    /// A client that may do everything.
    pub fn admin_client(&self) -> Client {
        self.client_as(UserInfo::new("system:apiserver", &[kedge_auth::MASTERS]))
    }

    /// A serving certificate of the cluster, for a component of this host.
    ///
    /// # Errors
    /// When it cannot be written or issued.
    pub fn issue(&self, file: &str, request: &LeafRequest) -> Result<Leaf, Error> {
        Ok(self.pki.serving(file, request, now(&system_clock()))?)
    }

    /// Stops serving and closes the store.
    pub async fn stop(&self) {
        if !self.tasks.join(STOP).await {
            info!(left = self.tasks.len(), "some tasks did not end in time");
        }
        self.kv.close().await;
    }

    fn write_kubeconfig(&self, clock: &SharedClock) -> Result<(), Error> {
        let admin = self.pki.client("client-admin", "system:admin", Some(kedge_auth::MASTERS), now(clock))?;
        let host = match self.config.bind_address {
            ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
            ip if ip.is_ipv6() => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let server = format!("https://{host}:{}", self.config.https_port);
        let kubeconfig = Kubeconfig {
            server: &server,
            certificate_authority: &self.pki.server_ca.certificate,
            user: Users::Certificate(&admin),
        };
        kubeconfig.write(&self.config.kubeconfig, self.config.kubeconfig_mode)?;
        info!(path = %self.config.kubeconfig.display(), "kubeconfig written");
        Ok(())
    }
}

fn now(clock: &SharedClock) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(clock.now().as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn store(storage: &Storage, prefix: &str) -> Result<ResourceStore, Error> {
    storage.resource(prefix).ok_or_else(|| Error::Authentication(format!("the store has no {prefix}")))
}

fn api_server(
    config: &ServerConfig,
    pki: &Pki,
    storage: &Arc<Storage>,
    clock: &SharedClock,
    tasks: &TaskGroup,
    readiness: Readiness,
) -> Result<Arc<ApiServer>, Error> {
    let cluster = ClusterConfig { service_cidr: config.service_cidr.clone(), node_ports: config.node_ports };
    let registry = Arc::new(Registry::new(storage.clone(), clock.clone(), cluster));
    let rbac = Arc::new(RbacAuthorizer::new(
        store(storage, "roles")?,
        store(storage, "rolebindings")?,
        store(storage, "clusterroles")?,
        store(storage, "clusterrolebindings")?,
    ));
    let nodes = Arc::new(NodeAuthorizer::new(store(storage, "pods")?));
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let (accounts, pods, secrets) =
        (store(storage, "serviceaccounts")?, store(storage, "pods")?, store(storage, "secrets")?);
    let failed = |e: &dyn std::fmt::Display| Error::Authentication(e.to_string());
    let signer =
        TokenSigner::new(&pki.service_account_key, &issuer, accounts, pods, secrets).map_err(|e| failed(&e))?;
    let certificates = CertificateAuthenticator::new(&pki.client_ca.certificate).map_err(|e| failed(&e))?;
    let identity =
        pki.client("client-kube-apiserver", "system:kube-apiserver", Some(kedge_auth::MASTERS), now(clock))?;
    let access = ClusterAccess {
        certificate_authority: pki.server_ca.certificate.clone().into_bytes(),
        client_certificate: identity.certificate.into_bytes(),
        client_key: identity.key.into_bytes(),
        ..ClusterAccess::default()
    };
    let mut kubelet_tls = access.tls_config().map_err(|e| Error::Tls(e.to_string()))?;
    // Upgrades need HTTP/1.1.
    kubelet_tls.alpn_protocols.clear();
    Ok(ApiServer::new(Config {
        admission: Arc::new(Chain::new(registry.clone(), rbac.clone())),
        registry,
        authenticator: Authenticator::new(certificates, Arc::new(signer)),
        authorizer: Arc::new(Union::new(vec![nodes, rbac.clone()])),
        rbac,
        kubelets: Some(KubeletAccess::new(Arc::new(kubelet_tls), tasks.child("kubelet connections"))),
        clock: clock.clone(),
        shutdown: tasks.shutdown().clone(),
        readiness,
        advertised: SocketAddr::new(config.advertise_address, config.https_port).to_string(),
    }))
}

fn tls(config: &ServerConfig, pki: &Pki, clock: &SharedClock) -> Result<serve::SharedTls, Error> {
    let domain = &config.cluster_domain;
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.push(config.node_name.clone());
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned(), config.advertise_address.to_string()]);
    names.extend(config.api_service_ip().map(|ip| ip.to_string()));
    if !config.bind_address.is_unspecified() {
        names.push(config.bind_address.to_string());
    }
    names.extend(config.tls_sans.iter().cloned());
    names.sort();
    names.dedup();
    let request = LeafRequest { common_name: "kube-apiserver".into(), organization: None, names, usage: Usage::Server };
    let leaf = pki.serving("serving-kube-apiserver", &request, now(clock))?;
    let tls = serve::tls_config(&leaf.certificate, &leaf.key).map_err(|e| Error::Tls(e.to_string()))?;
    Ok(Arc::new(RwLock::new(Arc::new(tls))))
}
