//! Which objects a pod's volumes, variables and pulls refer to.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

/// The (ConfigMaps, Secrets) that a pod refers to, by name.
pub(crate) fn referenced_objects(pod: &Pod) -> (HashSet<String>, HashSet<String>) {
    let (mut maps, mut secrets) = (HashSet::new(), HashSet::new());
    let spec = PodExt::spec(pod);
    let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(crate::pod::ephemeral_as_container).collect();
    for container in spec.containers.iter().chain(pod.init_containers()).chain(&ephemeral) {
        for source in container.env_from.iter().flatten() {
            maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in pod.volumes() {
        maps.extend(volume.config_map.iter().map(|s| s.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        let parts = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for part in parts {
            maps.extend(part.config_map.iter().map(|s| s.name.clone()));
            secrets.extend(part.secret.iter().map(|s| s.name.clone()));
        }
    }
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    (maps, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn references_are_found_everywhere() {
        let pod = pod(json!({
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m1"}}]}],
            "containers": [{"name": "a", "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m2"}}]}},
                        {"name": "w", "secret": {"secretName": "s2"}}]}));
        let (maps, secrets) = referenced_objects(&pod);
        assert_eq!(maps, HashSet::from(["m1".to_string(), "m2".to_string()]));
        let want = ["pull", "s1", "s2"].map(str::to_string);
        assert_eq!(secrets, HashSet::from(want));
    }
}
