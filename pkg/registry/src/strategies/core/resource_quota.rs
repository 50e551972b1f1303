//! Resource quotas.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

/// What pods can be scoped by.
const POD_SCOPES: [&str; 6] =
    ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"];
const CLAIM_SCOPE: &str = "VolumeAttributesClass";
/// Scopes that an object cannot be in at the same time.
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// Amounts of what pods compute with.
const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// What is counted by a plain name.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const STORAGE: [&str; 4] =
    ["ephemeral-storage", "limits.ephemeral-storage", "requests.ephemeral-storage", "requests.storage"];

pub(crate) struct ResourceQuota;

fn is_huge_page(name: &str) -> bool {
    name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// A name without a domain that a quota can have.
fn is_standard(name: &str) -> bool {
    COMPUTE.contains(&name) || COUNTED.contains(&name) || STORAGE.contains(&name) || is_huge_page(name)
}

/// Whether a scope makes sense for what a name counts.
fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        CLAIM_SCOPE => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        scope if POD_SCOPES.contains(&scope) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    }
}

impl Strategy for ResourceQuota {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        amounts(&spec.child("hard"), &mut errors);
        scopes(&spec, &mut errors);
        selector(&spec, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        errors.immutable(&spec.child("scopes"), &was.child("scopes"));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::field(new, "status");
        amounts(&status.child("hard"), &mut errors);
        amounts(&status.child("used"), &mut errors);
        errors
    }
}

/// Any resource that there is a rule for, or with a domain.
pub(super) fn any_resource(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    let complaints = names::is_qualified_name(name);
    // Storage as such is a resource, but none of a quota.
    let known = name.contains('/') || is_standard(name) || name == "storage";
    if complaints.is_empty() && !known {
        errors.push(Error::invalid(&at.path, name, "must be a standard resource type or fully qualified"));
    }
    errors.extend(complaints.into_iter().map(|why| Error::invalid(&at.path, name, why)));
}

fn amounts(at: &At<'_>, errors: &mut ErrorList) {
    for (name, amount) in at.entries() {
        let invalid = |why: &str| Error::invalid(&amount.path, name, why);
        any_resource(name, &amount, errors);
        if !name.contains('/') && !is_standard(name) {
            errors.push(invalid("must be a standard resource for quota"));
        }
        scalar::non_negative_quantity(&amount, errors);
        let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
        let whole = scalar::quantity(&amount).is_none_or(|n| n.milli_value() % 1000 == 0);
        if (COUNTED.contains(&name) || extended) && !whole {
            errors.push(amount.invalid("must be an integer"));
        }
    }
}

/// Whether each limit makes sense in a scope.
fn applies(spec: &At<'_>, scope: &str, path: &Path, value: &Value, errors: &mut ErrorList) {
    for (name, _) in spec.child("hard").entries() {
        if is_standard(name) && !fits(scope, name) {
            errors.push(Error::invalid(path, value, "unsupported scope applied to resource"));
        }
    }
}

fn is_known(scope: &str) -> bool {
    POD_SCOPES.contains(&scope) || scope == CLAIM_SCOPE
}

fn conflicts(scopes: &[&str], path: &Path, value: &Value, errors: &mut ErrorList) {
    for _ in OPPOSITES.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        errors.push(Error::invalid(path, value, "conflicting scopes"));
    }
}

fn scopes(spec: &At<'_>, errors: &mut ErrorList) {
    let all = spec.child("scopes");
    let scopes: Vec<&str> = all.items().map(|scope| scope.text()).collect();
    for scope in &scopes {
        if !is_known(scope) {
            errors.push(all.invalid("unsupported scope"));
        }
        applies(spec, scope, &all.path, all.value, errors);
    }
    conflicts(&scopes, &all.path, all.value, errors);
}

fn selector(spec: &At<'_>, errors: &mut ErrorList) {
    let selector = spec.child("scopeSelector");
    // Upstream does not say which of them it is.
    let path = selector.path.child("matchExpressions");
    let mut scopes = Vec::new();
    for requirement in selector.child("matchExpressions").items() {
        let (scope, operator) = (requirement.child("scopeName").text(), requirement.child("operator").text());
        let values = requirement.child("values");
        if !is_known(scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        applies(spec, scope, &path, selector.value, errors);
        if POD_SCOPES.contains(&scope) && scope != "PriorityClass" && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, why));
        }
        match operator {
            "In" | "NotIn" if values.len() == 0 => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&path.child("values"), values.value, why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
        scopes.push(scope);
    }
    conflicts(&scopes, &path, spec.child("scopes").value, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(spec: Value) -> Vec<String> {
        let object = json!({ "spec": spec });
        let (spec, mut errors) = (At::field(&object, "spec"), ErrorList::new());
        amounts(&spec.child("hard"), &mut errors);
        scopes(&spec, &mut errors);
        selector(&spec, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn scopes_fit_what_is_limited() {
        let ends = |spec: Value, what: &str| {
            let said = said(spec);
            assert!(said.len() == 1 && said[0].ends_with(what), "{said:?}");
        };
        ends(json!({"hard": {"requests.cpu": "1"}, "scopes": ["BestEffort"]}), "unsupported scope applied to resource");
        ends(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}), "conflicting scopes");
        ends(json!({"hard": {"services": "1"}, "scopes": ["Terminating"]}), "unsupported scope applied to resource");
        ends(json!({"hard": {"pods": "1"}, "scopes": ["Sometimes"]}), "unsupported scope");
        assert!(
            said(json!({"hard": {"pods": "1", "cpu": "1"}, "scopes": ["NotBestEffort", "Terminating"]})).is_empty()
        );
        assert!(said(json!({"hard": {"requests.storage": "1"}, "scopes": ["VolumeAttributesClass"]})).is_empty());
        assert!(said(json!({"hard": {"count/pods": "1"}, "scopes": ["BestEffort"]})).is_empty());
    }

    #[test]
    fn selectors_are_sound() {
        let ends = |requirement: Value, what: &str| {
            let said = said(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [requirement]}}));
            assert!(said.iter().any(|said| said.contains(what)), "{said:?}");
        };
        let of = |scope: &str, operator: &str, values: Value| json!({"scopeName": scope, "operator": operator, "values": values});
        ends(
            of("PriorityClass", "In", json!([])),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one",
        );
        ends(of("PriorityClass", "Exists", json!(["a"])), "must be no value");
        ends(of("PriorityClass", "Like", json!(["a"])), "not a valid selector operator");
        ends(of("BestEffort", "In", json!(["a"])), "must be 'Exists' when scope is any of");
        ends(
            of("Whatever", "Exists", json!(null)),
            "matchExpressions.scopeName: Invalid value: \"Whatever\": unsupported scope",
        );
        let fine = json!({"matchExpressions": [of("PriorityClass", "In", json!(["a"]))]});
        assert!(said(json!({"hard": {"pods": "1"}, "scopeSelector": fine})).is_empty());
    }

    #[test]
    fn names_and_amounts() {
        let said = |name: &str, amount: &str| said(json!({"hard": {name: amount}}));
        assert!(said("requests.example.com/gpu", "1500m").is_empty(), "not even of those is half a one refused");
        assert!(said("gold.storageclass.storage.k8s.io/requests.storage", "1Gi").is_empty());
        assert!(said("hugepages-2Mi", "1Gi").is_empty() && said("requests.hugepages-2Mi", "1Gi").is_empty());
        assert!(said("pods", "1500m")[0].ends_with("must be an integer"));
        assert!(said("example.com/gpu", "1500m")[0].ends_with("must be an integer"));
        assert!(said("pods", "-1")[0].ends_with("must be greater than or equal to 0"));
        assert_eq!(said("things", "1").len(), 2);
        let spaced = said("a b", "1");
        assert!(spaced.len() == 2 && spaced[1].ends_with("must be a standard resource for quota"), "{spaced:?}");
        assert_eq!(
            said("storage", "1"),
            ["spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota"]
        );
    }
}
