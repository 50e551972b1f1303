//! Role-based access control over the stored roles and bindings.
//!
//! The roles are compiled into an index when they have changed, by the first who asks then; a decision reads the index only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use kedge_meta::UserInfo;
use kedge_storage::{Matcher, ResourceStore};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::authorizer::{Authorizer, Deciding, Decision, Request, Rules};
use crate::newest::Newest;

/// `rbac/v1.PolicyRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Role {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(default)]
    metadata: Meta,
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "ServiceAccount" => write!(f, "ServiceAccount {:?}", format!("{}/{}", self.name, self.namespace)),
            kind => write!(f, "{kind} {:?}", self.name),
        }
    }
}

#[derive(Debug)]
struct Grant {
    subjects: Vec<Subject>,
    rules: Arc<Vec<PolicyRule>>,
    /// For the reason given.
    by: String,
}

#[derive(Debug, Default)]
struct Compiled {
    cluster: Vec<Grant>,
    namespaced: HashMap<String, Vec<Grant>>,
}

/// Decides by the stored roles.
pub struct RbacAuthorizer {
    roles: ResourceStore,
    bindings: ResourceStore,
    cluster_roles: ResourceStore,
    cluster_bindings: ResourceStore,
    compiled: Newest<[u64; 4], Compiled>,
}

impl RbacAuthorizer {
    /// Over the four stores.
    pub fn new(
        roles: ResourceStore,
        bindings: ResourceStore,
        cluster_roles: ResourceStore,
        cluster_bindings: ResourceStore,
    ) -> Self {
        Self { roles, bindings, cluster_roles, cluster_bindings, compiled: Newest::default() }
    }

    fn version(&self) -> [u64; 4] {
        [&self.roles, &self.bindings, &self.cluster_roles, &self.cluster_bindings].map(ResourceStore::newest)
    }

    fn current(&self) -> Arc<Compiled> {
        self.compiled.get(|| self.version(), || self.compile())
    }

    fn compile(&self) -> Compiled {
        let mut rules: HashMap<(String, String), Arc<Vec<PolicyRule>>> = HashMap::new();
        for role in read::<Role>(&self.cluster_roles).into_iter().chain(read::<Role>(&self.roles)) {
            rules.insert((role.metadata.namespace, role.metadata.name), Arc::new(role.rules.unwrap_or_default()));
        }
        let grant = |binding: Binding, what: &str| {
            let Binding { metadata, role_ref, subjects } = binding;
            let at = if role_ref.kind == "Role" { metadata.namespace.clone() } else { String::new() };
            let rules = rules.get(&(at, role_ref.name.clone()))?.clone();
            let full = if metadata.namespace.is_empty() {
                metadata.name.clone()
            } else {
                format!("{}/{}", metadata.name, metadata.namespace)
            };
            let by = format!("RBAC: allowed by {what} {full:?} of {} {:?}", role_ref.kind, role_ref.name);
            let subjects = resolved(subjects.unwrap_or_default(), &metadata.namespace);
            Some((metadata.namespace, Grant { subjects, rules, by }))
        };
        let mut compiled = Compiled::default();
        for binding in read::<Binding>(&self.cluster_bindings) {
            compiled.cluster.extend(grant(binding, "ClusterRoleBinding").map(|(_, g)| g));
        }
        for binding in read::<Binding>(&self.bindings) {
            if let Some((namespace, grant)) = grant(binding, "RoleBinding") {
                compiled.namespaced.entry(namespace).or_default().push(grant);
            }
        }
        compiled
    }

    /// All rules that apply to a user in a namespace.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let compiled = self.current();
        let local = compiled.namespaced.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let grants = compiled.cluster.iter().chain(local).filter(|g| g.applies_to(user));
        grants.flat_map(|g| g.rules.iter().cloned()).collect()
    }
}

fn read<T: serde::de::DeserializeOwned>(store: &ResourceStore) -> Vec<T> {
    let listing = store.readable("", &Matcher::default());
    let parse = |(key, object): (Arc<str>, Arc<kedge_storage::Object>)| {
        serde_json::from_slice(&object.stored())
            .inspect_err(|err| warn!(%key, error = %err, "a role or binding cannot be read and grants nothing"))
            .ok()
    };
    listing.objects.into_iter().filter_map(parse).collect()
}

/// A service account without a namespace is one of the binding's own.
fn resolved(mut subjects: Vec<Subject>, own: &str) -> Vec<Subject> {
    for subject in subjects.iter_mut().filter(|s| s.kind == "ServiceAccount" && s.namespace.is_empty()) {
        own.clone_into(&mut subject.namespace);
    }
    subjects
}

impl Grant {
    fn applies_to(&self, user: &UserInfo) -> bool {
        self.subject_of(user).is_some()
    }

    /// The first subject that the user is.
    fn subject_of(&self, user: &UserInfo) -> Option<&Subject> {
        self.subjects.iter().find(|subject| match subject.kind.as_str() {
            "User" => subject.name == user.name,
            "Group" => user.in_group(&subject.name),
            // Where there is no namespace at all, there is no account.
            "ServiceAccount" if subject.namespace.is_empty() => false,
            "ServiceAccount" => {
                let rest = user.name.strip_prefix("system:serviceaccount:");
                rest.and_then(|r| r.split_once(':')) == Some((subject.namespace.as_str(), subject.name.as_str()))
            }
            _ => false,
        })
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

impl PolicyRule {
    /// Whether the rule allows a request.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        if !has(&self.verbs, request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => request.path.starts_with(prefix),
                None => url == request.path,
            });
        }
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == request.name);
        named && has(&self.api_groups, request.group) && self.names_resource(request)
    }

    fn names_resource(&self, request: &Request<'_>) -> bool {
        self.resources.iter().any(|entry| {
            if request.subresource.is_empty() {
                return entry == "*" || entry == request.resource;
            }
            match entry.split_once('/') {
                Some((resource, subresource)) => {
                    (resource == "*" || resource == request.resource) && subresource == request.subresource
                }
                None => entry == "*",
            }
        })
    }
}

impl Authorizer for RbacAuthorizer {
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        self.decide(request).into()
    }

    fn rules_of(&self, user: &UserInfo, namespace: &str) -> Rules {
        Rules { rules: self.rules_for(user, namespace), ..Rules::default() }
    }
}

impl RbacAuthorizer {
    /// The decision, which never takes time.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let Some(user) = request.user else { return Decision::NoOpinion(String::new()) };
        let compiled = self.current();
        let local = compiled.namespaced.get(request.namespace).map(Vec::as_slice).unwrap_or_default();
        let local = if request.namespace.is_empty() { &[] } else { local };
        let granting = |g: &&Grant| g.applies_to(user) && g.rules.iter().any(|rule| rule.allows(request));
        let mut all = compiled.cluster.iter().chain(local);
        match all.find(granting).and_then(|grant| Some((grant, grant.subject_of(user)?))) {
            Some((grant, subject)) => Decision::Allow(format!("{} to {subject}", grant.by)),
            None => Decision::NoOpinion(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        PolicyRule { verbs: own(verbs), api_groups: own(groups), resources: own(resources), ..PolicyRule::default() }
    }

    fn request<'a>(verb: &'a str, resource: &'a str, subresource: &'a str) -> Request<'a> {
        Request { verb, resource, subresource, is_resource: true, ..Request::default() }
    }

    #[test]
    fn a_resource_does_not_grant_its_subresources() {
        let pods = rule(&["get"], &[""], &["pods"]);
        assert!(pods.allows(&request("get", "pods", "")));
        assert!(!pods.allows(&request("get", "pods", "log")));
        assert!(!pods.allows(&request("list", "pods", "")));
        assert!(rule(&["*"], &["*"], &["*/scale"]).allows(&request("update", "deployments", "scale")));
        assert!(!rule(&["get"], &["apps"], &["*"]).allows(&request("get", "pods", "")));
    }

    /// Such subjects once reached nobody, although the API accepts them in a RoleBinding.
    #[test]
    fn an_account_without_a_namespace_is_of_the_bindings_own() {
        let subject = |namespace: &str| Subject {
            kind: "ServiceAccount".into(),
            name: "app".into(),
            namespace: namespace.into(),
        };
        let grant = |subjects: Vec<Subject>, own: &str| Grant {
            subjects: resolved(subjects, own),
            rules: Arc::default(),
            by: String::new(),
        };
        let user = |name: &str| UserInfo::new(name, &[]);
        let here = grant(vec![subject("")], "here");
        assert!(here.applies_to(&user("system:serviceaccount:here:app")));
        assert!(!here.applies_to(&user("system:serviceaccount:there:app")));
        assert!(!here.applies_to(&user("system:serviceaccount:here:other")));
        let there = grant(vec![subject("there")], "here");
        assert!(there.applies_to(&user("system:serviceaccount:there:app")), "a namespace that is given counts");
        assert!(!grant(vec![subject("")], "").applies_to(&user("system:serviceaccount::app")), "no namespace at all");
    }

    #[test]
    fn names_and_paths_are_matched() {
        let mut named = rule(&["get"], &[""], &["secrets"]);
        named.resource_names = vec!["one".into()];
        assert!(named.allows(&Request { name: "one", ..request("get", "secrets", "") }));
        assert!(!named.allows(&Request { name: "two", ..request("get", "secrets", "") }));
        let urls = PolicyRule {
            verbs: vec!["get".into()],
            non_resource_urls: vec!["/healthz".into(), "/apis/*".into()],
            ..PolicyRule::default()
        };
        let path = |path| Request { verb: "get", path, ..Request::default() };
        assert!(urls.allows(&path("/apis/apps")) && urls.allows(&path("/healthz")) && !urls.allows(&path("/metrics")));
    }
}
