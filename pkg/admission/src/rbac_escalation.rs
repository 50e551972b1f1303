//! Nobody grants through roles what it does not have itself.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::{Authorizer, MASTERS, PolicyRule, RbacAuthorizer, Request, uncovered};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, forbidden};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct RbacEscalation {
    /// What one has, as far as roles say.
    rbac: Arc<RbacAuthorizer>,
    /// Who may grant whatever it is.
    authorizer: Arc<dyn Authorizer>,
}

impl RbacEscalation {
    /// Upstream has it in the storage of roles, where it cannot be turned off.
    pub(crate) const NAME: &'static str = "RbacEscalation";

    pub(crate) fn new(rbac: Arc<RbacAuthorizer>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
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
        self.authorizer.authorize(&request).await.is_allowed()
    }

    /// The parts of the rules wanted that the user does not have.
    fn lacking(&self, attributes: &Attributes<'_>, wanted: &[PolicyRule]) -> Vec<PolicyRule> {
        uncovered(&self.rbac.rules_for(attributes.user, attributes.namespace), wanted)
    }
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

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        attributes.resource.group == GROUP && writes && !attributes.user.in_group(MASTERS)
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        if attributes.old.is_some_and(|old| differs_only_for_deletion(&attributes.object, old)) {
            return Ok(());
        }
        let name = attributes.object.name();
        let wanted = match &*attributes.resource.plural {
            "roles" | "clusterroles" => {
                if self.may(attributes, "escalate", &attributes.resource.plural, name).await {
                    return Ok(());
                }
                // What a role gathers from others may be anything, and grows later.
                let gathers = aggregates(&attributes.object) || attributes.old.is_some_and(aggregates);
                if gathers && !self.lacking(attributes, &everything()).is_empty() {
                    let why = "must have cluster-admin privileges to use the aggregationRule";
                    return Err(forbidden(attributes, why));
                }
                rules(&attributes.object)
            }
            _ => {
                let (kind, role) =
                    (attributes.object.text(&["roleRef", "kind"]), attributes.object.text(&["roleRef", "name"]));
                let plural = if kind == "Role" { "roles" } else { "clusterroles" };
                if self.may(attributes, "bind", plural, role).await {
                    return Ok(());
                }
                let key = if kind == "Role" { format!("{}/{role}", attributes.namespace) } else { role.to_owned() };
                let roles = registry.builtin(GROUP, "v1", plural);
                let object = roles.map(|s| s.store.get(&key)).transpose().map_err(store_failure)?;
                let Some(object) = object.flatten() else {
                    // Upstream's store takes what it looks for from the request, which is about a binding.
                    let resource = kedge_meta::GroupResource::new(GROUP, &attributes.resource.plural);
                    return Err(Status::not_found(&resource, role));
                };
                rules(&object.to_value().map_err(Status::internal)?)
            }
        };
        let lacking = self.lacking(attributes, &wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            attributes.user.name,
            kedge_auth::quoted(&attributes.user.groups),
            kedge_auth::described(&lacking)
        );
        Err(forbidden(attributes, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
