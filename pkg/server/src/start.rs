//! The order of things: directory, store, certificates, API server, port, bootstrap, controllers, scheduler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_apiserver::{ApiServer, Readiness, serve};
use kedge_base::{SharedClock, Shutdown, TaskGroup, system_clock};
use kedge_certs::{Credential, LeafRequest, Pki};
use kedge_client::{Candidate, Client};
use kedge_controllers::Schedule;
use kedge_datastore::{Endpoint, Store};
use kedge_extensions::{Aggregation, Extensions};
use kedge_kv::Kv as _;
use kedge_meta::UserInfo;
use kedge_registry::Registry;
use kedge_storage::{Encryption, Storage};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::authority_rotation::AuthorityRotation;
use crate::bootstrap::{self, Bootstrap};
use crate::claims::ClaimsRepair;
use crate::config::ServerConfig;
use crate::default_service_cidr::DefaultServiceCidr;
use crate::encryption::SecretsEncryption;
use crate::endpoints::Advertised;
use crate::error::Error;
use crate::own_paths::{Administration, Certificates};
use crate::renewal::Renewal;
use crate::secret_tokens::SecretTokens;
use crate::snapshots::SnapshotService;
use crate::token::Token;
use crate::token_rotation::TokenRotation;
use crate::{api, encryption, endpoints, etcd_api, hooks, identity, inprocess, kubeconfig, snapshots, token_rotation};

/// How long tasks may take to end at shutdown.
const STOP: Duration = Duration::from_secs(5);
/// Between checks of caches against the store, as upstream.
const CHECK: Duration = Duration::from_secs(300);

/// A running control plane.
pub struct Server {
    pub config: ServerConfig,
    pub pki: Pki,
    renewal: Renewal,
    api: Arc<ApiServer>,
    store: Store,
    tasks: TaskGroup,
    /// What the store needs until it is closed: its connections end after everything else.
    store_tasks: TaskGroup,
}

/// What is there before anything serves.
struct Ground {
    clock: SharedClock,
    token: Token,
    store: Store,
    store_tasks: TaskGroup,
    /// When snapshots are saved.
    schedule: Option<Schedule>,
}

impl Server {
    /// Starts everything; returns when the API is ready.
    ///
    /// # Errors
    /// [`Error`], with what was started before stopped again.
    pub async fn start(config: ServerConfig, shutdown: &Shutdown) -> Result<Self, Error> {
        Self::start_at(config, shutdown, system_clock()).await
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_at(config: ServerConfig, shutdown: &Shutdown, clock: SharedClock) -> Result<Self, Error> {
        let schedule = snapshots::schedule(&config, clock.now())?;
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|source| Error::DataDir { path: config.data_dir.clone(), source })?;
        let address = SocketAddr::new(config.bind_address, config.https_port);
        let token = Token::of(&config.token_file(), config.token.as_deref())?;
        let store_tasks = TaskGroup::new("store", Shutdown::new());
        let layout = config.layout();
        let store =
            kedge_datastore::open(&config.datastore, &config.datastore_tls, &layout, &clock, &store_tasks).await?;
        let started = match TcpListener::bind(address).await {
            Ok(listener) => {
                let ground = Ground { clock, token, store: store.clone(), store_tasks: store_tasks.clone(), schedule };
                Self::start_on(config, shutdown, ground, listener).await
            }
            Err(source) => Err(Error::Listen { address, source }),
        };
        if started.is_err() {
            store.kv.close().await;
            store_tasks.join(STOP).await;
        }
        started
    }

    async fn start_on(
        config: ServerConfig,
        shutdown: &Shutdown,
        ground: Ground,
        listener: TcpListener,
    ) -> Result<Self, Error> {
        let Ground { clock, token, store, store_tasks, schedule } = ground;
        let tasks = TaskGroup::new("server", shutdown.child());
        let empty = store.embedded.as_ref().is_some_and(|engine| engine.revision() <= 1);
        if empty && config.datastore == Endpoint::Embedded && config.tls_dir().join("server-ca.crt").exists() {
            warn!(dir = %config.layout().store().display(), "a cluster has its certificates here and nothing in its store: an empty one is begun; if there was more, restore a snapshot");
        }
        let (secrets, token) = Secrets::open_with(&config, &store, token, &clock).await?;
        let (pki, renewal) = (secrets.pki, Renewal::new(&clock));
        token.check(&pki)?;
        token.write(&config.token_file(), &pki.server_ca.certificate)?;
        token_rotation::has_come(&config.token_file())?;
        let readiness = Readiness::default();
        hooks::declare(&readiness);
        let configs = Registry::storage_configs();
        let encryption = Arc::new(secrets.encryption);
        let storage = Arc::new(Storage::open(store.kv.clone(), &configs, encryption, clock.clone()).await?);
        hooks::done(&readiness, &hooks::CACHES);
        let shared = store.is_shared().then(|| (store.kv.clone(), token.clone()));
        let encryption = SecretsEncryption::new(
            storage.clone(),
            encryption::path_of(&config.data_dir),
            secrets.encryption_text.as_deref(),
            shared,
            clock.clone(),
        );
        let encryption = Arc::new(encryption?);
        if let Some(revision) = secrets.shared_at {
            encryption.begin(revision).await?;
        }
        let snapshots = Arc::new(SnapshotService::new(store.clone(), config.snapshot_dir(), clock.clone()));
        let managed = config.encryption_config.is_none();
        let rotation = TokenRotation {
            encryption: encryption.clone(),
            managed,
            file: config.token_file(),
            authority: pki.server_ca.certificate.clone(),
            current: tokio::sync::Mutex::new(token),
        };
        let token = Arc::new(rotation);
        let authorities = AuthorityRotation {
            shared: store.is_shared().then(|| store.kv.clone()),
            dir: config.tls_dir(),
            token: token.clone(),
            clock: clock.clone(),
            changing: tokio::sync::Mutex::default(),
        };
        let own = Administration {
            authorities: Arc::new(authorities),
            snapshots: snapshots.clone(),
            encryption: encryption.clone(),
            token,
            tasks: tasks.clone(),
            certificates: Certificates { dir: config.tls_dir(), renewal: renewal.clone(), clock: clock.clone() },
            managed,
        };
        let registry = Registry::new(storage.clone(), clock.clone(), config.cluster());
        let registry = Arc::new(registry.with_optional(&config.optional_groups()));
        let webhooks = api::webhooks(&registry, &tasks, &clock);
        let proxy = renewal.credential(pki.front_proxy_leaf())?;
        let others = api::others(&proxy, &registry, &tasks, &clock);
        let api = api::api_server(api::Parts {
            config: &config,
            pki: &pki,
            renewal: &renewal,
            storage: &storage,
            registry: &registry,
            webhooks: &webhooks,
            others: &others,
            clock: &clock,
            tasks: &tasks,
            readiness: readiness.clone(),
            own: Arc::new(own),
        })?;
        let serving = api::serving(&config, &pki, &renewal)?;
        let tls = api::tls(serving.clone(), &pki)?;
        let extensions = Extensions::new(registry.clone(), webhooks, tasks.clone());
        extensions.begin().await.map_err(|status| Error::Definitions(status.message))?;
        hooks::done(&readiness, &hooks::DEFINITIONS);
        // With connections of its own: however many clients use up, availability is still seen.
        let aggregation = Aggregation::new(&extensions, api::others(&proxy, &registry, &tasks, &clock));
        aggregation.begin().await.map_err(|status| Error::Definitions(status.message))?;
        hooks::done(&readiness, &hooks::SERVICES);
        let server = Self { config, pki, renewal, api, store, tasks, store_tasks };
        let (api, listener, group) = (server.api.clone(), Arc::new(listener), server.tasks.clone());
        server
            .tasks
            .spawn_lasting("https", move || serve::serve(api.clone(), listener.clone(), tls.clone(), group.clone()));
        kubeconfig::keep(&server.config, &server.pki, &server.renewal)?;
        if let Some(endpoint) = &server.config.etcd_listen {
            let Self { config, store, pki, renewal, tasks, .. } = &server;
            etcd_api::start(config, endpoint, store, (pki, renewal, &serving), &clock, tasks).await?;
        }
        extensions.follow();
        hooks::done(&readiness, &hooks::EXTENSIONS);
        let client = server.admin_client();
        let ranges = DefaultServiceCidr::new(&client, &clock, &server.tasks, server.config.service_ranges());
        let bootstrap = Bootstrap {
            client: client.clone(),
            config: server.config.clone(),
            shared: server.store.is_shared(),
            ranges: ranges.clone(),
            readiness: readiness.clone(),
        };
        let (done, ()) = tokio::join!(bootstrap.begin(&server.tasks, &clock), aggregation.register());
        done?;
        hooks::done(&readiness, &hooks::REGISTERED);
        aggregation.follow();
        hooks::done(&readiness, &hooks::AGGREGATION);
        ranges.follow(&server.tasks);
        ClaimsRepair::new(&registry, &client, &clock, &server.tasks).begin(&server.tasks).await?;
        hooks::done(&readiness, &hooks::CLAIMS);
        server.watch_the_store(&storage, &clock);
        server.tend_secrets(encryption).await?;
        if let Some(schedule) = schedule {
            let (retention, shutdown) = (server.config.snapshots.retention, server.tasks.shutdown().clone());
            server.tasks.spawn_lasting("snapshots", move || {
                let (snapshots, schedule, shutdown) = (snapshots.clone(), schedule.clone(), shutdown.clone());
                async move { snapshots.run(schedule, retention, shutdown).await }
            });
        }
        let renewal = server.renewal.clone();
        server.tasks.spawn_worker("renewal", move || {
            let renewal = renewal.clone();
            async move { renewal.run().await }
        });
        kedge_controllers::legacy_token_tracking::start(&client, &clock, &server.tasks);
        hooks::done(&readiness, &hooks::TRACKING);
        kedge_controllers::priority_and_fairness::start(&client, &clock, &server.tasks, bootstrap::flow_control()?);
        server.start_controllers(&clock);
        hooks::done(&readiness, &hooks::CONDITIONS);
        info!(address = %SocketAddr::new(server.config.bind_address, server.config.https_port), "API server ready");
        Ok(server)
    }

    /// Compares now and then what is kept beside the store with the store.
    fn watch_the_store(&self, storage: &Arc<Storage>, clock: &SharedClock) {
        let tended = storage.clone();
        self.tasks.spawn_worker("watch cache", move || {
            let tended = tended.clone();
            async move { tended.tend().await }
        });
        let (storage, timer) = (storage.clone(), clock.clone());
        self.tasks.spawn_worker("store check", move || check(storage.clone(), timer.clone()));
        if self.store.is_shared() && !self.config.advertise_address.is_loopback() {
            let own = Advertised { address: self.config.advertise_address, port: self.config.https_port };
            let shutdown = self.tasks.shutdown().clone();
            let (kv, client, clock) = (self.store.kv.clone(), self.admin_client(), clock.clone());
            self.tasks.spawn_lasting("endpoints", move || {
                endpoints::keep(kv.clone(), client.clone(), own, clock.clone(), shutdown.clone())
            });
        }
    }

    /// Completes a change of the encryption that was cut off, and follows those of other servers.
    async fn tend_secrets(&self, encryption: Arc<SecretsEncryption>) -> Result<(), Error> {
        if self.store.is_shared() && self.config.encryption_config.is_none() {
            let changed = identity::Changes::observe(&*self.store.kv).await?;
            let (following, changed) = (encryption.clone(), Arc::new(changed));
            self.tasks.spawn_worker("encryption", move || {
                let (following, changed) = (following.clone(), changed.clone());
                async move { following.follow(&changed).await }
            });
        }
        self.tasks.spawn_worker("encryption", move || {
            let encryption = encryption.clone();
            async move { encryption.resume().await }
        });
        Ok(())
    }

    /// On a shared store, of all servers one runs the controllers and one the scheduler.
    fn start_controllers(&self, clock: &SharedClock) {
        if self.config.controllers {
            self.start_controller_manager(clock);
        }
        if self.config.scheduler {
            let client = self.client_as(UserInfo::new("system:kube-scheduler", &[]));
            let (scheduler, timer) = (client.clone(), clock.clone());
            let start = move |tasks: &TaskGroup| kedge_scheduler::start(&scheduler, &timer, tasks);
            self.run_elected("kube-scheduler", client, clock, start);
        }
    }

    fn start_controller_manager(&self, clock: &SharedClock) {
        let client = self.client_as(UserInfo::new("system:kube-controller-manager", &[]));
        let config = kedge_controllers::Config {
            cluster_cidr: self.config.cluster_cidr.clone(),
            root_ca: self.pki.server_ca.certificate.clone(),
            storage_migration: self.config.storage_migration,
            local_storage: self.config.local_storage.is_some(),
            settings: self.config.controller_settings.clone(),
            token_signer: Arc::new(SecretTokens(self.api.token_signer().clone())),
            trust: kedge_controllers::Trust {
                client_ca: self.pki.client_ca.certificate.clone(),
                request_header_ca: self.pki.request_header_ca.certificate.clone(),
                proxy_name: kedge_certs::FRONT_PROXY.to_owned(),
            },
            signing: kedge_controllers::Signing {
                clients: self.pki.client_ca.clone(),
                servers: self.pki.server_ca.clone(),
            },
        };
        let (controllers, timer) = (client.clone(), clock.clone());
        let start = move |tasks: &TaskGroup| kedge_controllers::start(&controllers, &timer, tasks, config.clone());
        self.run_elected("kube-controller-manager", client, clock, start);
    }

    fn run_elected(
        &self,
        lease: &'static str,
        client: Client,
        clock: &SharedClock,
        start: impl Fn(&TaskGroup) + Send + 'static,
    ) {
        if !self.store.is_shared() {
            // Nobody else can have the store: an election would only write.
            return start(&self.tasks);
        }
        let candidate = Candidate::new(client, clock.clone(), lease, &self.config.node_name);
        self.tasks.spawn(lease, candidate.run(self.tasks.clone(), start));
    }

    /// A client inside this process that acts as `user`.
    pub fn client_as(&self, user: UserInfo) -> Client {
        inprocess::client(&self.api, user)
    }

    /// A client that may do everything.
    pub fn admin_client(&self) -> Client {
        self.client_as(UserInfo::new("system:apiserver", &[kedge_auth::MASTERS]))
    }

    /// A serving certificate of the cluster, for a component of this host; it is renewed as long as the server runs.
    ///
    /// # Errors
    /// When it cannot be written or issued.
    pub fn issue(&self, file: &str, request: LeafRequest) -> Result<Arc<Credential>, Error> {
        self.renewal.credential(self.pki.serving_leaf(file, request))
    }

    /// Stops serving and closes the store.
    pub async fn stop(&self) {
        if !self.tasks.join(STOP).await {
            info!(left = self.tasks.len(), "some tasks did not end in time");
        }
        self.store.kv.close().await;
        if !self.store_tasks.join(STOP).await {
            info!(left = self.store_tasks.len(), "some connections to the store did not end in time");
        }
    }
}

/// Compares caches with the store until the task is ended.
async fn check(storage: Arc<Storage>, clock: SharedClock) {
    loop {
        clock.sleep(CHECK).await;
        if let Err(err) = storage.check().await {
            warn!(error = %err, "cannot compare the watch caches with the store");
        }
    }
}

/// What of the data directory and the store must not be seen by others.
struct Secrets {
    pki: Pki,
    encryption: Encryption,
    encryption_text: Option<String>,
    /// The revision at which servers that share the encryption have it like this.
    shared_at: Option<u64>,
}

impl Secrets {
    /// With the token that there is, or with one that was to take its place when the last process ended.
    async fn open_with(
        config: &ServerConfig,
        store: &Store,
        token: Token,
        clock: &SharedClock,
    ) -> Result<(Self, Token), Error> {
        match Self::open(config, store, &token, clock).await {
            Err(Error::WrongToken) if config.token.is_none() => {
                let coming = token_rotation::is_coming(&config.token_file())?.ok_or(Error::WrongToken)?;
                Ok((Self::open(config, store, &coming, clock).await?, coming))
            }
            opened => Ok((opened?, token)),
        }
    }

    async fn open(config: &ServerConfig, store: &Store, token: &Token, clock: &SharedClock) -> Result<Self, Error> {
        let path = encryption::path_of(&config.data_dir);
        let wanted = config.secrets_encryption && config.encryption_config.is_none();
        let own = || encryption::at_start(&path, None, wanted);
        let (pki, text, shared_at) = if store.is_shared() {
            let (pki, identity, revision) =
                identity::share(&*store.kv, &config.tls_dir(), token, own, now(clock)).await?;
            // Without a configuration in the store, one that is left here from another time names keys that no other
            // server knows.
            let shared = identity.encryption.as_deref();
            if wanted && shared.is_none() {
                warn!(
                    "--secrets-encryption is for new clusters; this one is changed with `kedge secrets-encrypt enable`"
                );
            }
            let text = shared.map(|text| encryption::at_start(&path, Some(text), false)).transpose()?.flatten();
            (pki, text, Some(revision))
        } else {
            let dir = config.tls_dir();
            if kedge_certs::shared::take_waiting(&dir, now(clock))? {
                info!(dir = %dir.display(), "this server uses other authorities now; those before are copied beside them");
            }
            (Pki::open(&dir, now(clock))?, own()?, None)
        };
        if let Some(file) = &config.encryption_config {
            return Ok(Self { pki, encryption: encryption::from_file(file)?, encryption_text: None, shared_at: None });
        }
        let encryption = encryption::encryption(&path, text.as_deref())?;
        Ok(Self { pki, encryption, encryption_text: text, shared_at })
    }
}

/// The time, as certificates take it.
pub(crate) fn now(clock: &SharedClock) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(clock.now().as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}
