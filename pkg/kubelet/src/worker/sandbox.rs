//! The sandbox of a pod: the one that is there, or a new one.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use k8s_openapi::api::core::v1::Pod;
use kedge_client::EventType;
use kedge_cri::v1;
use kedge_meta::resources;
use serde::Deserialize;
use tracing::info;

use crate::cgroups;
use crate::generate::{HostDns, SandboxParts, host_and_domain, kernel_hostname, pod_dns, sandbox_config};
use crate::kubelet::Kubelet;
use crate::logs;
use crate::pod::PodExt;
use crate::runtime::PodRuntime;
use crate::sync::Actions;

/// What the kubelet reads of a RuntimeClass.
#[derive(Deserialize)]
struct RuntimeClass {
    handler: String,
}

/// The sandbox's id, the configuration it was or would be made from, and its addresses.
///
/// # Errors
/// A message; events are already written.
pub(super) async fn ensure(
    kubelet: &Kubelet,
    pod: &Pod,
    runtime: &PodRuntime,
    actions: &Actions,
) -> Result<(String, v1::PodSandboxConfig, Vec<String>), String> {
    let failed = |error: String| {
        kubelet.pod_warning(pod, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
        error
    };
    let config = config(kubelet, pod, actions.attempt).await.map_err(failed)?;
    let existing = actions.sandbox_id.clone().filter(|_| !actions.create_sandbox);
    if let Some(id) = existing {
        return Ok((id, config, addresses(kubelet, pod, runtime.ips())));
    }
    let handler = runtime_handler(kubelet, pod).await.map_err(failed)?;
    let directory = PathBuf::from(&config.log_directory);
    let made = directory.clone();
    let made = kubelet.files.of_pod(pod.uid(), "make", &directory, move || std::fs::create_dir_all(made)).await;
    match made.map(|made| made.map_err(|error| format!("create pod log directory: {error}"))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(failed(error)),
        Err(error) => return Err(failed(error.to_string())),
    }
    let call = kubelet.calls.of(pod.uid());
    let undisturbed = call.lock().await;
    kubelet.metrics.started_pods.fetch_add(1, Relaxed);
    let made = kubelet.runtime.run_pod_sandbox(config.clone(), &handler).await;
    drop(undisturbed);
    if made.is_err() {
        kubelet.metrics.failed_pods.fetch_add(1, Relaxed);
    }
    let id = match made {
        Ok(id) => id,
        Err(error) => return Err(failed(error.to_string())),
    };
    info!(pod = pod.display(), sandbox = id, attempt = actions.attempt, "pod sandbox created");
    let status = kubelet.runtime.pod_sandbox_status(&id, false).await.map_err(|error| {
        let message = format!("Unable to get pod sandbox status: {error}");
        kubelet.pod_warning(pod, "FailedPodSandBoxStatus", message);
        error.to_string()
    })?;
    let network = status.status.and_then(|s| s.network).unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    Ok((id, config, addresses(kubelet, pod, ips)))
}

/// A pod in the node's network has the node's addresses.
fn addresses(kubelet: &Kubelet, pod: &Pod, own: Vec<String>) -> Vec<String> {
    if pod.host_network() { kubelet.host_ips() } else { own }
}

async fn config(kubelet: &Kubelet, pod: &Pod, attempt: u32) -> Result<v1::PodSandboxConfig, String> {
    let settings = &kubelet.config;
    let (host, domain) = host_and_domain(pod, &settings.cluster_domain)?;
    let hostname = if pod.host_network() { String::new() } else { kernel_hostname(pod, &host, &domain)? };
    let path = settings.resolv_conf.clone();
    let read = kubelet.files.of_pod(pod.uid(), "read", &settings.resolv_conf, || std::fs::read_to_string(path)).await;
    let text = read
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot read {}: {error}", settings.resolv_conf.display()))?;
    let servers: Vec<String> = settings.cluster_dns.iter().map(ToString::to_string).collect();
    let (dns, warning) = pod_dns(pod, &servers, &settings.cluster_domain, &HostDns::parse(&text));
    if let Some(warning) = warning {
        let reason = if warning.contains("limits were exceeded") { "DNSConfigForming" } else { "MissingClusterDNS" };
        kubelet.event(&pod.reference(), EventType::Warning, reason, warning);
    }
    let directory = logs::pod_log_dir(&settings.pod_log_dir, pod.namespace(), pod.name(), pod.uid());
    let parts = SandboxParts {
        attempt,
        hostname,
        dns,
        log_directory: directory.display().to_string(),
        cgroup_parent: kubelet.cgroups.as_ref().map(|_| cgroups::pod_path(pod)).unwrap_or_default(),
    };
    Ok(sandbox_config(pod, parts))
}

/// The runtime's name for the class of runtime that the pod asks for; empty for its default.
async fn runtime_handler(kubelet: &Kubelet, pod: &Pod) -> Result<String, String> {
    let name = PodExt::spec(pod).runtime_class_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(String::new());
    }
    let class = kubelet.config.client.get::<RuntimeClass>(&resources::RUNTIME_CLASSES, "", name).await;
    class
        .map(|c| c.handler)
        .map_err(|error| format!("failed to get sandbox runtime: failed to lookup RuntimeClass {name}: {error}"))
}
