//! Webhook configurations.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct WebhookConfiguration;

impl Strategy for WebhookConfiguration {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut seen: Vec<&str> = Vec::new();
        for hook in At::field(object, "webhooks").items() {
            webhook(&hook, &mut errors);
            let name = hook.child("name");
            if !name.text().is_empty() && seen.contains(&name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
            seen.push(name.text());
        }
        errors
    }
}

fn webhook(at: &At<'_>, errors: &mut ErrorList) {
    let name = at.child("name");
    if errors.need_text(&name) {
        let complaints = names::is_dns1123_subdomain(name.text());
        if complaints.is_empty() && name.text().split('.').count() < 3 {
            errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
        }
        errors.complaints(&name, complaints);
    }
    at.child("rules").items().for_each(|one| rule(&one, errors));
    errors.one_of(&at.child("failurePolicy"), &["Fail", "Ignore"]);
    errors.one_of(&at.child("matchPolicy"), &["Equivalent", "Exact"]);
    errors.one_of(&at.child("reinvocationPolicy"), &["IfNeeded", "Never"]);
    let effects = at.child("sideEffects");
    if effects.is_set() {
        errors.one_of(&effects, &["None", "NoneOnDryRun"]);
    } else {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = at.child("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    label_selector(&at.child("namespaceSelector"), errors);
    label_selector(&at.child("objectSelector"), errors);
    client(&at.child("clientConfig"), errors);
    let versions = at.child("admissionReviewVersions");
    if versions.len() == 0 {
        errors.push(versions.required("must specify one of v1, v1beta1"));
    } else if !versions.items().any(|version| matches!(version.text(), "v1" | "v1beta1")) {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for condition in at.child("matchConditions").items() {
        let name = condition.child("name");
        errors.need_name(&name, names::is_qualified_name);
        errors.need_text(&condition.child("expression"));
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
}

/// A rule of a webhook or of a policy.
pub(super) fn rule(at: &At<'_>, errors: &mut ErrorList) {
    let operations = at.child("operations");
    if operations.len() == 0 {
        errors.push(operations.required(""));
    }
    let valid = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    operations.items().for_each(|operation| errors.one_of(&operation, &valid));
    for field in ["apiGroups", "apiVersions", "resources"] {
        let list = at.child(field);
        if list.len() == 0 {
            errors.push(list.required(""));
        }
        if list.len() > 1 && list.items().any(|value| value.text() == "*") {
            errors.push(list.invalid("if '*' is present, must not specify other values"));
        }
    }
    errors.one_of(&at.child("scope"), &["*", "Cluster", "Namespaced"]);
}

fn client(at: &At<'_>, errors: &mut ErrorList) {
    let (url, service) = (at.child("url"), at.child("service"));
    match (url.is_set(), service.is_set()) {
        (true, true) | (false, false) => errors.push(at.required("exactly one of url or service is required")),
        (true, false) => {
            if !url.text().starts_with("https://") {
                let rule = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                errors.push(url.invalid(rule));
            }
            if url.text().contains(['?', '#']) {
                errors.push(url.invalid("query parameters and fragments are not permitted"));
            }
        }
        (false, true) => {
            errors.need_text(&service.child("name"));
            errors.need_text(&service.child("namespace"));
            let port = service.child("port");
            if port.is_set() {
                errors.complaints(&port, names::is_valid_port_num(port.int().unwrap_or_default()));
            }
        }
    }
}
