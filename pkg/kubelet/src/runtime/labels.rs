//! Labels and annotations on sandboxes and containers: how a kubelet that restarts finds its pods again.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::PodExt;

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub(crate) const HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(crate) const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
pub(crate) const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub(crate) const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Labels of a sandbox: the pod's own, and ours over them.
pub(crate) fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let own = pod.metadata.labels.iter().flatten();
    let mut labels: HashMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.extend(pod_labels(pod));
    labels
}

/// Annotations of a sandbox are the pod's.
pub(crate) fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    let own = pod.metadata.annotations.iter().flatten();
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn pod_labels(pod: &Pod) -> [(String, String); 3] {
    [
        (POD_NAME.into(), pod.name().into()),
        (POD_NAMESPACE.into(), pod.namespace().into()),
        (POD_UID.into(), pod.uid().into()),
    ]
}

/// Labels of a container.
pub(crate) fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = HashMap::from(pod_labels(pod));
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

/// Annotations of a container: what must survive a restart of the kubelet, or the deletion of the pod.
pub(crate) fn container_annotations(pod: &Pod, container: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut out = HashMap::new();
    out.insert(HASH.into(), format!("{:x}", container_hash(container)));
    out.insert(RESTART_COUNT.into(), restart_count.to_string());
    let path = container.termination_message_path.clone().unwrap_or_default();
    out.insert(TERMINATION_PATH.into(), path);
    let policy = container.termination_message_policy.clone().unwrap_or_default();
    out.insert(TERMINATION_POLICY.into(), policy);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        out.insert(DELETION_GRACE.into(), seconds.to_string());
    }
    if let Some(seconds) = PodExt::spec(pod).termination_grace_period_seconds {
        out.insert(TERMINATION_GRACE.into(), seconds.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = kedge_types::encode_lifecycle_handler(hook)
    {
        out.insert(PRE_STOP.into(), json.to_string());
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty())
        && let Ok(json) = kedge_types::encode_container_ports(ports)
    {
        out.insert(PORTS.into(), json.to_string());
    }
    out
}

/// A number that changes when the container must be made anew: of its name and image (FNV-1a, 32 bit).
///
/// Resources are left out, because they can be changed in place; everything else of a container cannot change.
pub(crate) fn container_hash(container: &Container) -> u64 {
    let image = container.image.as_deref().unwrap_or_default();
    let text = format!(r#"{{"image":"{image}","name":"{}"}}"#, container.name);
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn a_new_image_is_a_new_hash_and_new_resources_are_not() {
        let spec = |image: &str, cpu: &str| {
            let pod = pod(json!({"containers": [
                {"name": "a", "image": image, "resources": {"requests": {"cpu": cpu}}}]}));
            container_hash(&PodExt::spec(&pod).containers[0])
        };
        assert_eq!(spec("i:1", "1"), spec("i:1", "2"));
        assert_ne!(spec("i:1", "1"), spec("i:2", "1"));
    }
}
