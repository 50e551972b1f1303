//! NodeRestriction: a node writes only to itself, its lease, its pods, tokens for them, and the slice that publishes its DNS.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_auth::Authorizer;
use kedge_certs::SigningRequest;
use kedge_meta::{GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden, node_slices, read};

pub(crate) struct NodeRestriction {
    authorizer: Arc<dyn Authorizer>,
}

impl NodeRestriction {
    pub(crate) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn check_token(&self, node: &str, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
        let forbid = |why: &str| Err(forbidden(attributes, why));
        let reference = attributes.object.at(&["spec", "boundObjectRef"]).filter(|reference| {
            reference.text(&["apiVersion"]) == "v1"
                && reference.text(&["kind"]) == "Pod"
                && !reference.text(&["name"]).is_empty()
        });
        let Some(reference) = reference else { return forbid("node requested token not bound to a pod") };
        let (name, uid) = (reference.text(&["name"]), reference.text(&["uid"]));
        if uid.is_empty() {
            return forbid("node requested token with a pod binding without a uid");
        }
        let Some(pod) = read(registry, ("", "pods"), attributes.namespace, name)? else {
            return Err(Status::not_found(&GroupResource::new("", "pods"), name));
        };
        if pod.text(&["metadata", "uid"]) != uid {
            return forbid(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if pod.text(&["spec", "nodeName"]) != node {
            return forbid("node requested token bound to a pod scheduled on a different node");
        }
        self.check_audience(registry, &pod, attributes).await
    }

    /// The token must be for somebody whom the pod has something to say to, or whom the node was allowed.
    async fn check_audience(
        &self,
        registry: &Registry,
        pod: &Value,
        attributes: &Attributes<'_>,
    ) -> Result<(), Status> {
        let audience = match attributes.object.list(&["spec", "audiences"]) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err(forbidden(attributes, "node may only request 0 or 1 audiences")),
        };
        if names_audience(registry, pod, audience)? {
            return Ok(());
        }
        let request = kedge_auth::Request {
            user: Some(attributes.user),
            verb: "request-serviceaccounts-token-audience",
            version: "v1",
            resource: audience,
            namespace: attributes.namespace,
            name: attributes.name,
            is_resource: true,
            ..kedge_auth::Request::default()
        };
        if self.authorizer.authorize(&request).await.is_allowed() {
            return Ok(());
        }
        let user = &attributes.user.name;
        let why = format!(
            "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
        );
        Err(forbidden(attributes, &why))
    }
}

/// Whether a volume of a pod, or the driver of one, wants a token for an audience.
fn names_audience(registry: &Registry, pod: &Value, audience: &str) -> Result<bool, Status> {
    for volume in pod.list(&["spec", "volumes"]) {
        let mut sources = volume.list(&["projected", "sources"]).iter();
        let wants = |s: &Value| s.get("serviceAccountToken").is_some_and(|t| t.text(&["audience"]) == audience);
        if sources.any(wants) {
            return Ok(true);
        }
        let claim = match volume.get("ephemeral").filter(|ephemeral| !ephemeral.is_null()) {
            Some(_) => format!("{}-{}", pod.name(), volume.text(&["name"])),
            None => volume.text(&["persistentVolumeClaim", "claimName"]).to_owned(),
        };
        let driver = match claim.as_str() {
            "" => volume.text(&["csi", "driver"]).to_owned(),
            claim => {
                let claim = read(registry, ("", "persistentvolumeclaims"), pod.namespace(), claim)?.unwrap_or_default();
                let volume = read(registry, ("", "persistentvolumes"), "", claim.text(&["spec", "volumeName"]))?;
                volume.unwrap_or_default().text(&["spec", "csi", "driver"]).to_owned()
            }
        };
        let driver = read(registry, ("storage.k8s.io", "csidrivers"), "", &driver)?.unwrap_or_default();
        if driver.list(&["spec", "tokenRequests"]).iter().any(|token| token.text(&["audience"]) == audience) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The node that makes the request.
fn node_of<'a>(attributes: &'a Attributes<'_>) -> Option<&'a str> {
    if !attributes.user.in_group("system:nodes") {
        return None;
    }
    attributes.user.name.strip_prefix("system:node:")
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Connect && node_of(attributes).is_some()
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_of(attributes) else { return Ok(()) };
        let name = if attributes.name.is_empty() { attributes.object.name() } else { attributes.name };
        match (&*attributes.resource.group, &*attributes.resource.plural, attributes.subresource) {
            ("", "nodes", _) if name != node => {
                Err(forbidden(attributes, &format!("node {node:?} is not allowed to modify node {name:?}")))
            }
            ("", "nodes", _) => check_own_node(node, attributes),
            ("", "pods", subresource) => check_pod(node, subresource, registry, attributes),
            ("", "persistentvolumeclaims", subresource) if subresource != "status" => {
                Err(forbidden(attributes, "may only update PVC status"))
            }
            ("", "serviceaccounts", "token") => self.check_token(node, registry, attributes).await,
            ("coordination.k8s.io", "leases", _) if attributes.namespace != "kube-node-lease" => {
                Err(forbidden(attributes, "can only access leases in the \"kube-node-lease\" system namespace"))
            }
            ("coordination.k8s.io", "leases", _) if name != node => {
                Err(forbidden(attributes, "can only access node lease with the same name as the requesting node"))
            }
            ("storage.k8s.io", "csinodes", _) if name != node => {
                Err(forbidden(attributes, "can only access CSINode with the same name as the requesting node"))
            }
            ("certificates.k8s.io", "certificatesigningrequests", "") => check_signing_request(node, attributes),
            ("resource.k8s.io", "resourceslices", _) => check_slice(node, attributes),
            ("discovery.k8s.io", "endpointslices", _) => node_slices::check(node, name, registry, attributes),
            _ => Ok(()),
        }
    }
}

/// A node asks for certificates of nodes for itself alone: whoever approves them relies on that.
fn check_signing_request(node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
    let of_nodes = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    let object = &attributes.object;
    if attributes.operation != Operation::Create || !of_nodes.contains(&object.text(&["spec", "signerName"])) {
        return Ok(());
    }
    let pem = STANDARD.decode(object.text(&["spec", "request"])).unwrap_or_default();
    let request =
        SigningRequest::from_pem(&pem).map_err(|why| forbidden(attributes, &format!("unable to parse csr: {why}")))?;
    if request.subject.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(forbidden(attributes, &format!("can only create a node CSR with CN=system:node:{node}")))
}

/// A node that could label, taint or give away itself could draw pods to it.
fn check_own_node(node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
    let forbid = |why: String| Err(forbidden(attributes, &why));
    let new = &attributes.object;
    let labels = |old: Option<&Value>| forbidden_labels(new, old).join(", ");
    match (attributes.operation, attributes.old) {
        (Operation::Create, _) => {
            if new.at(&["spec", "configSource"]).is_some_and(|source| !source.is_null()) {
                return forbid(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            match labels(None) {
                none if none.is_empty() => Ok(()),
                labels => forbid(format!("node {node:?} is not allowed to set the following labels: {labels}")),
            }
        }
        (Operation::Update, Some(old)) => {
            let source = |object: &Value| object.at(&["spec", "configSource"]).cloned().filter(|s| !s.is_null());
            if source(new).is_some() && source(new) != source(old) {
                return forbid(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if new.list(&["spec", "taints"]) != old.list(&["spec", "taints"]) {
                return forbid(format!("node {node:?} is not allowed to modify taints"));
            }
            if new.list(&["metadata", "ownerReferences"]) != old.list(&["metadata", "ownerReferences"]) {
                return forbid(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            match labels(Some(old)) {
                none if none.is_empty() => Ok(()),
                labels => forbid(format!("is not allowed to modify labels: {labels}")),
            }
        }
        _ => Ok(()),
    }
}

/// Labels of Kubernetes that a kubelet may set on its own node.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The labels that a change touches and that a node may not touch, sorted.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let empty = serde_json::Map::new();
    let now = new.map(&["metadata", "labels"]).unwrap_or(&empty);
    let was = old.and_then(|old| old.map(&["metadata", "labels"])).unwrap_or(&empty);
    let changed = now.keys().chain(was.keys()).filter(|key| now.get(*key) != was.get(*key));
    let mut found: Vec<String> = changed.filter(|key| is_restricted(key)).cloned().collect();
    found.sort();
    found.dedup();
    found
}

fn is_restricted(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|d| d.ends_with('.'));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    let kubelets = below("kubelet.kubernetes.io") || below("node.kubernetes.io") || KUBELET_LABELS.contains(&label);
    (below("kubernetes.io") || below("k8s.io")) && !kubelets
}

fn check_pod(node: &str, subresource: &str, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
    let forbid = |why: String| Err(forbidden(attributes, &why));
    let bound = |pod: &Value| pod.text(&["spec", "nodeName"]) == node;
    match (subresource, attributes.operation) {
        ("", Operation::Create) => check_mirror(node, registry, attributes),
        ("", Operation::Delete) if attributes.old.is_some_and(bound) => Ok(()),
        ("", Operation::Delete) => {
            forbid(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        ("", Operation::Update) => {
            forbid(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("status", Operation::Update) => {
            let Some(old) = attributes.old.filter(|old| bound(old)) else {
                return forbid(format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ));
            };
            let same = |path: &[&str]| {
                let of = |pod: &Value| pod.at(path).cloned().filter(|value| !value.is_null());
                of(&attributes.object) == of(old)
            };
            if !same(&["metadata", "labels"]) {
                return forbid(format!("node {node:?} cannot update labels through pod status"));
            }
            if !same(&["status", "resourceClaimStatuses"]) {
                return forbid(format!("node {node:?} cannot update resource claim statues"));
            }
            if !same(&["status", "extendedResourceClaimStatus"]) {
                return forbid(format!("node {node:?} cannot update extended resource claim status"));
            }
            Ok(())
        }
        ("eviction", Operation::Create) => match read(registry, ("", "pods"), attributes.namespace, attributes.name)? {
            Some(pod) if bound(&pod) => Ok(()),
            Some(_) => forbid(format!("node {node} can only evict pods with spec.nodeName set to itself")),
            None => Err(Status::not_found(&GroupResource::new("", "pods"), attributes.name)),
        },
        ("status" | "eviction", _) => forbid(format!("unexpected operation {:?}", attributes.operation.as_str())),
        _ => forbid(format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed")),
    }
}

/// A node makes pods only as images of those that it runs from files: owned by itself, and reading nothing of others.
fn check_mirror(node: &str, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
    let forbid = |why: String| Err(forbidden(attributes, &why));
    let pod = &attributes.object;
    if pod.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_none() {
        return forbid(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod.text(&["spec", "nodeName"]) != node {
        return forbid(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match pod.list(&["metadata", "ownerReferences"]) {
        [owner] => owner,
        [] => return forbid(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return forbid(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    if owner.text(&["apiVersion"]) != "v1" || owner.text(&["kind"]) != "Node" || owner.text(&["name"]) != node {
        return forbid(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner.flag(&["controller"]) != Some(true) {
        return forbid(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner.flag(&["blockOwnerDeletion"]) == Some(true) {
        return forbid(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let Some(itself) = read(registry, ("", "nodes"), "", node)? else {
        return Err(Status::not_found(&GroupResource::new("", "nodes"), node));
    };
    let (wanted, is) = (owner.text(&["uid"]), itself.text(&["metadata", "uid"]));
    if wanted != is {
        return forbid(format!("node {node} UID mismatch: expected {wanted} got {is}"));
    }
    match referenced(&pod["spec"]) {
        Some(what) => forbid(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What of the API a pod refers to, if it does.
fn referenced(spec: &Value) -> Option<&'static str> {
    if !spec.text(&["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    if !spec.list(&["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    named(spec)
}

/// References by the names of their fields, wherever they are.
fn named(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(map) => map.iter().filter(|(_, inner)| !inner.is_null()).find_map(|(field, inner)| {
            let here = match field.as_str() {
                "secret" | "secretRef" | "secretKeyRef" | "secretName" => Some("secrets"),
                "imagePullSecrets" if inner.as_array().is_some_and(|list| !list.is_empty()) => Some("secrets"),
                "configMap" | "configMapRef" | "configMapKeyRef" => Some("configmaps"),
                "persistentVolumeClaim" | "ephemeral" => Some("persistentvolumeclaims"),
                "serviceAccountToken" => Some("serviceaccounts"),
                "clusterTrustBundle" => Some("clustertrustbundles"),
                "podCertificate" => Some("podcertificaterequests"),
                "csi" => Some("csidrivers"),
                _ => None,
            };
            here.or_else(|| named(inner))
        }),
        Value::Array(list) => list.iter().find_map(named),
        _ => None,
    }
}

fn check_slice(node: &str, attributes: &Attributes<'_>) -> Result<(), Status> {
    let of = |slice: &Value| slice.text(&["spec", "nodeName"]) == node;
    match attributes.operation {
        Operation::Create if !of(&attributes.object) => {
            Err(forbidden(attributes, "can only create ResourceSlice with the same NodeName as the requesting node"))
        }
        Operation::Delete if !attributes.old.is_some_and(of) => {
            Err(forbidden(attributes, "can only delete ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_that_would_draw_pods_are_not_a_nodes_own() {
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let free = json!({"a": "1", "example.org/b": "1", "kubernetes.io/os": "linux", "node.kubernetes.io/x": "1",
            "x.kubelet.kubernetes.io/y": "1"});
        assert!(forbidden_labels(&node(free), None).is_empty());
        let bound =
            json!({"node-restriction.kubernetes.io/a": "1", "node-role.kubernetes.io/master": "", "k8s.io/a": "1"});
        let names = ["k8s.io/a", "node-restriction.kubernetes.io/a", "node-role.kubernetes.io/master"];
        assert_eq!(forbidden_labels(&node(bound.clone()), None), names);
        assert!(forbidden_labels(&node(bound.clone()), Some(&node(bound.clone()))).is_empty(), "they may stay");
        assert_eq!(forbidden_labels(&node(json!({})), Some(&node(bound))), names, "and may not go");
    }

    #[test]
    fn references_are_found_wherever_they_are() {
        for (spec, found) in [
            (json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}]}), None),
            (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
            (json!({"resourceClaims": [{"name": "c", "resourceClaimName": "of-others"}]}), Some("resourceclaims")),
            (json!({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}), Some("secrets")),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), None),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "m"}}]}}]}), Some("configmaps")),
            (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}), Some("persistentvolumeclaims")),
        ] {
            assert_eq!(referenced(&spec), found, "{spec}");
        }
    }
}
