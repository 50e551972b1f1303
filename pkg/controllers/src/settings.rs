//! Settings of the controllers, `--kube-controller-manager-arg`, with the names that upstream's controller manager has as flags.
//!
//! Invariant: what has an effect here takes it, what would have one elsewhere is told to have none, and what upstream refuses is refused
//! in its words.

use std::collections::BTreeMap;
use std::time::Duration;

use kedge_base::time::go_duration;

use crate::horizontalpodautoscaler::Settings as AutoscalerSettings;
use crate::selection::{Selection, UnknownController};

/// What is set of the controllers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub(crate) selection: Selection,
    /// Workers of a queue, by its name.
    workers: BTreeMap<&'static str, usize>,
    pub(crate) autoscalers: AutoscalerSettings,
    pub(crate) nodes: NodeSettings,
    /// Pods that have ended and may stay; all of them, when it is zero.
    pub(crate) terminated_pods: usize,
    /// The longest life of certificates that are signed.
    pub(crate) signing: Duration,
    /// Whether what nobody owns any more is deleted.
    pub(crate) garbage_collector: bool,
}

/// What is set of the controllers of nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// How long a node may be silent.
    pub monitor_grace: Duration,
    /// How long a new node may take until it speaks first.
    pub startup_grace: Duration,
    /// Nodes of a healthy zone that are emptied in a second.
    pub eviction_rate: f64,
    /// The same of a zone that is not.
    pub secondary_eviction_rate: f64,
    /// Nodes up to which an unhealthy zone is not emptied at all.
    pub large_cluster: usize,
    /// The share of nodes that makes a zone unhealthy.
    pub unhealthy_zone: f64,
    /// Bits of the range of a node, where all nodes have one.
    pub mask: Option<u8>,
    /// The same of each family.
    pub mask_ipv4: Option<u8>,
    pub mask_ipv6: Option<u8>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            monitor_grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
            eviction_rate: 0.1,
            secondary_eviction_rate: 0.01,
            large_cluster: 50,
            unhealthy_zone: 0.55,
            mask: None,
            mask_ipv4: None,
            mask_ipv6: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            workers: BTreeMap::new(),
            autoscalers: AutoscalerSettings::default(),
            nodes: NodeSettings::default(),
            terminated_pods: 12_500,
            signing: Duration::from_secs(365 * 24 * 3600),
            garbage_collector: true,
        }
    }
}

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("--kube-controller-manager-arg: unknown flag: --{0}")]
    Unknown(String),
    #[error("--kube-controller-manager-arg: invalid argument {value:?} for \"--{name}\" flag: {why}")]
    Invalid { name: String, value: String, why: String },
    #[error("--kube-controller-manager-arg: {0}")]
    Masks(&'static str),
    #[error("--kube-controller-manager-arg controllers: {0}")]
    Controller(#[from] UnknownController),
}

/// Most workers of one queue.
const MOST_WORKERS: usize = 1_000;

/// Queues by the flag that sets how many workers they have.
const WORKERS: [(&str, &[&str]); 21] = [
    ("concurrent-cron-job-syncs", &["cronjob"]),
    ("concurrent-daemonset-syncs", &["daemonset"]),
    ("concurrent-deployment-syncs", &["deployment"]),
    ("concurrent-device-taint-eviction-syncs", &["device-taint-eviction"]),
    ("concurrent-endpoint-syncs", &["endpoints"]),
    ("concurrent-ephemeralvolume-syncs", &["ephemeral-volume"]),
    ("concurrent-gc-syncs", &["garbage-collector"]),
    ("concurrent-horizontal-pod-autoscaler-syncs", &["horizontalpodautoscaler"]),
    ("concurrent-job-syncs", &["job", "job-orphans"]),
    ("concurrent-namespace-syncs", &["namespace"]),
    ("concurrent-replicaset-syncs", &["replicaset"]),
    ("concurrent-resource-quota-syncs", &["resourcequota"]),
    ("concurrent-resourceclaim-syncs", &["resourceclaim"]),
    ("concurrent-service-endpoint-syncs", &["endpointslice"]),
    ("concurrent-serviceaccount-token-syncs", &["serviceaccount-tokens"]),
    ("concurrent-statefulset-syncs", &["statefulset"]),
    ("concurrent-ttl-after-finished-syncs", &["ttl-after-finished"]),
    ("concurrent-validating-admission-policy-status-syncs", &["validatingadmissionpolicy-status"]),
    ("concurrent_rc_syncs", &["replicationcontroller"]),
    ("concurrent-rc-syncs", &["replicationcontroller"]),
    ("mirroring-concurrent-service-endpoint-syncs", &["endpointslice-mirroring"]),
];

/// Flags of upstream that change nothing here: what they are about is done by the server as a whole, at once, or not at all.
const WITHOUT_EFFECT: &[&str] = &[
    "allocate-node-cidrs",
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "attach-detach-reconcile-sync-period",
    "authentication-kubeconfig",
    "authentication-skip-lookup",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure",
    "authorization-always-allow-paths",
    "authorization-kubeconfig",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "bind-address",
    "cert-dir",
    "cidr-allocator-type",
    "client-ca-file",
    "cloud-config",
    "cloud-provider",
    "cluster-cidr",
    "cluster-name",
    "cluster-signing-cert-file",
    "cluster-signing-key-file",
    "cluster-signing-kube-apiserver-client-cert-file",
    "cluster-signing-kube-apiserver-client-key-file",
    "cluster-signing-kubelet-client-cert-file",
    "cluster-signing-kubelet-client-key-file",
    "cluster-signing-kubelet-serving-cert-file",
    "cluster-signing-kubelet-serving-key-file",
    "cluster-signing-legacy-unknown-cert-file",
    "cluster-signing-legacy-unknown-key-file",
    "concurrent-service-syncs",
    "configure-cloud-routes",
    "contention-profiling",
    "controller-start-interval",
    "disable-attach-detach-reconcile-sync",
    "disable-force-detach-on-timeout",
    "disable-http2-serving",
    "disabled-metrics",
    "emulated-version",
    "emulation-forward-compatible",
    "enable-dynamic-provisioning",
    "enable-hostpath-provisioner",
    "enable-leader-migration",
    "endpoint-updates-batch-period",
    "endpointslice-updates-batch-period",
    "external-cloud-volume-plugin",
    "feature-gates",
    "flex-volume-plugin-dir",
    "http2-max-streams-per-connection",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "kubeconfig",
    "leader-elect",
    "leader-elect-lease-duration",
    "leader-elect-renew-deadline",
    "leader-elect-resource-lock",
    "leader-elect-resource-name",
    "leader-elect-resource-namespace",
    "leader-elect-retry-period",
    "leader-migration-config",
    "legacy-service-account-token-clean-up-period",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "logging-format",
    "master",
    "max-endpoints-per-slice",
    "min-resync-period",
    "mirroring-endpointslice-updates-batch-period",
    "mirroring-max-endpoints-per-subset",
    "namespace-sync-period",
    "node-monitor-period",
    "node-sync-period",
    "permit-address-sharing",
    "permit-port-sharing",
    "profiling",
    "pv-recycler-increment-timeout-nfs",
    "pv-recycler-minimum-timeout-hostpath",
    "pv-recycler-minimum-timeout-nfs",
    "pv-recycler-pod-template-filepath-hostpath",
    "pv-recycler-pod-template-filepath-nfs",
    "pv-recycler-timeout-increment-hostpath",
    "pvclaimbinder-sync-period",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-uid-headers",
    "requestheader-username-headers",
    "resource-quota-sync-period",
    "root-ca-file",
    "route-reconciliation-period",
    "secure-port",
    "service-account-private-key-file",
    "service-cluster-ip-range",
    "show-hidden-metrics-for-version",
    "tls-cert-file",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-private-key-file",
    "tls-sni-cert-key",
    "use-service-account-credentials",
    "v",
    "vmodule",
];

impl NodeSettings {
    /// How many bits the ranges of nodes have, of each range of the cluster.
    ///
    /// # Errors
    /// When what is set does not fit the families of the ranges, in upstream's words.
    pub fn masks(&self, ipv6: &[bool]) -> Result<Vec<u8>, SettingsError> {
        let refuse = |why| Err(SettingsError::Masks(why));
        let both = ipv6.len() > 1;
        match self.mask {
            Some(_) if both => return refuse("usage of --node-cidr-mask-size is not allowed with dual-stack clusters"),
            Some(_) if self.mask_ipv4.or(self.mask_ipv6).is_some() => {
                return refuse(
                    "usage of --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if --node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags",
                );
            }
            Some(mask) => return Ok(ipv6.iter().map(|_| mask).collect()),
            None => {}
        }
        if !both && ipv6.first() == Some(&true) && self.mask_ipv4.is_some() {
            return refuse("usage of --node-cidr-mask-size-ipv4 is not allowed for a single-stack IPv6 cluster");
        }
        if !both && ipv6.first() == Some(&false) && self.mask_ipv4.is_none() && self.mask_ipv6.is_some() {
            return refuse("usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster");
        }
        let of = |ipv6: &bool| if *ipv6 { self.mask_ipv6.unwrap_or(64) } else { self.mask_ipv4.unwrap_or(24) };
        Ok(ipv6.iter().map(of).collect())
    }
}

impl Settings {
    /// Reads settings of the form `NAME=VALUE`, the last of a name being the one that counts. Returns the names of those that have no
    /// effect, too.
    ///
    /// # Errors
    /// Which is unknown, or what is wrong with its value.
    pub fn parse(args: &[String]) -> Result<(Self, Vec<String>), SettingsError> {
        let (mut settings, mut idle) = (Self::default(), Vec::new());
        let mut controllers: Option<Vec<String>> = None;
        for arg in args {
            let arg = arg.trim_start_matches('-');
            let (name, value) = arg.split_once('=').unwrap_or((arg, "true"));
            let invalid = |why: String| SettingsError::Invalid { name: name.to_owned(), value: value.to_owned(), why };
            if name == "controllers" {
                let names = value.split(',').map(str::to_owned);
                controllers.get_or_insert_default().extend(names);
            } else if let Some((_, queues)) = WORKERS.iter().find(|(flag, _)| *flag == name) {
                let count: usize = value.parse().map_err(|err| invalid(format!("{err}")))?;
                if !(1..=MOST_WORKERS).contains(&count) {
                    return Err(invalid(format!("it lies not between 1 and {MOST_WORKERS}")));
                }
                settings.workers.extend(queues.iter().map(|queue| (*queue, count)));
            } else if WITHOUT_EFFECT.contains(&name) {
                idle.push(name.to_owned());
            } else if !settings.set(name, value).map_err(invalid)? {
                return Err(SettingsError::Unknown(name.to_owned()));
            }
        }
        if let Some(names) = controllers {
            settings.selection = Selection::parse(&names)?;
        }
        Ok((settings, idle))
    }

    /// Whether there is such a setting.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let (scaling, nodes) = (&mut self.autoscalers, &mut self.nodes);
        match name {
            "horizontal-pod-autoscaler-sync-period" => scaling.sync_period = positive(value)?,
            "horizontal-pod-autoscaler-downscale-stabilization" => scaling.downscale_stabilization = duration(value)?,
            "horizontal-pod-autoscaler-tolerance" => scaling.tolerance = share(value)?,
            "horizontal-pod-autoscaler-cpu-initialization-period" => {
                scaling.cpu_initialization_period = duration(value)?;
            }
            "horizontal-pod-autoscaler-initial-readiness-delay" => scaling.initial_readiness_delay = duration(value)?,
            "node-monitor-grace-period" => nodes.monitor_grace = positive(value)?,
            "node-startup-grace-period" => nodes.startup_grace = positive(value)?,
            "node-eviction-rate" => nodes.eviction_rate = share(value)?,
            "secondary-node-eviction-rate" => nodes.secondary_eviction_rate = share(value)?,
            "large-cluster-size-threshold" => nodes.large_cluster = whole(value)?,
            "unhealthy-zone-threshold" => nodes.unhealthy_zone = share(value)?,
            "node-cidr-mask-size" => nodes.mask = Some(bits(value, 128)?),
            "node-cidr-mask-size-ipv4" => nodes.mask_ipv4 = Some(bits(value, 32)?),
            "node-cidr-mask-size-ipv6" => nodes.mask_ipv6 = Some(bits(value, 128)?),
            "terminated-pod-gc-threshold" => {
                let count: i64 = value.parse().map_err(|err| format!("{err}"))?;
                self.terminated_pods = usize::try_from(count).unwrap_or_default();
            }
            "cluster-signing-duration" => self.signing = positive(value)?,
            "enable-garbage-collector" => {
                self.garbage_collector = value.parse().map_err(|err| format!("{err}"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a controller runs, by its name.
    pub fn runs(&self, controller: &str) -> bool {
        self.selection.has(controller)
    }

    /// How many workers a queue has, which has `usual` when nobody says.
    pub(crate) fn workers(&self, queue: &str, usual: usize) -> usize {
        self.workers.get(queue).copied().unwrap_or(usual)
    }
}

fn duration(value: &str) -> Result<Duration, String> {
    go_duration(value).ok_or_else(|| format!("time: invalid duration {value:?}"))
}

fn positive(value: &str) -> Result<Duration, String> {
    duration(value).and_then(|d| if d.is_zero() { Err("it must be greater than 0".to_owned()) } else { Ok(d) })
}

fn whole(value: &str) -> Result<usize, String> {
    value.parse().map_err(|err| format!("{err}"))
}

fn share(value: &str) -> Result<f64, String> {
    let number: f64 = value.parse().map_err(|err| format!("{err}"))?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("it must be 0 or more".to_owned()) }
}

fn bits(value: &str, most: u8) -> Result<u8, String> {
    let bits: u8 = value.parse().map_err(|err| format!("{err}"))?;
    if (1..=most).contains(&bits) { Ok(bits) } else { Err(format!("it lies not between 1 and {most}")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(args: &[&str]) -> Result<(Settings, Vec<String>), SettingsError> {
        Settings::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_has_an_effect_takes_it() {
        let (settings, idle) = parse(&[
            "horizontal-pod-autoscaler-sync-period=1s",
            "--horizontal-pod-autoscaler-tolerance=0.2",
            "node-monitor-grace-period=20s",
            "node-monitor-grace-period=30s",
            "terminated-pod-gc-threshold=10",
            "concurrent-job-syncs=9",
            "node-cidr-mask-size=25",
            "leader-elect=false",
            "profiling",
        ])
        .unwrap();
        assert_eq!(settings.autoscalers.sync_period, Duration::from_secs(1));
        assert!((settings.autoscalers.tolerance - 0.2).abs() < 1e-9);
        assert_eq!(settings.nodes.monitor_grace, Duration::from_secs(30));
        assert_eq!((settings.terminated_pods, settings.nodes.mask), (10, Some(25)));
        assert_eq!((settings.workers("job", 5), settings.workers("cronjob", 5)), (9, 5));
        assert_eq!(idle, ["leader-elect", "profiling"]);
        assert_eq!(parse(&[]).unwrap().0, Settings::default());
    }

    #[test]
    fn ranges_of_nodes_have_the_bits_of_their_family() {
        let masks = |args: &[&str], ipv6: &[bool]| parse(args).unwrap().0.nodes.masks(ipv6).ok();
        assert_eq!(masks(&[], &[false, true]), Some(vec![24, 64]));
        assert_eq!(masks(&["node-cidr-mask-size=26"], &[false]), Some(vec![26]));
        assert_eq!(masks(&["node-cidr-mask-size=26"], &[false, true]), None);
        assert_eq!(
            masks(&["node-cidr-mask-size-ipv4=26", "node-cidr-mask-size-ipv6=80"], &[true, false]),
            Some(vec![80, 26])
        );
        assert_eq!(masks(&["node-cidr-mask-size=26", "node-cidr-mask-size-ipv4=26"], &[false]), None);
        assert_eq!(masks(&["node-cidr-mask-size-ipv4=26"], &[true]), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (arg, wanted) in [
            ("pod-eviction-timeout=5m", "unknown flag: --pod-eviction-timeout"),
            ("--nonsense", "unknown flag: --nonsense"),
            (
                "node-monitor-grace-period=soon",
                "invalid argument \"soon\" for \"--node-monitor-grace-period\" flag: time: invalid duration \"soon\"",
            ),
            ("horizontal-pod-autoscaler-sync-period=0s", "greater than 0"),
            ("concurrent-gc-syncs=0", "between 1 and 1000"),
            ("node-cidr-mask-size-ipv4=33", "between 1 and 32"),
            ("unhealthy-zone-threshold=NaN", "0 or more"),
            ("controllers=*,-red-controller", "\"red-controller\" is not in the list of known controllers"),
        ] {
            let why = parse(&[arg]).unwrap_err().to_string();
            assert!(why.starts_with("--kube-controller-manager-arg") && why.contains(wanted), "{arg}: {why}");
        }
    }

    #[test]
    fn no_flag_is_in_two_lists() {
        let mut names: Vec<&str> = WITHOUT_EFFECT.iter().copied().chain(WORKERS.map(|(name, _)| name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !Settings::default().set(name, "1").unwrap()));
    }
}
