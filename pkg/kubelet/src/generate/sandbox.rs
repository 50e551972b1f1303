//! The CRI configuration of a sandbox.

use k8s_openapi::api::core::v1::Pod;
use kedge_cri::v1;

use super::limits::pod_resources;
use super::security::sandbox_context;
use crate::pod::PodExt;
use crate::runtime::labels;

/// What is decided elsewhere.
pub(crate) struct SandboxParts {
    pub(crate) attempt: u32,
    /// Empty in the node's network.
    pub(crate) hostname: String,
    pub(crate) dns: v1::DnsConfig,
    pub(crate) log_directory: String,
    pub(crate) cgroup_parent: String,
}

/// The configuration.
pub(crate) fn sandbox_config(pod: &Pod, parts: SandboxParts) -> v1::PodSandboxConfig {
    let sysctls = pod.security_context().sysctls.iter().flatten();
    let linux = v1::LinuxPodSandboxConfig {
        cgroup_parent: parts.cgroup_parent,
        security_context: Some(sandbox_context(pod)),
        // The kernel's file names have slashes where the API allows either.
        sysctls: sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
        overhead: Some(v1::LinuxContainerResources::default()),
        resources: Some(pod_resources(pod)),
    };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_string(),
            uid: pod.uid().to_string(),
            namespace: pod.namespace().to_string(),
            attempt: parts.attempt,
        }),
        hostname: parts.hostname,
        log_directory: parts.log_directory,
        dns_config: Some(parts.dns),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(linux),
        windows: None,
    }
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    if pod.host_network() {
        return Vec::new();
    }
    let sidecars = pod.init_containers().iter().filter(|c| crate::pod::is_sidecar(c));
    let containers = PodExt::spec(pod).containers.iter().chain(sidecars);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
