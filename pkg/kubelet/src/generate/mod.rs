//! From a pod to the CRI's sandbox and container configurations. Pure, apart from the few files named in `hosts`.

mod container;
mod dns;
mod downward;
mod env;
mod expansion;
mod hostname;
mod hosts;
mod limits;
mod sandbox;
mod security;
mod service_env;

pub(crate) use container::{ContainerParts, ImageUser, container_config, verify_run_as_non_root};
pub(crate) use dns::{HostDns, pod_dns};
pub(crate) use downward::{DownwardContext, field_value, resource_value, supports_volume_field};
pub(crate) use env::{EnvContext, environment};
pub(crate) use expansion::expand;
pub(crate) use hostname::{host_and_domain, kernel_hostname};
pub(crate) use hosts::hosts_file;
pub(crate) use limits::{Machine, container_resources, pod_resources};
pub(crate) use sandbox::{SandboxParts, sandbox_config};
pub(crate) use service_env::{SlimService, service_variables};
