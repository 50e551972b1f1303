//! Admission policies and their bindings.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report};
use super::rule::rule;
use crate::strategy::{Context, Strategy};

pub(crate) struct AdmissionPolicy;

impl Strategy for AdmissionPolicy {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.one_of(&spec.child("failurePolicy"), &["Fail", "Ignore"]);
        let constraints = spec.child("matchConstraints");
        if !constraints.is_set() {
            errors.push(constraints.required(""));
        } else if constraints.child("resourceRules").len() == 0 {
            errors.push(constraints.child("resourceRules").required(""));
        }
        constraints.child("resourceRules").items().for_each(|at| rule(&at, &mut errors));
        for field in ["namespaceSelector", "objectSelector"] {
            label_selector(&constraints.child(field), &mut errors);
        }
        for validation in spec.child("validations").items() {
            errors.need_text(&validation.child("expression"));
        }
        for variable in spec.child("variables").items() {
            errors.need_text(&variable.child("name"));
            errors.need_text(&variable.child("expression"));
        }
        let (checks, notes) = (spec.child("validations"), spec.child("auditAnnotations"));
        if object.get("kind").is_some_and(|kind| kind == "ValidatingAdmissionPolicy") && checks.len() + notes.len() == 0
        {
            errors.push(checks.required("validations or auditAnnotations must contain at least one item"));
        }
        errors
    }
}

pub(crate) struct AdmissionPolicyBinding;

impl Strategy for AdmissionPolicyBinding {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.need_text(&spec.child("policyName"));
        let actions = spec.child("validationActions");
        if object.get("kind").is_some_and(|kind| kind == "ValidatingAdmissionPolicyBinding") && actions.len() == 0 {
            errors.push(actions.required("at least one validation action is required"));
        }
        actions.items().for_each(|action| errors.one_of(&action, &["Audit", "Deny", "Warn"]));
        let has = |name: &str| actions.items().any(|action| action.text() == name);
        if has("Deny") && has("Warn") {
            errors.push(actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"));
        }
        let parameter = spec.child("paramRef");
        if parameter.is_set() {
            let (name, selector) = (parameter.child("name"), parameter.child("selector"));
            match (name.text().is_empty(), selector.is_set()) {
                (true, false) => {
                    errors.push(Error::required(&parameter.path, "one of name or selector must be specified"))
                }
                (false, true) => {
                    errors.push(name.forbidden("name and selector are mutually exclusive"));
                }
                _ => label_selector(&selector, &mut errors),
            }
            errors.one_of(&parameter.child("parameterNotFoundAction"), &["Allow", "Deny"]);
        }
        errors
    }
}
