//! The node authorizer: what kubelets may do, and which objects of others they may read.
//!
//! A node reads a secret, config map, claim, volume or service account only if a pod that is bound to it needs that object; of pods,
//! nodes, leases, CSINodes, attachments and resource slices it reads its own.

mod relations;

use kedge_meta::{UserInfo, fields};

pub use self::relations::Relations as NodeRelations;
use crate::authorizer::{Authorizer, Deciding, Decision, Request, Rules};

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Decides on requests of nodes.
pub struct NodeAuthorizer {
    relations: NodeRelations,
}

/// What every node may do: `(verbs, group, resource with subresource)`.
const RULES: &[(&[&str], &str, &str)] = &[
    (&["create"], "authentication.k8s.io", "tokenreviews"),
    (&["create"], "authorization.k8s.io", "subjectaccessreviews"),
    (&["create"], "authorization.k8s.io", "localsubjectaccessreviews"),
    (&["get", "list", "watch"], "", "services"),
    (&["get"], "", "endpoints"),
    (&["create", "update", "patch"], "", "events"),
    (&["create", "update", "patch"], "events.k8s.io", "events"),
    (&["get", "list", "watch"], "node.k8s.io", "runtimeclasses"),
    (&["create", "get", "list", "watch"], "certificates.k8s.io", "certificatesigningrequests"),
    (&["get", "list", "watch"], "storage.k8s.io", "csidrivers"),
];

impl NodeAuthorizer {
    /// Over what is stored.
    pub fn new(relations: NodeRelations) -> Self {
        Self { relations }
    }

    /// Whether a pod runs on a node, or is to.
    fn pod(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            // Admission lets nodes make, change and evict their own pods only.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allowed(),
            ("", "list" | "watch") if selects(request, node) => allowed(),
            ("", "list" | "watch") if request.name.is_empty() => {
                unknown("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "get" | "list" | "watch") if self.relations.pod(node, request.namespace, request.name) => allowed(),
            ("", "get" | "list" | "watch") => unrelated(node),
            _ => unknown(""),
        }
    }

    /// What is read one by one, by those whose pods need it.
    fn read(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("", "get" | "list" | "watch") if request.namespace.is_empty() => {
                unknown("can only read namespaced object of this type")
            }
            ("", "get" | "list" | "watch") => self.related(node, request),
            ("", _) => unknown("can only read resources of this type"),
            _ => unknown("cannot read subresource"),
        }
    }

    /// What is got by its name alone.
    fn get(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("", "get") => self.related(node, request),
            (_, "get") => unknown("cannot get subresource"),
            _ => unknown("can only get individual resources of this type"),
        }
    }

    fn claim(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("status", "update" | "patch") => self.related(node, request),
            ("status", _) => unknown("can only get/update/patch this type"),
            _ => self.get(node, request),
        }
    }

    fn account(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("", "get") => self.read(node, request),
            ("token", "create") if !request.name.is_empty() => self.related(node, request),
            (_, "create") if !request.name.is_empty() => unknown("can only create token subresource of serviceaccount"),
            _ => unknown("can only create tokens for individual service accounts"),
        }
    }

    /// Which devices a node has. For which node one is made, only admission knows.
    fn slice(&self, node: &str, request: &Request<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("", "create") => allowed(),
            ("", "get" | "update" | "patch" | "delete") => self.related(node, request),
            ("", "list" | "watch" | "deletecollection") if selects(request, node) => allowed(),
            ("", "list" | "watch" | "deletecollection") => {
                unknown("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            ("", _) => unknown(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, \
                 deletecollection",
            ),
            _ => unknown("cannot authorize ResourceSlice subresources"),
        }
    }

    /// Whether the object that is named has to do with the node.
    fn related(&self, node: &str, request: &Request<'_>) -> Decision {
        let (namespace, name) = (request.namespace, request.name);
        if name.is_empty() {
            return unknown("No Object name found");
        }
        let related = match request.resource {
            "persistentvolumes" => self.relations.volume(node, name),
            "volumeattachments" => self.relations.attachment(node, name),
            "resourceslices" => self.relations.slice(node, name),
            _ if namespace.is_empty() => false,
            resource => self.relations.object(node, resource, namespace, name),
        };
        if related { allowed() } else { unrelated(node) }
    }
}

/// Whether what is asked for is restricted to what is on the node.
fn selects(request: &Request<'_>, node: &str) -> bool {
    let here = |r: &fields::Requirement| r.equal && r.field == "spec.nodeName" && r.value == node;
    request.fields.is_some_and(|fields| fields.requirements.iter().any(here))
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
        match (request.group, request.resource, request.subresource) {
            ("", "secrets" | "configmaps", _) => self.read(node, request),
            ("", "persistentvolumeclaims", _) => self.claim(node, request),
            ("", "persistentvolumes", _)
            | ("storage.k8s.io", "volumeattachments", _)
            | ("resource.k8s.io", "resourceclaims", _) => self.get(node, request),
            ("resource.k8s.io", "resourceslices", _) => self.slice(node, request),
            ("", "serviceaccounts", _) => self.account(node, request),
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
