//! The node authorizer: what kubelets may do, and which objects of others they may read.
//!
//! A node reads a secret, config map, claim or service account only if a pod that is bound to it needs that object.

use kedge_meta::{UserInfo, fields};
use kedge_storage::{Matcher, ResourceStore};
use serde_json::Value;

use crate::authorizer::{Authorizer, Decision, Request};

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Decides on requests of nodes.
pub struct NodeAuthorizer {
    pods: ResourceStore,
}

/// What every node may do: `(verbs, group, resource with subresource)`.
const RULES: &[(&[&str], &str, &str)] = &[
    (&["create"], "authentication.k8s.io", "tokenreviews"),
    (&["create"], "authorization.k8s.io", "subjectaccessreviews"),
    (&["create"], "authorization.k8s.io", "localsubjectaccessreviews"),
    (&["get", "list", "watch"], "", "services"),
    (&["get", "list", "watch"], "discovery.k8s.io", "endpointslices"),
    (&["get", "list", "watch"], "", "namespaces"),
    // Not deleted: who makes its node anew could give it the labels and take off the taints that it may not change.
    (&["create", "get", "list", "watch", "update", "patch"], "", "nodes"),
    (&["update", "patch"], "", "nodes/status"),
    (&["create", "update", "patch"], "", "events"),
    (&["get", "list", "watch", "create", "delete"], "", "pods"),
    (&["update", "patch"], "", "pods/status"),
    (&["create"], "", "pods/eviction"),
    (&["get", "list", "watch"], "node.k8s.io", "runtimeclasses"),
    (&["create", "get", "list", "watch"], "certificates.k8s.io", "certificatesigningrequests"),
    (&["get", "create", "update", "patch", "delete"], "coordination.k8s.io", "leases"),
    (&["get"], "storage.k8s.io", "volumeattachments"),
    (&["get", "list", "watch"], "storage.k8s.io", "csidrivers"),
    (&["get", "create", "update", "patch", "delete"], "storage.k8s.io", "csinodes"),
    (&["get", "list", "watch"], "networking.k8s.io", "networkpolicies"),
];

/// Fields of a pod whose text names an object: `(resource, field, key of the name)`.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("secrets", "secret", "secretName"),
    ("secrets", "secret", "name"),
    ("secrets", "secretRef", "name"),
    ("secrets", "secretKeyRef", "name"),
    ("secrets", "imagePullSecrets", "name"),
    ("configmaps", "configMap", "name"),
    ("configmaps", "configMapRef", "name"),
    ("configmaps", "configMapKeyRef", "name"),
    ("persistentvolumeclaims", "persistentVolumeClaim", "claimName"),
];

impl NodeAuthorizer {
    /// Over the stored pods.
    pub fn new(pods: ResourceStore) -> Self {
        Self { pods }
    }

    fn pods_of(&self, node: &str, namespace: &str) -> Vec<Value> {
        let Ok(selector) = fields::Selector::parse(&format!("spec.nodeName={node}")) else { return Vec::new() };
        let matcher = Matcher { fields: selector, ..Matcher::default() };
        let listing = self.pods.readable(&format!("{namespace}/"), &matcher);
        listing.objects.iter().filter_map(|(_, object)| serde_json::from_slice(&object.stored()).ok()).collect()
    }

    fn reference(&self, node: &str, request: &Request<'_>) -> Decision {
        let refused = || Decision::NoOpinion(format!("no relationship found between node '{node}' and this object"));
        if request.name.is_empty() || request.namespace.is_empty() {
            return Decision::NoOpinion("can only read namespaced object of this type".into());
        }
        let pods = self.pods_of(node, request.namespace);
        let related = match request.resource {
            "serviceaccounts" => pods.iter().any(|pod| {
                pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).is_some_and(|a| a == request.name)
            }),
            // Every namespace's root certificates are mounted into its pods.
            resource => pods.iter().any(|pod| names_object(&pod["spec"], resource, request.name)),
        };
        if related { Decision::Allow(String::new()) } else { refused() }
    }
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

fn node_name(user: &UserInfo) -> Option<&str> {
    if !user.in_group(NODES) {
        return None;
    }
    user.name.strip_prefix(NODE_PREFIX)
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, request: &Request<'_>) -> Decision {
        let Some(node) = request.user.and_then(node_name) else { return Decision::NoOpinion(String::new()) };
        if !request.is_resource {
            return Decision::NoOpinion(String::new());
        }
        let read = matches!(request.verb, "get" | "list" | "watch");
        match (request.group, request.resource, request.subresource) {
            ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") if read => self.reference(node, request),
            ("", "serviceaccounts", "") if request.verb == "get" => self.reference(node, request),
            ("", "serviceaccounts", "token") if request.verb == "create" => self.reference(node, request),
            (group, resource, subresource) => {
                let full =
                    if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
                let allowed =
                    RULES.iter().any(|(verbs, g, r)| *g == group && *r == full && verbs.contains(&request.verb));
                if allowed { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_where_pods_have_them() {
        let spec = json!({
            "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"configMap": {"name": "root"}}]}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "b"}}], "env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}]}],
            "imagePullSecrets": [{"name": "d"}],
        });
        for (resource, name) in
            [("secrets", "a"), ("secrets", "b"), ("secrets", "d"), ("configmaps", "root"), ("configmaps", "c")]
        {
            assert!(names_object(&spec, resource, name), "{resource} {name}");
        }
        assert!(!names_object(&spec, "configmaps", "a"));
        assert!(!names_object(&spec, "secrets", "root"));
    }
}
