//! Bindings of admission policies.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use super::matching::{mutating_operations, param_ref, resources};
use super::reserved::of_name;
use crate::strategy::{Context, Strategy};

/// A binding of a policy of either kind.
pub(crate) struct PolicyBinding;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const BOTH: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and \
                    headers serves no purpose)";

impl Strategy for PolicyBinding {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, ctx.resource.plural == "mutatingadmissionpolicybindings")
    }

    fn warnings(&self, _ctx: &Context<'_>, object: &Value, _old: Option<&Value>) -> Vec<String> {
        of_name(object)
    }
}

fn validate(object: &Value, mutating: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(object, "spec");
    errors.need_name(&spec.child("policyName"), names::is_dns1123_subdomain);
    param_ref(&spec.child("paramRef"), &mut errors);
    let matched = spec.child("matchResources");
    resources(&matched, &mut errors);
    if mutating {
        mutating_operations(&matched, &mut errors);
    } else {
        actions(&spec.child("validationActions"), &mut errors);
    }
    errors
}

fn actions(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for action in at.items() {
        if !ACTIONS.contains(&action.text()) {
            errors.push(Error::not_supported(&action.path, action.value, &ACTIONS));
        }
        if seen.contains(&action.text()) {
            errors.push(action.duplicate());
        }
        seen.push(action.text());
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        errors.push(at.invalid(BOTH));
    }
    if seen.is_empty() {
        errors.push(at.required("at least one validation action is required"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn said(fields: Value, mutating: bool) -> Vec<String> {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
        validate(&json!({"spec": spec}), mutating)
            .iter()
            .map(|error| error.to_string().replacen("spec.", "", 1))
            .collect()
    }

    #[test]
    fn bindings_are_checked_in_upstreams_words() {
        assert_eq!(said(json!({}), false), [""; 0]);
        assert_eq!(said(json!({"policyName": ""}), false), ["policyName: Required value"]);
        assert_eq!(
            said(json!({"validationActions": []}), false),
            ["validationActions: Required value: at least one validation action is required"]
        );
        let twice = said(json!({"validationActions": ["Deny", "Deny", "x"]}), false);
        assert_eq!(
            twice,
            [
                "validationActions[1]: Duplicate value: \"Deny\"",
                "validationActions[2]: Unsupported value: \"x\": supported values: \"Audit\", \"Deny\", \"Warn\"",
            ]
        );
        assert!(
            said(json!({"validationActions": ["Deny", "Warn"]}), false)[0]
                .contains("must not contain both Deny and Warn")
        );
        let reference = |fields: Value| said(json!({"paramRef": fields}), true);
        assert_eq!(reference(json!({"name": "x", "parameterNotFoundAction": "Allow"})), [""; 0]);
        assert_eq!(
            reference(json!({})),
            [
                "paramRef: Required value: one of name or selector must be specified",
                "paramRef.parameterNotFoundAction: Required value",
            ]
        );
        let both = reference(json!({"name": "x", "selector": {}, "parameterNotFoundAction": "Maybe"}));
        assert_eq!(
            both,
            [
                "paramRef.name: Forbidden: name and selector are mutually exclusive",
                "paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "paramRef.parameterNotFoundAction: Unsupported value: \"Maybe\": supported values: \"Deny\", \"Allow\"",
            ]
        );
    }
}
