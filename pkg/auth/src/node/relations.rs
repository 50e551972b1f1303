//! What nodes have to do with objects: by the pods that are bound to them, the volumes of their claims, and what names its node itself.
//!
//! Invariant: what cannot be read vouches for nothing.

use kedge_meta::fields;
use kedge_storage::{Matcher, ResourceStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields of a pod whose text names an object: `(resource, field, key of the name)`.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("secrets", "secret", "secretName"),
    ("secrets", "secret", "name"),
    ("secrets", "secretRef", "name"),
    ("secrets", "secretKeyRef", "name"),
    ("secrets", "imagePullSecrets", "name"),
    ("secrets", "nodePublishSecretRef", "name"),
    ("secrets", "azureFile", "secretName"),
    ("configmaps", "configMap", "name"),
    ("configmaps", "configMapRef", "name"),
    ("configmaps", "configMapKeyRef", "name"),
    ("persistentvolumeclaims", "persistentVolumeClaim", "claimName"),
    ("resourceclaims", "resourceClaims", "resourceClaimName"),
    ("resourceclaims", "resourceClaimStatuses", "resourceClaimName"),
    ("resourceclaims", "extendedResourceClaimStatus", "resourceClaimName"),
];
/// Where the source of a persistent volume has secrets that nodes use; those that controllers use are not their business.
const OF_VOLUMES: [&str; 4] = ["secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];

/// The stored objects that say it.
pub struct Relations {
    pub pods: ResourceStore,
    pub volumes: ResourceStore,
    pub attachments: ResourceStore,
    pub slices: ResourceStore,
}

/// Anything that says where it is.
#[derive(Deserialize)]
struct Placed {
    spec: Place,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    #[serde(default)]
    node_name: String,
}

fn read<T: DeserializeOwned>(store: &ResourceStore, key: &str) -> Option<T> {
    let object = store.get(key).ok().flatten()?;
    serde_json::from_slice(&object.stored()).ok()
}

fn is_placed(store: &ResourceStore, key: &str, node: &str) -> bool {
    read::<Placed>(store, key).is_some_and(|found| found.spec.node_name == node)
}

impl Relations {
    /// Whether a pod is bound to a node.
    pub fn pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        is_placed(&self.pods, &format!("{namespace}/{name}"), node)
    }

    /// Whether a volume is attached to a node, or is to be.
    pub fn attachment(&self, node: &str, name: &str) -> bool {
        is_placed(&self.attachments, name, node)
    }

    /// Whether a slice is of devices of a node.
    pub fn slice(&self, node: &str, name: &str) -> bool {
        is_placed(&self.slices, name, node)
    }

    /// Whether a pod of a node needs an object of its namespace.
    pub fn object(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let pods = self.pods_of(node, namespace);
        match resource {
            "serviceaccounts" => pods.iter().any(|pod| {
                pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).is_some_and(|account| account == name)
            }),
            "persistentvolumeclaims" => pods.iter().any(|pod| names_claim(pod, name)),
            "resourceclaims" => {
                let parts =
                    |pod: &Value| ["spec", "status"].iter().any(|part| names_object(&pod[*part], resource, name));
                pods.iter().any(parts)
            }
            "secrets" => {
                pods.iter().any(|pod| names_object(&pod["spec"], resource, name)) || self.secret(node, namespace, name)
            }
            // Every namespace's root certificates are mounted into its pods.
            resource => pods.iter().any(|pod| names_object(&pod["spec"], resource, name)),
        }
    }

    /// Whether a volume is that of a claim of a pod of a node.
    pub fn volume(&self, node: &str, name: &str) -> bool {
        read::<Value>(&self.volumes, name).is_some_and(|volume| self.is_claimed(node, &volume))
    }

    fn is_claimed(&self, node: &str, volume: &Value) -> bool {
        let claim = |field: &str| volume["spec"]["claimRef"][field].as_str().filter(|text| !text.is_empty());
        let (Some(namespace), Some(name)) = (claim("namespace"), claim("name")) else { return false };
        self.object(node, "persistentvolumeclaims", namespace, name)
    }

    /// Whether a node needs a secret for a volume. Only those volumes are read whose bytes hold the name of the secret.
    fn secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        let listing = self.volumes.readable("", &Matcher::default());
        listing.objects.iter().any(|(_, object)| {
            let stored = object.stored();
            let mentioned = std::str::from_utf8(&stored).is_ok_and(|text| text.contains(name));
            let volume = mentioned.then(|| serde_json::from_slice::<Value>(&stored).ok()).flatten();
            volume.is_some_and(|volume| has_secret(&volume, namespace, name) && self.is_claimed(node, &volume))
        })
    }

    fn pods_of(&self, node: &str, namespace: &str) -> Vec<Value> {
        let Ok(selector) = fields::Selector::parse(&format!("spec.nodeName={node}")) else { return Vec::new() };
        let matcher = Matcher { fields: selector, ..Matcher::default() };
        let listing = self.pods.readable(&format!("{namespace}/"), &matcher);
        listing.objects.iter().filter_map(|(_, object)| serde_json::from_slice(&object.stored()).ok()).collect()
    }
}

/// Whether a pod has a claim, also one that was made for it.
fn names_claim(pod: &Value, name: &str) -> bool {
    let own = pod["metadata"]["name"].as_str().and_then(|pod| name.strip_prefix(pod)?.strip_prefix('-'));
    let volumes = pod["spec"]["volumes"].as_array();
    let ephemeral = |volume: &Value| volume["ephemeral"].is_object() && volume["name"].as_str() == own;
    (own.is_some() && volumes.is_some_and(|volumes| volumes.iter().any(ephemeral)))
        || names_object(&pod["spec"], "persistentvolumeclaims", name)
}

/// Whether a node that has a volume needs a secret. A secret without a namespace is of the claim's.
fn has_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    let spec = &volume["spec"];
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let is = |found: String, of: String| {
        let of = if of.is_empty() { text(&spec["claimRef"], "namespace") } else { of };
        !found.is_empty() && found == name && of == namespace
    };
    let sources = spec.as_object().into_iter().flat_map(|spec| spec.values()).filter(|source| source.is_object());
    sources.into_iter().any(|source| {
        OF_VOLUMES.iter().any(|field| is(text(&source[*field], "name"), text(&source[*field], "namespace")))
    }) || is(text(&spec["azureFile"], "secretName"), text(&spec["azureFile"], "secretNamespace"))
}

fn names_object(value: &Value, resource: &str, name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(field, inner)| {
            let here = REFERENCES.iter().filter(|(kind, at, _)| *kind == resource && at == field);
            let named = |key: &str| {
                let one = |v: &Value| v.get(key).and_then(Value::as_str) == Some(name);
                one(inner) || inner.as_array().is_some_and(|list| list.iter().any(one))
            };
            here.map(|(_, _, key)| *key).any(named) || names_object(inner, resource, name)
        }),
        Value::Array(list) => list.iter().any(|inner| names_object(inner, resource, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_where_pods_have_them() {
        let spec = json!({
            "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"configMap": {"name": "root"}}]}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "b"}}], "env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}]}],
            "imagePullSecrets": [{"name": "d"}],
            "resourceClaims": [{"name": "x", "resourceClaimName": "r"}],
        });
        for (resource, name) in [
            ("secrets", "a"),
            ("secrets", "b"),
            ("secrets", "d"),
            ("configmaps", "root"),
            ("configmaps", "c"),
            ("resourceclaims", "r"),
        ] {
            assert!(names_object(&spec, resource, name), "{resource} {name}");
        }
        assert!(!names_object(&spec, "configmaps", "a"));
        assert!(!names_object(&spec, "secrets", "root"));
        assert!(!names_object(&spec, "resourceclaims", "x"));
    }

    #[test]
    fn claims_that_are_made_for_a_pod_are_its_own() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [
            {"name": "v", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "x", "emptyDir": {}}]}});
        assert!(names_claim(&pod, "p-v") && names_claim(&pod, "c"));
        for other in ["p-w", "p-x", "v", "q-v", "p-", "p", "w"] {
            assert!(!names_claim(&pod, other), "{other}");
        }
    }

    #[test]
    fn nodes_need_those_secrets_of_a_volume_that_controllers_do_not() {
        let volume = json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}, "csi": {
            "nodePublishSecretRef": {"name": "publish", "namespace": "b"}, "nodeStageSecretRef": {"name": "stage"},
            "controllerExpandSecretRef": {"name": "expand", "namespace": "a"}}}});
        assert!(has_secret(&volume, "b", "publish") && has_secret(&volume, "a", "stage"));
        assert!(!has_secret(&volume, "a", "publish") && !has_secret(&volume, "a", "expand"));
        let azure = json!({"spec": {"claimRef": {"namespace": "a"}, "azureFile": {"secretName": "s"}}});
        assert!(has_secret(&azure, "a", "s") && !has_secret(&azure, "", "s") && !has_secret(&azure, "a", ""));
    }
}
