//! The node authorizer: what kubelets may do, and which objects of others they may read.
//!
//! A node reads a secret, config map, claim or service account only if a pod that is bound to it needs that object; of pods, nodes,
//! leases and CSINodes it reads its own.

use kedge_meta::{UserInfo, fields};
use kedge_storage::{Matcher, ResourceStore};
use serde::Deserialize;
use serde_json::Value;

use crate::authorizer::{Authorizer, Deciding, Decision, Request, Rules};

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
    (&["create", "update", "patch"], "", "events"),
    (&["get", "list", "watch"], "node.k8s.io", "runtimeclasses"),
    (&["create", "get", "list", "watch"], "certificates.k8s.io", "certificatesigningrequests"),
    (&["get"], "storage.k8s.io", "volumeattachments"),
    (&["get", "list", "watch"], "storage.k8s.io", "csidrivers"),
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

    /// Whether a pod runs on a node, or is to.
    fn pod(&self, node: &str, request: &Request<'_>) -> Decision {
        let here = |r: &fields::Requirement| r.equal && r.field == "spec.nodeName" && r.value == node;
        let selects = |fields: &fields::Selector| fields.requirements.iter().any(here);
        match (request.subresource, request.verb) {
            // Admission lets nodes make, change and evict their own pods only.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allowed(),
            ("", "list" | "watch") if request.fields.is_some_and(selects) => allowed(),
            ("", "list" | "watch") if request.name.is_empty() => {
                unknown("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "get" | "list" | "watch") if self.is_bound(node, request.namespace, request.name) => allowed(),
            ("", "get" | "list" | "watch") => unrelated(node),
            _ => unknown(""),
        }
    }

    fn is_bound(&self, node: &str, namespace: &str, name: &str) -> bool {
        // What cannot be read vouches for nothing.
        let object = self.pods.get(&format!("{namespace}/{name}")).ok().flatten();
        let pod = object.and_then(|object| serde_json::from_slice::<Bound>(&object.stored()).ok());
        pod.is_some_and(|pod| pod.spec.node_name == node)
    }

    fn reference(&self, node: &str, request: &Request<'_>) -> Decision {
        let refused = || unrelated(node);
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
        if related { allowed() } else { refused() }
    }
}

/// A pod, as far as it says where it is.
#[derive(Deserialize)]
struct Bound {
    spec: Place,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    #[serde(default)]
    node_name: String,
}

fn allowed() -> Decision {
    Decision::Allow(String::new())
}

fn unknown(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

fn unrelated(node: &str) -> Decision {
    unknown(format!("no relationship found between node '{node}' and this object"))
}

/// A node reads itself alone, also before it is there.
fn itself(node: &str, request: &Request<'_>) -> Decision {
    match (request.subresource, request.verb, request.name) {
        // Not deleted: who makes its node anew could give it the labels and take off the taints that it may not change. Admission
        // lets it change only itself.
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => allowed(),
        ("", "get" | "list" | "watch", name) if name == node => allowed(),
        ("", "get" | "list" | "watch", "") => {
            unknown(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch", name) => {
            unknown(format!("node '{node}' cannot read '{name}', only its own Node object"))
        }
        _ => unknown(""),
    }
}

/// What a node has one of, under its own name. Under which name something is made, only admission knows.
fn namesake(node: &str, request: &Request<'_>) -> Decision {
    let lease = request.resource == "leases";
    let what = if lease { "node lease" } else { "CSINode" };
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") {
        return unknown(format!("can only get, create, update, patch, or delete a {what}"));
    }
    if !request.subresource.is_empty() {
        return unknown(format!("cannot authorize {} subresources", if lease { "lease" } else { "CSINode" }));
    }
    if lease && request.namespace != "kube-node-lease" {
        return unknown("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if request.verb != "create" && request.name != node {
        return unknown(format!("can only access {what} with the same name as the requesting node"));
    }
    allowed()
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
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        self.decide(request).into()
    }

    /// What a node may do depends on its pods.
    fn rules_of(&self, user: &UserInfo, _: &str) -> Rules {
        match node_name(user) {
            None => Rules::default(),
            Some(_) => Rules {
                incomplete: true,
                errors: vec!["node authorizer does not support user rule resolution".to_owned()],
                ..Rules::default()
            },
        }
    }
}

impl NodeAuthorizer {
    fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(node) = request.user.and_then(node_name) else { return Decision::NoOpinion(String::new()) };
        if !request.is_resource {
            return Decision::NoOpinion(String::new());
        }
        let read = matches!(request.verb, "get" | "list" | "watch");
        match (request.group, request.resource, request.subresource) {
            ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") if read => self.reference(node, request),
            ("", "serviceaccounts", "") if request.verb == "get" => self.reference(node, request),
            ("", "serviceaccounts", "token") if request.verb == "create" => self.reference(node, request),
            ("", "nodes", _) => itself(node, request),
            ("", "pods", _) => self.pod(node, request),
            ("coordination.k8s.io", "leases", _) | ("storage.k8s.io", "csinodes", _) => namesake(node, request),
            (group, resource, subresource) => {
                let full =
                    if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
                let listed =
                    RULES.iter().any(|(verbs, g, r)| *g == group && *r == full && verbs.contains(&request.verb));
                if listed { allowed() } else { unknown("") }
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
