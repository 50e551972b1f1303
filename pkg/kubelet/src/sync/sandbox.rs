//! Whether a pod needs a new sandbox.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;
use crate::runtime::PodRuntime;

/// (needed, attempt number of the sandbox to use, id of the sandbox there is).
pub(crate) fn sandbox_changed(pod: &Pod, runtime: &PodRuntime) -> (bool, u32, Option<String>) {
    let Some(latest) = runtime.sandboxes.first() else {
        return (true, 0, None);
    };
    let next = latest.attempt.saturating_add(1);
    let ready = runtime.sandboxes.iter().filter(|s| s.ready).count();
    if ready > 1 || !latest.ready {
        return (true, next, Some(latest.id.clone()));
    }
    if latest.host_network != pod.host_network() {
        return (true, next, None);
    }
    let without_address = latest.ips.as_ref().is_some_and(Vec::is_empty);
    if !pod.host_network() && without_address {
        return (true, next, Some(latest.id.clone()));
    }
    (false, latest.attempt, Some(latest.id.clone()))
}

/// Whether the pod got past its init containers once.
pub(crate) fn has_any_regular_container_created(pod: &Pod, runtime: &PodRuntime) -> bool {
    PodExt::spec(pod).containers.iter().any(|c| runtime.latest(&c.name).is_some())
}
