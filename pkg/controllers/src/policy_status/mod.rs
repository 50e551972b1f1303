//! Checks the expressions of ValidatingAdmissionPolicies against the types that they are about, and says in their status what does not fit.
//!
//! What it says keeps no policy from being in force.

mod schemas;
mod types;

use std::sync::Arc;

use kedge_cel::admission::TypeCheck;
use kedge_cel::decl::Decl;
use kedge_client::{Error, Informer, Patch};
use kedge_meta::{GroupVersionKind, ObjectKey, resources};
use serde_json::{Value, json};

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::Meta;
use schemas::Schemas;
use types::{Policy, Spec};

/// As many types are checked for a policy.
const MAX_TYPES: usize = 10;

struct Controller {
    ctx: Context,
    policies: Informer<Policy>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let policies: Informer<Policy> = ctx.informer(&resources::VALIDATING_ADMISSION_POLICIES);
    let queue = ctx.queue();
    enqueue_changes(&policies, &queue);
    let controller = Arc::new(Controller { ctx: ctx.clone(), policies: policies.clone() });
    let synced = async move { policies.synced().await };
    ctx.work("validatingadmissionpolicy-status", &queue, 1, synced, controller, |c, key: ObjectKey| async move {
        c.reconcile(&key.name).await
    });
}

/// A warning, as it is in the status.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning {
    field_ref: String,
    warning: String,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Error> {
        let Some(policy) = self.policies.get("", name) else { return Ok(()) };
        if policy.metadata.generation <= policy.status.observed_generation {
            return Ok(());
        }
        let warnings = self.check(&policy.spec).await?;
        // Without warnings those that there were go.
        let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
        let patch = json!({
            "metadata": {"uid": policy.metadata.uid},
            "status": {
                "observedGeneration": policy.metadata.generation,
                "typeChecking": {"expressionWarnings": warnings},
            },
        });
        let resource = &resources::VALIDATING_ADMISSION_POLICIES;
        let patched = self.ctx.client.patch(resource, "", name, Patch::Merge(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn check(&self, spec: &Spec) -> Result<Vec<Warning>, Error> {
        let mut schemas = Schemas::new(&self.ctx.client);
        let params = match &spec.param_kind {
            Some(kind) => Some(schemas.decl(&kind.gvk()).await?),
            None => None,
        };
        let mut checks = Vec::new();
        for kind in kinds(&mut schemas, spec).await? {
            if let Some(decl) = schemas.decl(&kind).await? {
                checks.push((kind, check_of(spec, &decl, params.as_ref())));
            }
        }
        Ok(warnings(spec, &checks))
    }
}

fn check_of(spec: &Spec, object: &Arc<Decl>, params: Option<&Option<Arc<Decl>>>) -> TypeCheck {
    let variables: Vec<_> = spec.variables.iter().map(|it| (&*it.name, &*it.expression)).collect();
    TypeCheck::new(Some(object), params.map(Option::as_ref), &variables)
}

/// The kinds that a policy names, each once, in order. What it leaves open is not looked at.
async fn kinds(schemas: &mut Schemas<'_>, spec: &Spec) -> Result<Vec<GroupVersionKind>, Error> {
    let mut found: Vec<GroupVersionKind> = Vec::new();
    for rule in &spec.match_constraints.resource_rules {
        let mut count = 0;
        for (group, version, resource) in rule.named() {
            if count == MAX_TYPES {
                break;
            }
            if let Some(kind) = schemas.kind(group, version, resource).await? {
                count += 1;
                if !found.contains(&kind) {
                    found.push(kind);
                }
            }
        }
        if count == MAX_TYPES {
            break;
        }
    }
    found.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
    Ok(found)
}

fn warnings(spec: &Spec, checks: &[(GroupVersionKind, TypeCheck)]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, validation) in spec.validations.iter().enumerate() {
        for (field, text) in
            [("expression", &validation.expression), ("messageExpression", &validation.message_expression)]
        {
            if text.is_empty() && field == "messageExpression" {
                continue;
            }
            let complaints = checks.iter().filter_map(|(kind, check)| Some((kind, check.complaint(text)?)));
            let told: Vec<String> = complaints.map(|(kind, why)| format!("{}: {why}\n", shown(kind))).collect();
            if !told.is_empty() {
                let field_ref = format!("spec.validations[{index}].{field}");
                warnings.push(Warning { field_ref, warning: told.join("\n") });
            }
        }
    }
    warnings
}

/// As Go prints it.
fn shown(kind: &GroupVersionKind) -> String {
    format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_does_not_fit_a_type_is_told_for_each_type() {
        let spec: Spec = serde_json::from_value(json!({
            "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "validations": [
                {"expression": "variables.n > 1"},
                {"expression": "object.spec.replicsa > 1", "messageExpression": "'x' + object.spec.replicas"},
            ],
        }))
        .unwrap();
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
        let decl = Arc::new(Decl::from_schema(&schema, "Deployment", true));
        let kind = |kind: &str| GroupVersionKind::new("apps", "v1", kind);
        let checks: Vec<_> = ["Deployment", "ReplicaSet"].map(|name| (kind(name), check_of(&spec, &decl, None))).into();
        let found = warnings(&spec, &checks);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].field_ref, "spec.validations[1].expression");
        let error = "ERROR: <input>:1:12: undefined field 'replicsa'\n | object.spec.replicsa > 1\n | ...........^\n";
        let told = format!("apps/v1, Kind=Deployment: {error}\napps/v1, Kind=ReplicaSet: {error}");
        assert_eq!(found[0].warning, told);
        assert_eq!(found[1].field_ref, "spec.validations[1].messageExpression");
    }
}
