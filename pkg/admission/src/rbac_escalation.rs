//! Nobody grants through roles what it does not have itself.

use std::sync::Arc;

use kedge_auth::{Authorizer as _, Decision, MASTERS, PolicyRule, RbacAuthorizer, Request};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct RbacEscalation {
    rbac: Arc<RbacAuthorizer>,
}

impl RbacEscalation {
    pub(crate) fn new(rbac: Arc<RbacAuthorizer>) -> Self {
        Self { rbac }
    }

    fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let request = Request {
            user: Some(attributes.user),
            verb,
            group: GROUP,
            version: "v1",
            resource,
            namespace: attributes.namespace,
            name,
            is_resource: true,
            ..Request::default()
        };
        matches!(self.rbac.authorize(&request), Decision::Allow(_))
    }

    /// Whether the user's own rules allow everything that `wanted` allows.
    fn covers(&self, attributes: &Attributes<'_>, wanted: &[PolicyRule]) -> bool {
        let owned = self.rbac.rules_for(attributes.user, attributes.namespace);
        wanted.iter().flat_map(single).all(|rule| owned.iter().any(|own| includes(own, &rule)))
    }
}

/// A rule as rules of one verb, one group and one resource, or one path each.
fn single(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            out.push(PolicyRule { verbs: one(verb), non_resource_urls: one(url), ..PolicyRule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let base = PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(base);
                } else {
                    out.extend(
                        rule.resource_names.iter().map(|n| PolicyRule { resource_names: one(n), ..base.clone() }),
                    );
                }
            }
        }
    }
    out
}

/// Whether a rule of any size includes a single one.
fn includes(own: &PolicyRule, wanted: &PolicyRule) -> bool {
    let has = |own: &[String], wanted: &[String]| wanted.iter().all(|w| own.iter().any(|o| o == "*" || o == w));
    if !has(&own.verbs, &wanted.verbs) {
        return false;
    }
    if let Some(url) = wanted.non_resource_urls.first() {
        let covered = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => url.starts_with(prefix),
            None => own == url,
        };
        return own.non_resource_urls.iter().any(covered);
    }
    let resources = wanted.resources.iter().all(|w| {
        let all_of = w.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        own.resources.iter().any(|o| o == "*" || o == w || all_of.as_ref() == Some(o))
    });
    let names = own.resource_names.is_empty()
        || (!wanted.resource_names.is_empty() && wanted.resource_names.iter().all(|w| own.resource_names.contains(w)));
    has(&own.api_groups, &wanted.api_groups) && resources && names
}

/// Whether a change touches only what lets the garbage collector delete the object in the end.
fn differs_only_for_deletion(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            object.entry("metadata").remove(field);
        }
        object
    };
    rest(new) == rest(old)
}

/// Whether the rules of a role are gathered from others.
fn aggregates(role: &Value) -> bool {
    !role.list(&["aggregationRule", "clusterRoleSelectors"]).is_empty()
}

/// What only an administrator of the cluster has.
fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    let resources = PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() };
    [resources, PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() }]
}

fn rules(role: &Value) -> Vec<PolicyRule> {
    role.get("rules").cloned().and_then(|r| serde_json::from_value(r).ok()).unwrap_or_default()
}

impl Plugin for RbacEscalation {
    fn validate(&self, registry: &Registry, attributes: &Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if attributes.resource.group != GROUP || !writes || attributes.user.in_group(MASTERS) {
            return Ok(());
        }
        if attributes.old.is_some_and(|old| differs_only_for_deletion(&attributes.object, old)) {
            return Ok(());
        }
        let name = attributes.object.name();
        let wanted = match &*attributes.resource.plural {
            "roles" | "clusterroles" => {
                if self.may(attributes, "escalate", &attributes.resource.plural, name) {
                    return Ok(());
                }
                // What a role gathers from others may be anything, and grows later.
                let gathers = aggregates(&attributes.object) || attributes.old.is_some_and(aggregates);
                if gathers && !self.covers(attributes, &everything()) {
                    let why = "must have cluster-admin privileges to use the aggregationRule";
                    return Err(forbidden(attributes, why));
                }
                rules(&attributes.object)
            }
            _ => {
                let (kind, role) =
                    (attributes.object.text(&["roleRef", "kind"]), attributes.object.text(&["roleRef", "name"]));
                let plural = if kind == "Role" { "roles" } else { "clusterroles" };
                if self.may(attributes, "bind", plural, role) {
                    return Ok(());
                }
                let key = if kind == "Role" { format!("{}/{role}", attributes.namespace) } else { role.to_owned() };
                let roles = registry.builtin(GROUP, "v1", plural);
                let object = roles.map(|s| s.store.get(&key)).transpose().map_err(store_failure)?;
                let Some(object) = object.flatten() else {
                    let resource = kedge_meta::GroupResource::new(GROUP, plural);
                    return Err(Status::not_found(&resource, role));
                };
                rules(&object.to_value().map_err(Status::internal)?)
            }
        };
        if self.covers(attributes, &wanted) {
            return Ok(());
        }
        let why = format!(
            "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held",
            attributes.user.name, attributes.user.groups
        );
        Err(forbidden(attributes, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: vec![group.into()],
            resources: own(resources),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn what_is_granted_must_be_held() {
        let held = rule(&["get", "list"], "", &["pods"]);
        let all = |wanted: &PolicyRule| single(wanted).iter().all(|w| includes(&held, w));
        assert!(all(&rule(&["get"], "", &["pods"])));
        assert!(!all(&rule(&["get", "delete"], "", &["pods"])));
        assert!(!all(&rule(&["get"], "", &["pods", "secrets"])));
        assert!(!all(&rule(&["*"], "", &["pods"])));
        let mut narrow = held.clone();
        narrow.resource_names = vec!["one".into()];
        assert!(!includes(&narrow, &rule(&["get"], "", &["pods"])), "one name is not all names");
        let admin = everything();
        assert!(everything().iter().flat_map(single).all(|wanted| admin.iter().any(|own| includes(own, &wanted))));
        assert!(
            !everything().iter().flat_map(single).all(|wanted| includes(&admin[0], &wanted)),
            "paths are no resources"
        );
    }

    /// A label on a role that grants more than one has is a change like another.
    #[test]
    fn only_what_leads_to_deletion_is_let_through() {
        use serde_json::json;
        let old = json!({"metadata": {"name": "r", "finalizers": ["a/b"], "resourceVersion": "1"}, "rules": []});
        let without = json!({"metadata": {"name": "r", "resourceVersion": "2"}, "rules": []});
        assert!(differs_only_for_deletion(&without, &old));
        let labelled = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": []});
        assert!(!differs_only_for_deletion(&labelled, &old));
    }
}
