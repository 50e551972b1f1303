//! What policies and their bindings are about, and with which parameters.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report};
use super::rule::rule;

const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const EXCLUSIVE: &str = "name and selector are mutually exclusive";

/// `MatchResources`.
pub(super) fn resources(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let policy = at.child("matchPolicy");
    if policy.is_set() {
        errors.one_of(&policy, &["Equivalent", "Exact"]);
    } else {
        errors.push(policy.required(""));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        let selector = at.child(field);
        if selector.is_set() {
            label_selector(&selector, errors);
        } else {
            errors.push(selector.required(""));
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        at.child(field).items().for_each(|one| named_rule(&one, errors));
    }
}

fn named_rule(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for name in at.child("resourceNames").items() {
        errors.complaints(&name, names::is_path_segment_name(name.text()));
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
    rule(at, errors);
}

/// `matchConstraints` of a policy: there must be rules, which say what its expressions are about.
pub(super) fn constraints(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return errors.push(at.required(""));
    }
    resources(at, errors);
    let rules = at.child("resourceRules");
    if rules.len() == 0 {
        errors.push(rules.required(""));
    }
}

/// What is deleted cannot be changed.
pub(super) fn mutating_operations(at: &At<'_>, errors: &mut ErrorList) {
    let rules = at.child("resourceRules");
    let path = rules.path.child("operations");
    for operation in rules.items().flat_map(|rule| rule.child("operations").items().collect::<Vec<_>>()) {
        if !MUTATING_OPERATIONS.contains(&operation.text()) {
            errors.push(Error::not_supported(&path, operation.value, &MUTATING_OPERATIONS));
        }
    }
}

/// `paramKind`.
pub(super) fn param_kind(at: &At<'_>, errors: &mut ErrorList) {
    let (api_version, kind) = (at.child("apiVersion"), at.child("kind"));
    let text = api_version.text();
    match text.split('/').collect::<Vec<_>>()[..] {
        _ if text.is_empty() => errors.push(api_version.required("")),
        ["", ""] => version(&api_version, "", errors),
        [own] => version(&api_version, own, errors),
        [group, own] => {
            let complaints = if group.is_empty() { Vec::new() } else { names::is_dns1123_subdomain(group) };
            if !complaints.is_empty() {
                errors.push(Error::invalid(&api_version.path, group, complaints.join(",")));
            }
            version(&api_version, own, errors);
        }
        _ => errors.push(api_version.invalid(format!("unexpected GroupVersion string: {text}"))),
    }
    if errors.need_text(&kind) {
        let complaints = names::is_dns1035_label(&kind.text().to_lowercase());
        if !complaints.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", complaints.join(","));
            errors.push(kind.invalid(why));
        }
    }
}

fn version(at: &At<'_>, version: &str, errors: &mut ErrorList) {
    if version.is_empty() {
        return errors.push(at.invalid("version must be specified"));
    }
    let complaints = names::is_dns1035_label(version);
    if !complaints.is_empty() {
        errors.push(Error::invalid(&at.path, version, complaints.join(",")));
    }
}

/// `paramRef`.
pub(super) fn param_ref(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let (name, selector, action) = (at.child("name"), at.child("selector"), at.child("parameterNotFoundAction"));
    if !name.text().is_empty() {
        errors.complaints(&name, names::is_path_segment_name(name.text()));
        if selector.is_set() {
            errors.push(name.forbidden(EXCLUSIVE));
        }
    }
    if selector.is_set() {
        label_selector(&selector, errors);
        if !name.text().is_empty() {
            errors.push(selector.forbidden(EXCLUSIVE));
        }
    }
    if name.text().is_empty() && !selector.is_set() {
        errors.push(at.required("one of name or selector must be specified"));
    }
    match action.text() {
        "" => errors.push(action.required("")),
        "Deny" | "Allow" => {}
        _ => errors.push(action.not_supported(&["Deny", "Allow"])),
    }
}
