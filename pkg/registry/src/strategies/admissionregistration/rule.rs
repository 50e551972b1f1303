//! Rules of webhooks and of policies: which requests they are about.

use kedge_meta::field::{Error, ErrorList};

use super::super::validation::{At, Report};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// A rule of a webhook or of a policy.
pub(super) fn rule(at: &At<'_>, errors: &mut ErrorList) {
    let operations = at.child("operations");
    if operations.len() == 0 {
        errors.push(operations.required(""));
    }
    alone(&operations, "operations", errors);
    operations.items().for_each(|operation| errors.one_of(&operation, &OPERATIONS));
    let (groups, versions) = (at.child("apiGroups"), at.child("apiVersions"));
    if groups.len() == 0 {
        errors.push(groups.required(""));
    }
    alone(&groups, "API groups", errors);
    if versions.len() == 0 {
        errors.push(versions.required(""));
    }
    alone(&versions, "API versions", errors);
    for version in versions.items().filter(|version| version.text().is_empty()) {
        errors.push(version.required(""));
    }
    resources(&at.child("resources"), errors);
    errors.one_of(&at.child("scope"), &["*", "Cluster", "Namespaced"]);
}

fn alone(list: &At<'_>, what: &str, errors: &mut ErrorList) {
    if list.len() > 1 && list.items().any(|one| one.text() == "*") {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

fn resources(list: &At<'_>, errors: &mut ErrorList) {
    if list.len() == 0 {
        errors.push(list.required(""));
    }
    // As upstream: each is held against those before it.
    let (mut all_of, mut everywhere): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let (mut everything, mut all, mut one) = (false, false, false);
    for resource in list.items() {
        let text = resource.text();
        if text.is_empty() {
            errors.push(resource.required(""));
            continue;
        }
        everything |= text == "*/*";
        all |= text == "*";
        let Some((name, sub)) = text.split_once('/') else {
            one = text != "*";
            continue;
        };
        let mut excluded = |by: String| {
            let why = format!("if '{by}' is present, must not specify {text}");
            errors.push(Error::invalid(&resource.path, text, why));
        };
        if all_of.contains(&name) {
            excluded(format!("{name}/*"));
        }
        if everywhere.contains(&sub) {
            excluded(format!("*/{sub}"));
        }
        if sub == "*" {
            all_of.push(name);
        }
        if name == "*" {
            everywhere.push(sub);
        }
    }
    if list.len() > 1 && everything {
        errors.push(list.invalid("if '*/*' is present, must not specify other resources"));
    }
    if all && one {
        errors.push(list.invalid("if '*' is present, must not specify other resources without subresources"));
    }
}
