//! The variables of a container, with the objects they are taken from fetched first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::generate::{DownwardContext, EnvContext, environment, service_variables};
use crate::kubelet::Kubelet;
use crate::pod::PodExt;

/// The variables, in order.
///
/// # Errors
/// The message for the container's waiting state.
pub(super) async fn variables(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    pod_ips: &[String],
) -> Result<Vec<(String, String)>, String> {
    // A static pod runs without the API, too.
    if !pod.is_static() && !kubelet.services.has_synced() {
        return Err("services have not yet been read at least once, cannot construct envvars".into());
    }
    let mut services = kubelet.services.list_namespace(pod.namespace());
    if pod.namespace() != "default" {
        services.extend(kubelet.services.get("default", "kubernetes"));
    }
    services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let links = PodExt::spec(pod).enable_service_links != Some(false);
    let services = service_variables(services.iter().map(Arc::as_ref), pod.namespace(), links);

    let (maps, secrets) = references(container);
    let namespace = pod.namespace();
    let mut config_maps = HashMap::new();
    for name in maps {
        let object = kubelet.config_maps.get(namespace, &name).await;
        config_maps.insert(name, object);
    }
    let mut secret_objects = HashMap::new();
    for name in secrets {
        let object = kubelet.secrets.get(namespace, &name).await;
        secret_objects.insert(name, object);
    }
    let host_ips = kubelet.host_ips();
    let context = EnvContext {
        downward: DownwardContext { pod, pod_ips, host_ips: &host_ips, machine: &kubelet.machine },
        services,
        config_maps,
        secrets: secret_objects,
    };
    environment(container, &context).map_err(|error| error.to_string())
}

/// The (ConfigMaps, Secrets) that the variables of one container name.
fn references(container: &Container) -> (HashSet<String>, HashSet<String>) {
    let (mut maps, mut secrets) = (HashSet::new(), HashSet::new());
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}
