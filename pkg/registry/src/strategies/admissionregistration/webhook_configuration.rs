//! Webhook configurations.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report, webhook as hooks};
use super::expressions::{Known, conditions};
use super::reserved::of_name;
use super::rule::rule;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt as _;

pub(crate) struct WebhookConfiguration;

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];
const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// What is asked of a configuration. What an older server let pass need not be mended with the next update.
#[derive(Clone, Copy)]
struct Demands {
    harmless: bool,
    known_review: bool,
    unique_names: bool,
    valid_values: bool,
    conditions: bool,
}

impl Demands {
    const ALL: Self =
        Self { harmless: true, known_review: true, unique_names: true, valid_values: true, conditions: true };

    /// What can be asked of the successor of `old`.
    fn after(new: &Value, old: &Value) -> Self {
        let hooks = old.list(&["webhooks"]);
        let reviews =
            |hook: &Value| hook.list(&["admissionReviewVersions"]).iter().filter_map(Value::as_str).any(is_review);
        let (mut all, mut names) = (ErrorList::new(), Vec::new());
        At::field(old, "webhooks").items().for_each(|hook| selectors(&hook, true, &mut all));
        hooks.iter().for_each(|hook| names.push(hook.text(&["name"])));
        names.sort_unstable();
        let conditions = |of: &Value| {
            of.list(&["webhooks"]).iter().map(|hook| hook.list(&["matchConditions"]).to_vec()).collect::<Vec<_>>()
        };
        Self {
            harmless: hooks.iter().all(|hook| HARMLESS.contains(&hook.text(&["sideEffects"]))),
            known_review: hooks.iter().all(|hook| hook.list(&["admissionReviewVersions"]).is_empty() || reviews(hook)),
            unique_names: names.windows(2).all(|pair| pair[0] != pair[1]),
            valid_values: all.is_empty(),
            conditions: conditions(new) != conditions(old),
        }
    }
}

impl Strategy for WebhookConfiguration {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, Demands::ALL, &Known::new())
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Demands::after(new, old), &known(old))
    }

    fn warnings(&self, _ctx: &Context<'_>, object: &Value, _old: Option<&Value>) -> Vec<String> {
        of_name(object)
    }
}

/// The expressions of a configuration.
fn known(object: &Value) -> Known<'_> {
    let conditions = object.list(&["webhooks"]).iter().flat_map(|hook| hook.list(&["matchConditions"]));
    conditions.map(|condition| condition.text(&["expression"])).collect()
}

fn validate(object: &Value, demands: Demands, known: &Known<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen: Vec<&str> = Vec::new();
    let mutating = object["kind"] == "MutatingWebhookConfiguration";
    for hook in At::field(object, "webhooks").items() {
        webhook(&hook, mutating, demands, &mut errors);
        if demands.conditions {
            conditions(&hook.child("matchConditions"), false, known, &mut errors);
        }
        reviews(&hook.child("admissionReviewVersions"), demands, &mut errors);
        let name = hook.child("name");
        if demands.unique_names && !name.text().is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
    errors
}

fn webhook(at: &At<'_>, mutating: bool, demands: Demands, errors: &mut ErrorList) {
    qualified(&at.child("name"), errors);
    at.child("rules").items().for_each(|one| rule(&one, errors));
    errors.one_of(&at.child("failurePolicy"), &["Fail", "Ignore"]);
    errors.one_of(&at.child("matchPolicy"), &["Equivalent", "Exact"]);
    let effects = at.child("sideEffects");
    let allowed: &[&str] = if demands.harmless { &HARMLESS } else { &EFFECTS };
    if effects.is_set() {
        errors.one_of(&effects, allowed);
    } else {
        errors.push(effects.required(&format!("must specify one of {}", allowed.join(", "))));
    }
    let timeout = at.child("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    selectors(at, demands.valid_values, errors);
    if mutating {
        errors.one_of(&at.child("reinvocationPolicy"), &["IfNeeded", "Never"]);
    }
    hooks::place(&at.child("clientConfig"), errors);
}

/// A name in a domain of somebody's.
fn qualified(name: &At<'_>, errors: &mut ErrorList) {
    if !errors.need_text(name) {
        return;
    }
    let complaints = names::is_dns1123_subdomain(name.text());
    if !complaints.is_empty() {
        errors.push(name.invalid(complaints.join(",")));
    } else if name.text().split('.').count() < 3 {
        errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn selectors(at: &At<'_>, strictly: bool, errors: &mut ErrorList) {
    let mut found = ErrorList::new();
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(&at.child(field), &mut found);
    }
    // Values of labels that cannot exist select nothing, and do no harm.
    errors.extend(found.into_iter().filter(|error| strictly || !is_about_a_value(&error.field)));
}

fn is_about_a_value(path: &str) -> bool {
    path.contains("].values[")
}

fn is_review(version: &str) -> bool {
    REVIEWS.contains(&version)
}

fn reviews(versions: &At<'_>, demands: Demands, errors: &mut ErrorList) {
    let known = REVIEWS.join(", ");
    if versions.len() == 0 {
        return errors.push(versions.required(&format!("must specify one of {known}")));
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        seen.push(version.text());
        errors.complaints(&version, names::is_dns1035_label(version.text()));
    }
    if demands.known_review && !seen.into_iter().any(is_review) {
        errors.push(versions.invalid(format!("must include at least one of {known}")));
    }
}

#[cfg(test)]
#[path = "webhook_configuration_tests.rs"]
mod tests;
