//! Fills in the rules of ClusterRoles that are put together from others by label.

use std::sync::Arc;

use kedge_client::{Error, Informer, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, keyed, nullable};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClusterRole {
    metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    rules: Vec<Value>,
    aggregation_rule: Option<AggregationRule>,
}
keyed!(ClusterRole);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<Value>,
}

struct Controller {
    ctx: Context,
    roles: Informer<ClusterRole>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let roles: Informer<ClusterRole> = ctx.informer(&resources::CLUSTER_ROLES);
    let queue = ctx.queue();
    let (q, r) = (queue.clone(), roles.clone());
    roles.on_change(move |change| {
        if change.new.as_ref().is_some_and(|role| role.aggregation_rule.is_some()) {
            q.add(change.key());
        }
        let aggregated = r.list().into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| q.add(role.metadata.key()));
    });
    let controller = Arc::new(Controller { ctx: ctx.clone(), roles: roles.clone() });
    let synced = async move { roles.synced().await };
    ctx.work("clusterrole-aggregation", &queue, 1, synced, controller, |c, key: ObjectKey| async move {
        c.reconcile(&key.name).await
    });
}

/// The rules of all roles that one of the selectors matches, each once.
fn aggregate(role: &ClusterRole, rule: &AggregationRule, roles: &[Arc<ClusterRole>]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in &rule.cluster_role_selectors {
        let selector = match Selector::from_label_selector(selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(role = role.metadata.name, error = %err, "a selector of an aggregated role cannot be used");
                continue;
            }
        };
        let others = roles.iter().filter(|r| r.metadata.name != role.metadata.name);
        for rule in others.filter(|r| selector.matches(&r.metadata.labels)).flat_map(|r| &r.rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Error> {
        let Some(role) = self.roles.get("", name) else { return Ok(()) };
        let Some(rule) = &role.aggregation_rule else { return Ok(()) };
        let rules = aggregate(&role, rule, &self.roles.list());
        if rules == role.rules {
            return Ok(());
        }
        let patch = json!({ "metadata": { "resourceVersion": role.metadata.resource_version }, "rules": rules });
        let patched = self.ctx.client.patch(&resources::CLUSTER_ROLES, "", name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_of_matching_roles_are_joined() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            let metadata = json!({"name": name, "labels": {"to": label}});
            Arc::new(serde_json::from_value(json!({"metadata": metadata, "rules": [{"verbs": [verb]}]})).unwrap())
        };
        let roles =
            [role("a", "view", "get"), role("b", "view", "get"), role("c", "edit", "update"), role("me", "view", "x")];
        let rule: AggregationRule =
            serde_json::from_value(json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]})).unwrap();
        assert_eq!(aggregate(&roles[3], &rule, &roles), [json!({"verbs": ["get"]})]);
    }
}
