//! MutatingAdmissionPolicy.

use kedge_cel::admission::{Compiler, Purpose};
use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use super::expressions::{Known, refused, texts};
use super::matching::mutating_operations;
use super::policy::{common, has_params, match_conditions, spec_of, variables};
use super::reserved::of_name;
use crate::strategy::{Context, Strategy};

pub(crate) struct MutatingPolicy;

const APPLY: &str = "ApplyConfiguration";
const PATCH: &str = "JSONPatch";

impl Strategy for MutatingPolicy {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }

    fn warnings(&self, _ctx: &Context<'_>, object: &Value, _old: Option<&Value>) -> Vec<String> {
        of_name(object)
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, old) = (At::field(object, "spec"), spec_of(old));
    common(&spec, &mut errors);
    mutating_operations(&spec.child("matchConstraints"), &mut errors);
    match_conditions(&spec, old.as_ref(), &mut errors);
    let mut compiler = Compiler::composing(has_params(&spec));
    variables(&spec, &Known::new(), &mut compiler, &mut errors);
    let mutations = spec.child("mutations");
    if mutations.len() == 0 {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    let stored = |field: &str| {
        old.as_ref().map(|old| texts(&old.child("mutations"), &[field, "expression"])).unwrap_or_default()
    };
    let known = [stored("applyConfiguration"), stored("jsonPatch")].concat();
    mutations.items().for_each(|one| mutation(&one, &known, &mut compiler, &mut errors));
    let reinvocation = spec.child("reinvocationPolicy");
    if errors.need_text(&reinvocation) {
        errors.one_of(&reinvocation, &["IfNeeded", "Never"]);
    }
    errors
}

fn mutation(at: &At<'_>, known: &Known<'_>, compiler: &mut Compiler, errors: &mut ErrorList) {
    let kind = at.child("patchType");
    let (own, other, purpose) = match kind.text() {
        PATCH => ("jsonPatch", "applyConfiguration", Purpose::JsonPatch),
        APPLY => ("applyConfiguration", "jsonPatch", Purpose::ApplyConfiguration),
        "" => return errors.push(kind.required("")),
        _ => return errors.push(kind.not_supported(&[APPLY, PATCH])),
    };
    let (own, other) = (at.child(own), at.child(other));
    let expression = own.child("expression");
    let text = expression.text().trim();
    if !own.is_set() {
        errors.push(own.required(&format!("must be specified when patchType is {}", kind.text())));
    } else if text.is_empty() {
        errors.push(expression.required(""));
    } else if let Err(why) = compiler.compile(text, purpose, known.contains(&expression.text())) {
        errors.push(refused(&expression.path, text, &why));
    }
    if other.is_set() {
        let shown = if purpose == Purpose::JsonPatch { "{applyConfiguration}" } else { "{jsonPatch}" };
        let why = format!("must not be specified when patchType is {}", kind.text());
        errors.push(Error::invalid(&other.path, shown, why));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn said(operation: &str, fields: Value) -> Vec<String> {
        let rule = json!({"operations": [operation], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"});
        let constraints = json!({"resourceRules": [rule], "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
        let mutation =
            json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}});
        let mut spec = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": constraints, "mutations": [mutation]});
        fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
        let errors = validate(&json!({"metadata": {"name": "p"}, "spec": spec}), None);
        errors.iter().map(|error| error.to_string().replacen("spec.", "", 1)).collect()
    }

    #[test]
    fn mutations_are_checked_in_upstreams_words() {
        assert_eq!(said("CREATE", json!({})), [""; 0]);
        let deleting = "matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \
                        \"CREATE\", \"UPDATE\"";
        assert_eq!(said("DELETE", json!({})), [deleting]);
        assert_eq!(
            said("CREATE", json!({"mutations": []})),
            ["mutations: Required value: mutations must contain at least one item"]
        );
        assert_eq!(said("CREATE", json!({"reinvocationPolicy": ""})), ["reinvocationPolicy: Required value"]);
        let of = |mutation: Value| said("CREATE", json!({"mutations": [mutation]}));
        assert_eq!(of(json!({})), ["mutations[0].patchType: Required value"]);
        assert_eq!(
            of(json!({"patchType": "JSONPatch", "applyConfiguration": {}})),
            [
                "mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
            ]
        );
        let wrong = of(json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": " 1 "}}));
        assert_eq!(
            wrong,
            ["mutations[0].applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object but got int"]
        );
    }
}
