//! What the runtime tells the plug-in: configuration on standard input, the rest in the environment.
//!
//! Invariant: past this module names and paths are harmless: a container id cannot leave its
//! directory, and an interface name is one the kernel takes.

use crate::Settings;
use crate::error::CniError;
use crate::net::Ipv4Net;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The versions of the specification that this plug-in speaks, oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The most host ports of one pod.
const MAX_PORT_MAPPINGS: usize = 1024;

/// The network configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// Which version the answer has to have.
    #[serde(default = "oldest")]
    pub cni_version: String,
    /// The plug-in that is meant; `loopback` is served as well.
    #[serde(default)]
    pub r#type: String,
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<Ipv4Net>,
    #[serde(default, rename = "clusterCIDR")]
    cluster_cidr: Option<Ipv4Net>,
    #[serde(default, rename = "serviceCIDR")]
    service_cidr: Option<Ipv4Net>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    data_dir: Option<PathBuf>,
    /// What differs from pod to pod.
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    /// GC: the attachments that are still in use.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Vec<Attachment>,
}

fn oldest() -> String {
    "0.3.0".to_owned()
}

/// What differs from pod to pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeConfig {
    /// The pod's host ports.
    pub port_mappings: Vec<PortMapping>,
}

/// One interface of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    /// The node's port.
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    /// The pod's port.
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(alias = "Protocol")]
    pub protocol: String,
    /// Which of the node's addresses; empty or 0.0.0.0 for all.
    #[serde(rename = "hostIP", alias = "HostIP")]
    pub host_ip: String,
}

impl PortMapping {
    /// The one address the port is limited to, if it is.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.host_ip.parse().ok().filter(|ip: &Ipv4Addr| !ip.is_unspecified())
    }

    /// Whether this is a mapping of IPv4; others are not served.
    fn is_ipv4(&self) -> bool {
        self.host_ip.is_empty() || self.host_ip.parse::<Ipv4Addr>().is_ok()
    }

    fn normalize(&mut self) -> Result<(), CniError> {
        self.protocol.make_ascii_lowercase();
        if self.protocol.is_empty() {
            self.protocol.push_str("tcp");
        }
        if !matches!(self.protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(CniError::Config(format!("portMappings: protocol {:?}", self.protocol)));
        }
        if self.container_port == 0 {
            return Err(CniError::Config("portMappings: containerPort 0".to_owned()));
        }
        Ok(())
    }
}

impl NetConf {
    /// Decodes and judges what came on standard input.
    ///
    /// # Errors
    /// When it is no JSON, of an unknown version, or malformed.
    pub fn parse(input: &[u8]) -> Result<Self, CniError> {
        let mut conf: Self = serde_json::from_slice(input).map_err(|error| CniError::Decode(error.to_string()))?;
        if !VERSIONS.contains(&conf.cni_version.as_str()) {
            return Err(CniError::IncompatibleVersion(conf.cni_version));
        }
        let mappings = &mut conf.runtime_config.port_mappings;
        if mappings.len() > MAX_PORT_MAPPINGS {
            return Err(CniError::Config(format!("more than {MAX_PORT_MAPPINGS} portMappings")));
        }
        // Containers list ports without a host port, too; they are no business of ours.
        mappings.retain(|mapping| mapping.host_port != 0 && mapping.is_ipv4());
        mappings.iter_mut().try_for_each(PortMapping::normalize)?;
        Ok(conf)
    }

    /// The part that is the same for all pods.
    ///
    /// # Errors
    /// When a needed field is missing.
    pub fn settings(&self) -> Result<Settings, CniError> {
        let missing = |field: &str| CniError::Config(format!("{field} is missing"));
        let pod_cidr = self.pod_cidr.ok_or_else(|| missing("podCIDR"))?;
        let data_dir = self.data_dir.clone().ok_or_else(|| missing("dataDir"))?;
        if !data_dir.is_absolute() {
            return Err(CniError::Config(format!("dataDir {data_dir:?} is not absolute")));
        }
        Ok(Settings {
            pod_cidr,
            cluster_cidr: self.cluster_cidr.unwrap_or(pod_cidr),
            service_cidr: self.service_cidr,
            mtu: self.mtu.filter(|mtu| *mtu >= 68).unwrap_or(1500),
            data_dir,
        })
    }
}

/// The part of the environment that says which interface of which container is meant.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The sandbox.
    pub container_id: String,
    /// The interface inside, such as `eth0`.
    pub ifname: String,
    /// The path of the network namespace; DEL can come without one.
    pub netns: Option<PathBuf>,
    /// `namespace/name` of the pod, for people who read the records.
    pub pod: String,
}

impl Invocation {
    /// Reads the variables through `get`.
    ///
    /// # Errors
    /// When one is missing or malformed.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let container_id = required(&get, "CNI_CONTAINERID")?;
        if !is_container_id(&container_id) {
            return Err(malformed("CNI_CONTAINERID", &container_id));
        }
        let ifname = required(&get, "CNI_IFNAME")?;
        if !is_ifname(&ifname) {
            return Err(malformed("CNI_IFNAME", &ifname));
        }
        let netns = get("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        let args = get("CNI_ARGS").unwrap_or_default();
        let arg = |name: &str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value).unwrap_or_default()
        };
        let pod = format!("{}/{}", arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME"));
        Ok(Self { container_id, ifname, netns, pod })
    }

    /// The network namespace, where the command cannot do without.
    pub(crate) fn require_netns(&self) -> Result<&PathBuf, CniError> {
        let missing = || CniError::Environment { name: "CNI_NETNS", problem: "is not set".to_owned() };
        self.netns.as_ref().ok_or_else(missing)
    }
}

fn required(get: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<String, CniError> {
    let value = get(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| CniError::Environment { name, problem: "is not set".to_owned() })
}

fn malformed(name: &'static str, value: &str) -> CniError {
    CniError::Environment { name, problem: format!("is malformed: {value:?}") }
}

fn is_container_id(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_ifname(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn conf(extra: &str) -> Result<NetConf, CniError> {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"kedge","type":"kedge-cni","podCIDR":"10.42.0.0/24","dataDir":"/d"{extra}}}"#
        );
        NetConf::parse(text.as_bytes())
    }

    #[test]
    fn what_config_list_writes_is_what_is_read() {
        let settings = conf(r#","mtu":1450"#).unwrap().settings().unwrap();
        let list: serde_json::Value = serde_json::from_str(&crate::config_list(&settings)).unwrap();
        let mut plugin = list["plugins"][0].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        let read = NetConf::parse(plugin.to_string().as_bytes()).unwrap();
        assert_eq!(read.settings().unwrap(), settings);
    }

    #[test]
    fn port_mappings_are_normalized_and_judged() {
        let mappings = |text: &str| conf(&format!(r#","runtimeConfig":{{"portMappings":[{text}]}}"#));
        let got = mappings(
            r#"{"hostPort":8080,"containerPort":80,"protocol":"TCP","hostIP":""},
               {"hostPort":0,"containerPort":81},
               {"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"::1"}"#,
        );
        let got = got.unwrap().runtime_config.port_mappings;
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].protocol.as_str(), got[0].address()), ("tcp", None));
        assert!(mappings(r#"{"hostPort":1,"containerPort":1,"protocol":"x } flush ruleset"}"#).is_err());
    }

    /// containerd writes the names of Go's fields, which Go reads in whatever case: no pod ever got its host ports.
    #[test]
    fn port_mappings_are_read_as_containerd_writes_them() {
        let text = r#","runtimeConfig":{"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"udp","HostIP":"10.0.0.1"}]}"#;
        let got = conf(text).unwrap().runtime_config.port_mappings;
        let port =
            PortMapping { host_port: 8080, container_port: 80, protocol: "udp".into(), host_ip: "10.0.0.1".into() };
        assert_eq!(got, [port]);
    }

    #[test]
    fn unknown_versions_and_missing_fields_are_refused() {
        let error = NetConf::parse(br#"{"cniVersion":"9.9.9"}"#).unwrap_err();
        assert_eq!(error.code(), 1);
        assert_eq!(NetConf::parse(b"{").unwrap_err().code(), 6);
        let conf = NetConf::parse(br#"{"cniVersion":"1.0.0"}"#).unwrap();
        assert_eq!(conf.settings().unwrap_err().code(), 7);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let read = |id: &str, ifname: &str| {
            let (id, ifname) = (id.to_owned(), ifname.to_owned());
            Invocation::read(move |name| match name {
                "CNI_CONTAINERID" => Some(id.clone()),
                "CNI_IFNAME" => Some(ifname.clone()),
                "CNI_ARGS" => Some("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web".to_owned()),
                _ => None,
            })
        };
        assert_eq!(read("abc", "eth0").unwrap().pod, "ns/web");
        for (id, ifname) in [("../x", "eth0"), ("", "eth0"), ("abc", "a/b"), ("abc", "sixteen-letters-")] {
            assert_eq!(read(id, ifname).unwrap_err().code(), 4, "{id} {ifname}");
        }
    }
}
