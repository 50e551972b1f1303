//! The commands and their flags.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::api_args::ApiServerArgs;
use crate::certificate_flags::CertificateFlags;
use crate::store_flags::{DatastoreFlags, EtcdSnapshotFlags, SecretsEncryptFlags, StoreFlags, TokenFlags};
use crate::token_command::TokenCommandFlags;
use crate::values::{FileMode, PodCidr, PortRange, ServiceCidrs};

/// A Kubernetes distribution in one small binary.
#[derive(Debug, Parser)]
#[command(name = "kedge", version, about, arg_required_else_help = true)]
pub struct Kedge {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the control plane, and a node unless --disable-agent is given.
    Server(Box<ServerFlags>),
    /// Save, list and remove snapshots of the store; the files are etcd's.
    EtcdSnapshot(EtcdSnapshotFlags),
    /// Show and change the encryption of secrets at rest on a running server.
    SecretsEncrypt(SecretsEncryptFlags),
    /// Show and renew the certificates of a server.
    Certificate(CertificateFlags),
    /// Look into the embedded store, or move it.
    Store(StoreFlags),
    /// Make, list and delete bootstrap tokens on a running server, and rotate its own token.
    Token(TokenCommandFlags),
    /// Say what this host lacks for running a node.
    CheckConfig,
    /// Remove what nodes leave in the kernel: packet filter tables, links and mounts. Pods must be stopped.
    Cleanup {
        /// Where data is kept.
        #[arg(long, short = 'd', env = "KEDGE_DATA_DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Act as the container network plug-in; used by the container runtime.
    #[command(hide = true)]
    Cni,
}

/// Flags of `kedge server`; each is also a key of the configuration file.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct ServerFlags {
    /// Configuration file; its keys are the names of these flags.
    #[arg(long, short = 'c', env = "KEDGE_CONFIG_FILE", value_name = "FILE", default_value = "/etc/kedge/config.yaml")]
    pub config: PathBuf,
    /// Log more.
    #[arg(long, env = "KEDGE_DEBUG", num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true)]
    pub debug: bool,
    /// Where data is kept [default: /var/lib/kedge, or ~/.kedge when not root]
    #[arg(long, short = 'd', env = "KEDGE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address that the API listens on.
    #[arg(long, default_value = "0.0.0.0", help_heading = "Listener")]
    pub bind_address: IpAddr,
    /// Port that the API listens on.
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Listener")]
    pub https_listen_port: u16,
    /// Address at which others in the cluster reach the API [default: the node's address]
    #[arg(long, help_heading = "Listener")]
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses for the API's certificate.
    #[arg(long, value_delimiter = ',', value_name = "NAME", help_heading = "Listener")]
    pub tls_san: Vec<String>,

    /// Addresses of pods.
    #[arg(long, default_value = "10.42.0.0/16", help_heading = "Networking")]
    pub cluster_cidr: PodCidr,
    /// Addresses of services: a range, or one of each family, the first being the one that services have when they do not say.
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR[,CIDR]", help_heading = "Networking")]
    pub service_cidr: ServiceCidrs,
    /// Address of the cluster's DNS; must lie in a service range [default: the tenth of the IPv4 range, or of the only one]
    #[arg(long, help_heading = "Networking")]
    pub cluster_dns: Option<IpAddr>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local", help_heading = "Networking")]
    pub cluster_domain: String,
    /// Ports for NodePort services.
    #[arg(long, default_value = "30000-32767", help_heading = "Networking")]
    pub service_node_port_range: PortRange,

    /// Where the administrator's kubeconfig is written [default: /etc/kedge/kedge.yaml, or in the data directory when not root]
    #[arg(long, short = 'o', env = "KEDGE_KUBECONFIG_OUTPUT", value_name = "FILE", help_heading = "Client")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Mode of that file.
    #[arg(long, env = "KEDGE_KUBECONFIG_MODE", default_value = "0600", help_heading = "Client")]
    pub write_kubeconfig_mode: FileMode,

    #[command(flatten)]
    pub token: TokenFlags,
    /// Replace the embedded store by a snapshot, and end; see --cluster-reset-restore-path.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Cluster")]
    pub cluster_reset: bool,
    /// The snapshot that --cluster-reset restores.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub cluster_reset_restore_path: Option<PathBuf>,

    #[command(flatten)]
    pub datastore: DatastoreFlags,
    /// Encrypt secrets at rest, from the first start on; see also `kedge secrets-encrypt`.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Store")]
    pub secrets_encryption: bool,
    /// Serve the embedded store over etcd's API: unix:///path, or https://address:port for clients with a certificate.
    #[arg(long, value_name = "ENDPOINT", help_heading = "Store")]
    pub etcd_listen: Option<String>,
    /// Save no snapshots on schedule.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Store")]
    pub etcd_disable_snapshots: bool,
    /// When snapshots of the embedded store are saved, as a cron expression in UTC.
    #[arg(long, value_name = "CRON", default_value = "0 */12 * * *", help_heading = "Store")]
    pub etcd_snapshot_schedule_cron: String,
    /// How many of them are kept.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Store")]
    pub etcd_snapshot_retention: u32,
    /// Where snapshots are kept [default: server/db/snapshots in the data directory]
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub etcd_snapshot_dir: Option<PathBuf>,
    /// Setting of the API server, such as enable-admission-plugins=NAME or max-requests-inflight=COUNT; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Components")]
    pub kube_apiserver_arg: Vec<String>,

    /// Setting of the controllers, such as controllers=*,-NAME or node-monitor-grace-period=30s; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Components")]
    pub kube_controller_manager_arg: Vec<String>,

    /// Parts not to run: dns, local-storage, metrics-server.
    #[arg(long, value_delimiter = ',', value_parser = ["dns", "local-storage", "metrics-server"], help_heading = "Components")]
    pub disable: Vec<String>,
    /// Where nodes keep volumes of the storage class local-path [default: storage in the data directory]
    #[arg(long, value_name = "DIR", help_heading = "Components")]
    pub default_local_storage_path: Option<PathBuf>,
    /// Run no scheduler.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Components")]
    pub disable_scheduler: bool,
    /// Run no controllers; what they do is left undone, or to a controller manager of your own.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Components")]
    pub disable_controller_manager: bool,
    /// Run no service proxy.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Components")]
    pub disable_kube_proxy: bool,
    /// Run the control plane alone.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, help_heading = "Components")]
    pub disable_agent: bool,

    /// Name of this node [default: the host name]
    #[arg(long, env = "KEDGE_NODE_NAME", help_heading = "Node")]
    pub node_name: Option<String>,
    /// Labels of this node at its registration.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE", help_heading = "Node")]
    pub node_label: Vec<String>,
    /// Taints of this node at its registration.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE:EFFECT", help_heading = "Node")]
    pub node_taint: Vec<String>,
    /// Address of this node [default: that of the default route]
    #[arg(long, help_heading = "Node")]
    pub node_ip: Option<IpAddr>,
    /// Use this container runtime instead of starting one.
    #[arg(long, value_name = "SOCKET", help_heading = "Node")]
    pub container_runtime_endpoint: Option<String>,
    /// Where names outside the cluster are resolved [default: /etc/resolv.conf]
    #[arg(long, env = "KEDGE_RESOLV_CONF", value_name = "FILE", help_heading = "Node")]
    pub resolv_conf: Option<PathBuf>,
    /// The image of pod sandboxes; the default is built in.
    #[arg(long, value_name = "IMAGE", help_heading = "Node")]
    pub pause_image: Option<String>,
    /// Setting of the kubelet, such as eviction-hard=nodefs.available<5%; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Node")]
    pub kubelet_arg: Vec<String>,
    /// Port of this node's kubelet.
    #[arg(long, default_value_t = 10250, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Node")]
    pub kubelet_port: u16,
}

impl ServerFlags {
    /// Checks what concerns several flags.
    ///
    /// # Errors
    /// What is wrong, naming the flags.
    pub fn check(&self) -> Result<(), String> {
        let (dns, services) = (self.cluster_dns(), &self.service_cidr);
        let Some(range) = services.0.iter().find(|range| range.contains(dns)) else {
            return Err(format!("--cluster-dns {dns} does not lie in --service-cidr {services}"));
        };
        if [range.nth(0), range.nth(1)].contains(&Some(dns)) {
            let free = "which no service can have, or which the service kubernetes has";
            return Err(format!(
                "--cluster-dns {dns} is one of the first two addresses of --service-cidr {services}, {free}"
            ));
        }
        if services.0.iter().any(|range| range.overlaps(&self.cluster_cidr.0)) {
            return Err(format!("--cluster-cidr {} overlaps --service-cidr {}", self.cluster_cidr, self.service_cidr));
        }
        if self.cluster_reset != self.cluster_reset_restore_path.is_some() {
            return Err("--cluster-reset and --cluster-reset-restore-path are given together".into());
        }
        if let Some(path) = &self.default_local_storage_path
            && (!path.is_absolute() || path.parent().is_none() || path.to_str().is_none())
        {
            return Err(format!("--default-local-storage-path {} is no absolute path below /", path.display()));
        }
        self.api_server().check()?;
        self.token_args()?;
        let label = |text: &String| text.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        if let Some(bad) = self.node_label.iter().find(|l| !label(l)) {
            return Err(format!("--node-label {bad:?} is not of the form KEY=VALUE"));
        }
        let taint = |text: &String| {
            let effect = text.rsplit_once(':').map(|(_, effect)| effect);
            matches!(effect, Some("NoSchedule" | "PreferNoSchedule" | "NoExecute"))
        };
        if let Some(bad) = self.node_taint.iter().find(|t| !taint(t)) {
            return Err(format!(
                "--node-taint {bad:?} is not of the form KEY[=VALUE]:NoSchedule|PreferNoSchedule|NoExecute"
            ));
        }
        Ok(())
    }

    /// The address of the cluster's DNS: the one that is given, or the tenth of the services.
    pub fn cluster_dns(&self) -> IpAddr {
        // Ranges have at least sixteen addresses.
        let tenth = self.service_cidr.reachable().and_then(|range| range.nth(10));
        self.cluster_dns.or(tenth).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Settings of the API server.
    pub fn api_server(&self) -> ApiServerArgs<'_> {
        ApiServerArgs(&self.kube_apiserver_arg)
    }

    /// Whether a packaged part is to run.
    pub fn enabled(&self, part: &str) -> bool {
        !self.disable.iter().any(|d| d == part)
    }

    /// Where nodes keep the volumes of the packaged storage class; `None` without it.
    pub fn local_storage(&self) -> Option<PathBuf> {
        let path = || self.default_local_storage_path.clone().unwrap_or_else(|| self.data_dir().join("storage"));
        // A data directory may be given as it is seen from here.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        self.enabled("local-storage").then(path).map(absolute)
    }

    /// The data directory, or its default.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }

    /// Where the kubeconfig goes.
    pub fn kubeconfig(&self) -> PathBuf {
        self.write_kubeconfig.clone().unwrap_or_else(|| match is_root() {
            true => PathBuf::from("/etc/kedge/kedge.yaml"),
            false => self.data_dir().join("kedge.yaml"),
        })
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `/var/lib/kedge`, or `~/.kedge` for other users than root.
pub fn default_data_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !is_root() => PathBuf::from(home).join(".kedge"),
        _ => PathBuf::from("/var/lib/kedge"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server(args: &[&str]) -> Result<ServerFlags, String> {
        let all = ["kedge", "server"].iter().chain(args);
        let parsed = Kedge::try_parse_from(all).map_err(|e| e.to_string())?;
        let Command::Server(flags) = parsed.command else { return Err("not a server".into()) };
        flags.check()?;
        Ok(*flags)
    }

    #[test]
    fn defaults_are_those_of_k3s() {
        let flags = server(&[]).unwrap();
        assert_eq!((flags.https_listen_port, flags.cluster_dns().to_string().as_str()), (6443, "10.43.0.10"));
        assert_eq!(flags.cluster_cidr.to_string(), "10.42.0.0/16");
        assert_eq!(flags.write_kubeconfig_mode.0, 0o600);
    }

    /// The range alone was refused: the default address of the DNS did not lie in it.
    #[test]
    fn the_dns_follows_the_service_range() {
        let dns = |args: &[&str]| server(args).map(|flags| flags.cluster_dns().to_string());
        assert_eq!(dns(&["--service-cidr", "10.50.0.0/16"]).unwrap(), "10.50.0.10");
        assert_eq!(dns(&["--service-cidr", "10.50.0.16/28"]).unwrap(), "10.50.0.26");
        // Pods have IPv4 addresses only.
        assert_eq!(dns(&["--service-cidr", "fd00:43::/112,10.50.0.0/16"]).unwrap(), "10.50.0.10");
        assert_eq!(dns(&["--service-cidr", "fd00:43::/112"]).unwrap(), "fd00:43::a");
        assert_eq!(dns(&["--service-cidr", "10.50.0.0/16", "--cluster-dns", "10.50.3.3"]).unwrap(), "10.50.3.3");
    }

    #[test]
    fn settings_of_the_kubelet_add_up_and_may_hold_commas() {
        let flags = server(&["--kubelet-arg", "max-pods=5", "--kubelet-arg=eviction-hard=a<1%,b<2%"]).unwrap();
        assert_eq!(flags.kubelet_arg, ["max-pods=5", "eviction-hard=a<1%,b<2%"]);
    }

    #[test]
    fn admission_plugins_are_listed() {
        let flags = server(&[
            "--kube-apiserver-arg",
            "disable-admission-plugins=PodSecurity, LimitRanger",
            "--kube-apiserver-arg",
            "enable-admission-plugins=Priority",
        ])
        .unwrap();
        let (enable, disable) = flags.api_server().admission_plugins();
        assert_eq!((enable, disable), (vec!["Priority".into()], vec!["PodSecurity".into(), "LimitRanger".into()]));
    }

    #[test]
    fn migrations_are_switched_on_as_upstreams() {
        let on = |settings: &[&str]| {
            let args: Vec<&str> = settings.iter().flat_map(|setting| ["--kube-apiserver-arg", *setting]).collect();
            server(&args).unwrap().api_server().storage_migration()
        };
        assert!(!on(&[]));
        assert!(on(&["runtime-config=storagemigration.k8s.io/v1beta1=true"]));
        assert!(on(&["runtime-config=storagemigration.k8s.io/v1beta1"]));
        assert!(!on(&["runtime-config=storagemigration.k8s.io/v1beta1,storagemigration.k8s.io/v1beta1=false"]));
        assert!(server(&["--disable", "dns,metrics-server"]).is_ok_and(|flags| !flags.enabled("metrics-server")));
    }

    #[test]
    fn mistakes_are_named() {
        for (args, named) in [
            (vec!["--no-such-flag"], "--no-such-flag"),
            (vec!["--https-listen-port", "99999"], "99999"),
            (vec!["--cluster-cidr", "10.0.0.0"], "10.0.0.0/16"),
            (vec!["--cluster-dns", "10.99.0.10"], "--service-cidr"),
            (vec!["--service-cidr", "10.50.0.0/16", "--cluster-dns", "10.43.0.10"], "10.50.0.0/16"),
            (vec!["--cluster-dns", "10.43.0.1"], "the service kubernetes has"),
            (vec!["--service-cidr", "10.43.0.0/16,10.44.0.0/16"], "one of each family"),
            (vec!["--service-cidr", "10.43.0.0/16,fd00::/48"], "/64 to /124"),
            (vec!["--service-cidr", "10.43.0.0/16,fd00::/112,fd01::/112"], "one of each family"),
            (vec!["--cluster-cidr", "10.43.0.0/24"], "overlaps"),
            (vec!["--node-taint", "a=b"], "KEY[=VALUE]"),
            (vec!["--service-node-port-range", "5-1"], "30000-32767"),
            (vec!["--disable", "nothing"], "dns"),
            (vec!["--cluster-reset"], "--cluster-reset-restore-path"),
            (vec!["--etcd-snapshot-retention", "0"], "0"),
            (vec!["--kube-apiserver-arg", "runtime-config=api/all=true"], "storagemigration.k8s.io/v1beta1"),
            (
                vec!["--kube-apiserver-arg", "runtime-config=storagemigration.k8s.io/v1beta1=on"],
                "neither true nor false",
            ),
            (vec!["--kube-apiserver-arg", "v=3"], "encryption-provider-config"),
            (vec!["--kube-apiserver-arg", "enable-admission-plugins="], "enable-admission-plugins=NAME"),
        ] {
            let err = server(&args).unwrap_err();
            assert!(err.contains(named), "{args:?}: {err}");
        }
    }
}
