//! What a server needs to know.

use std::net::IpAddr;
use std::path::PathBuf;

use kedge_datastore::{Endpoint, Layout, Snapshots, Tls};
use kedge_meta::Cidr;
use kedge_registry::ClusterConfig;

pub use kedge_admission::Selection as AdmissionPlugins;
pub use kedge_apiserver::InFlight;
pub use kedge_controllers::{Settings as ControllerSettings, SettingsError as ControllerSettingsError};

use crate::auditing::AuditConfig;
use crate::authorization::AuthorizationConfig;
use crate::issuers::AuthenticationConfig;

/// The settings of a server; the defaults are those of the command line.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub bind_address: IpAddr,
    pub https_port: u16,
    /// The address that clients in the cluster use.
    pub advertise_address: IpAddr,
    pub tls_sans: Vec<String>,
    /// Ranges of service addresses: one, or one of each family, the first being the one that services have when they do not say.
    pub service_cidrs: Vec<Cidr>,
    pub cluster_cidr: String,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub node_ports: (u16, u16),
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub node_name: String,
    /// Whether the built-in scheduler runs.
    pub scheduler: bool,
    /// Whether the built-in controllers run.
    pub controllers: bool,
    /// Which of them, and how.
    pub controller_settings: ControllerSettings,
    /// Whether cluster DNS runs in this cluster.
    pub dns: bool,
    /// Whether what nodes and pods use is served from here.
    pub metrics: bool,
    /// Where nodes keep the volumes of the packaged class, unless its settings say otherwise; `None` leaves that class to others.
    pub local_storage: Option<PathBuf>,
    /// Whether storage versions are migrated, and the kind that asks for it is served.
    pub storage_migration: bool,
    pub datastore: Endpoint,
    pub datastore_tls: Tls,
    /// The cluster's token, if one was given.
    pub token: Option<String>,
    /// Whether secrets of a new cluster are encrypted at rest.
    pub secrets_encryption: bool,
    /// An `EncryptionConfiguration` of the user's own, instead of the one that is managed here.
    pub encryption_config: Option<PathBuf>,
    pub tokens: TokenSettings,
    /// Admission plugins beside those that are on by default, and without some of them.
    pub admission: AdmissionPlugins,
    /// An `AdmissionConfiguration`.
    pub admission_config: Option<PathBuf>,
    /// How many requests are served at a time.
    pub in_flight: InFlight,
    pub audit: AuditConfig,
    pub authentication: AuthenticationConfig,
    pub authorization: AuthorizationConfig,
    pub snapshots: SnapshotSettings,
    /// Where the embedded store is served over etcd's API: `unix:///path` or `https://address:port`.
    pub etcd_listen: Option<String>,
}

/// How tokens of service accounts are signed and taken.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Empty for the cluster's own.
    pub issuers: Vec<String>,
    /// PEM files with the keys by which tokens are verified, beside the one that signs; empty for the cluster's own key.
    pub key_files: Vec<PathBuf>,
    /// None for the cluster's own key.
    pub signing_key_file: Option<PathBuf>,
    /// Whom tokens are for when nobody says; empty for the issuers.
    pub audiences: Vec<String>,
    /// Whether the usual tokens of pods are taken for a year.
    pub extended: bool,
    /// In seconds; who asks for more gets this.
    pub longest: Option<i64>,
}

impl Default for TokenSettings {
    /// As when nothing is said.
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            key_files: Vec::new(),
            signing_key_file: None,
            audiences: Vec::new(),
            extended: true,
            longest: None,
        }
    }
}

/// When and where snapshots are saved.
#[derive(Debug, Clone)]
pub struct SnapshotSettings {
    /// A cron expression in UTC; none for no schedule.
    pub schedule: Option<String>,
    /// How many of those on schedule are kept.
    pub retention: usize,
    /// None for the place in the data directory.
    pub dir: Option<PathBuf>,
}

impl ServerConfig {
    /// What may be shown of it, by the names of the flags: neither the token nor how the datastore is reached, which may name a
    /// password.
    pub(crate) fn shown(&self) -> Vec<(String, String)> {
        let (first, last) = self.node_ports;
        let shown = [
            ("advertise-address", self.advertise_address.to_string()),
            ("anonymous-auth", self.authentication.anonymous.to_string()),
            ("audit-log-path", self.audit.log.clone().unwrap_or_default()),
            ("authorization-config", self.shown_authorization().0),
            ("authorization-mode", self.shown_authorization().1),
            ("bind-address", self.bind_address.to_string()),
            ("cluster-cidr", self.cluster_cidr.clone()),
            ("cluster-dns", self.cluster_dns.to_string()),
            ("cluster-domain", self.cluster_domain.clone()),
            ("data-dir", self.data_dir.display().to_string()),
            ("disable-admission-plugins", self.admission.disable.join(",")),
            ("disable-controller-manager", (!self.controllers).to_string()),
            ("disable-scheduler", (!self.scheduler).to_string()),
            ("enable-admission-plugins", self.admission.enable.join(",")),
            ("enable-priority-and-fairness", self.in_flight.fairness.to_string()),
            ("https-listen-port", self.https_port.to_string()),
            ("max-mutating-requests-inflight", self.in_flight.mutating.to_string()),
            ("max-requests-inflight", self.in_flight.read_only.to_string()),
            ("node-name", self.node_name.clone()),
            ("runtime-config", format!("storagemigration.k8s.io/v1beta1={}", self.storage_migration)),
            ("secrets-encryption", self.secrets_encryption.to_string()),
            ("service-cidr", self.service_ranges().join(",")),
            ("service-node-port-range", format!("{first}-{last}")),
            ("tls-san", self.tls_sans.join(",")),
        ];
        shown.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The file of authorizers, or else their modes.
    fn shown_authorization(&self) -> (String, String) {
        let AuthorizationConfig { file, modes, .. } = &self.authorization;
        match file {
            Some(file) => (file.display().to_string(), String::new()),
            None => (String::new(), modes.join(",")),
        }
    }

    /// What this server is called among the API servers of the cluster.
    pub(crate) fn server_id(&self) -> String {
        format!("apiserver-{}", self.node_name)
    }

    /// Where certificates and keys are.
    pub fn tls_dir(&self) -> PathBuf {
        self.data_dir.join("server/tls")
    }

    /// Where the token is.
    pub fn token_file(&self) -> PathBuf {
        self.data_dir.join("server/token")
    }

    /// What the registry needs to know.
    pub fn cluster(&self) -> ClusterConfig {
        let shared = matches!(self.datastore, Endpoint::Etcd(_)) || self.etcd_listen.is_some();
        ClusterConfig { service_cidrs: self.service_cidrs.clone(), node_ports: self.node_ports, shared }
    }

    /// The groups that are served beside those that always are.
    pub(crate) fn optional_groups(&self) -> Vec<&'static str> {
        let all = [("storagemigration.k8s.io", self.storage_migration), ("metrics.k8s.io", self.metrics)];
        all.into_iter().filter(|(_, on)| *on).map(|(group, _)| group).collect()
    }

    /// Where the store and its snapshots are.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.data_dir)
    }

    /// The snapshots of this node.
    pub fn snapshot_dir(&self) -> Snapshots {
        let dir = self.snapshots.dir.clone().unwrap_or_else(|| self.layout().snapshots());
        Snapshots::new(dir, &self.node_name)
    }

    /// The ranges of service addresses as texts.
    pub fn service_ranges(&self) -> Vec<String> {
        self.service_cidrs.iter().map(ToString::to_string).collect()
    }

    /// The first address of the first service range: the service `kubernetes`.
    pub fn api_service_ip(&self) -> Option<IpAddr> {
        self.service_cidrs.first()?.nth(1)
    }
}
