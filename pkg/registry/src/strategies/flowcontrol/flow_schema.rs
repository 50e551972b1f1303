//! Flow schemas.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::{Value, json};

use super::super::validation::{At, Report};
use super::{EVERYBODY, everything};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt as _;

const MAX_PRECEDENCE: i64 = 10_000;
const DISTINGUISHED: [&str; 2] = ["ByNamespace", "ByUser"];
/// The one schema that may be asked first.
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(crate) struct FlowSchema;

impl Strategy for FlowSchema {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let precedence = spec.child("matchingPrecedence");
        match precedence.int().unwrap_or_default() {
            number if number <= 0 => errors.push(precedence.invalid("must be a positive value")),
            number if number > MAX_PRECEDENCE => {
                errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
            }
            1 if object.name() != EXEMPT => {
                errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
            }
            _ => {}
        }
        let method = spec.child("distinguisherMethod");
        let kind = method.child("type");
        if method.is_set() && !DISTINGUISHED.contains(&kind.text()) {
            // Upstream shows the method as a whole.
            errors.push(Error::not_supported_of(&kind.path, method.value, &DISTINGUISHED));
        }
        let level = spec.child("priorityLevelConfiguration").child("name");
        if level.text().is_empty() {
            errors.push(level.required("must reference a priority level"));
        }
        errors.name(&level, names::is_dns1123_subdomain);
        for rule in spec.child("rules").items() {
            policy_rule(&rule, &mut errors);
        }
        if let Some(fixed) = fixed(object.name())
            && object["spec"] != fixed
        {
            errors.push(spec.invalid(format!("spec of '{}' must equal the fixed value", object.name())));
        }
        errors
    }
}

/// What a schema that must always be there says: upstream writes it anew whenever it says something else.
fn fixed(name: &str) -> Option<Value> {
    let group = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
    let rules = |groups: &[&str]| {
        let (resources, paths) = everything();
        json!([{"subjects": groups.iter().map(group).collect::<Value>(), "resourceRules": resources, "nonResourceRules": paths}])
    };
    match name {
        EXEMPT => Some(json!({
            "priorityLevelConfiguration": {"name": EXEMPT}, "matchingPrecedence": 1, "rules": rules(&["system:masters"]),
        })),
        CATCH_ALL => Some(json!({
            "priorityLevelConfiguration": {"name": CATCH_ALL}, "matchingPrecedence": MAX_PRECEDENCE,
            "distinguisherMethod": {"type": "ByUser"}, "rules": rules(&EVERYBODY),
        })),
        _ => None,
    }
}

fn policy_rule(rule: &At<'_>, errors: &mut ErrorList) {
    if rule.child("subjects").len() == 0 {
        errors.push(rule.child("subjects").required("subjects must contain at least one value"));
    }
    for each in rule.child("subjects").items() {
        subject(&each, errors);
    }
    if rule.child("resourceRules").len() + rule.child("nonResourceRules").len() == 0 {
        errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
    }
    for each in rule.child("resourceRules").items() {
        resource_rule(&each, errors);
    }
    for each in rule.child("nonResourceRules").items() {
        path_rule(&each, errors);
    }
}

/// Kinds of subjects, and where they say more, in the order in which upstream looks at what is not theirs.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &At<'_>, errors: &mut ErrorList) {
    let kind = subject.child("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind.text()) else {
        errors.push(kind.not_supported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    let named = subject.child(own);
    let name = named.child("name");
    if !named.is_set() {
        errors.push(named.required(&format!("{own} is required when subject kind is '{}'", kind.text())));
    } else if name.text().is_empty() {
        errors.push(name.required(""));
    } else if *own == "serviceAccount" && name.text() != "*" {
        errors.name(&name, names::is_dns1123_subdomain);
    }
    if *own == "serviceAccount" && named.is_set() {
        let namespace = named.child("namespace");
        if namespace.text().is_empty() {
            errors.push(namespace.required("must specify namespace for service account"));
        } else {
            errors.name(&namespace, names::is_dns1123_label);
        }
    }
    for (kind, field) in SUBJECTS.iter().filter(|(_, field)| field != own) {
        let other = subject.child(field);
        if other.is_set() {
            errors.push(other.forbidden(format!("{field} is forbidden when subject kind is not '{kind}'")));
        }
    }
}

/// Whether a star stands in a list, which is an error where other things stand there as well.
fn star(list: &At<'_>, others: &str, errors: &mut ErrorList) -> bool {
    let found = list.items().any(|entry| entry.text() == "*");
    if found && list.len() > 1 {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {others}")));
    }
    found
}

fn verbs(rule: &At<'_>, errors: &mut ErrorList) {
    let verbs = rule.child("verbs");
    if verbs.len() == 0 {
        errors.push(verbs.required("verbs must contain at least one value"));
    } else if !star(&verbs, "verbs", errors) && !verbs.items().all(|verb| VERBS.contains(&verb.text())) {
        errors.push(verbs.not_supported(&VERBS));
    }
}

fn resource_rule(rule: &At<'_>, errors: &mut ErrorList) {
    verbs(rule, errors);
    for (field, one, others) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let list = rule.child(field);
        if list.len() == 0 {
            errors.push(list.required(&format!("resource rules must supply at least one {one}")));
        } else {
            star(&list, others, errors);
        }
    }
    let namespaces = rule.child("namespaces");
    if namespaces.len() == 0 && !rule.child("clusterScope").is_true() {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(namespaces.required(why));
    } else if !star(&namespaces, "namespaces", errors) {
        for namespace in namespaces.items() {
            for why in names::is_dns1123_label(namespace.text()) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.push(namespace.invalid(why));
            }
        }
    }
}

fn path_rule(rule: &At<'_>, errors: &mut ErrorList) {
    verbs(rule, errors);
    let urls = rule.child("nonResourceURLs");
    if urls.len() == 0 {
        errors.push(urls.required("nonResourceURLs must contain at least one value"));
    } else if !star(&urls, "non-resource URLs", errors) {
        errors.extend(urls.items().filter_map(|url| path(&url)));
    }
}

fn path(url: &At<'_>) -> Option<Error> {
    let text = url.text();
    let before = text.strip_suffix('*').unwrap_or(text);
    let why = if text.is_empty() {
        return Some(url.invalid("must not be empty"));
    } else if text == "/" {
        return None;
    } else if !text.starts_with('/') {
        "must start with slash"
    } else if text.contains(' ') {
        "must not contain white-space"
    } else if text.contains("//") {
        "must not contain double slash"
    } else if before.contains('*') || (before.len() < text.len() && !before.ends_with('/')) {
        "wildcard can only do suffix matching"
    } else {
        return None;
    };
    Some(url.invalid(why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(text: &str) -> Option<String> {
        let object = json!({ "url": text });
        path(&At::field(&object, "url")).map(|error| error.detail)
    }

    #[test]
    fn paths_are_those_that_a_rule_can_be_about() {
        for good in ["/", "/a", "/a/b", "/a/*", "/*"] {
            assert_eq!(url(good), None, "{good}");
        }
        for (bad, why) in [
            ("x", "must start with slash"),
            ("/a//b", "must not contain double slash"),
            ("/a/*/b", "wildcard can only do suffix matching"),
            ("/a*", "wildcard can only do suffix matching"),
            ("/b c", "must not contain white-space"),
            ("//", "must not contain double slash"),
        ] {
            assert_eq!(url(bad).as_deref(), Some(why), "{bad}");
        }
    }
}
