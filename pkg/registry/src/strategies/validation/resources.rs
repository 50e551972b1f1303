//! Requests and limits.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::scalar::quantity;
use super::{At, Report};

const NATIVE_PREFIX: &str = "kubernetes.io/";
const HUGE_PAGES: &str = "hugepages-";

/// Requests and limits of a container; `claims` are the names of the pod's resource claims.
pub(crate) fn requirements(at: &At<'_>, claims: &[&str], errors: &mut ErrorList) {
    let (limits, requests) = (at.child("limits"), at.child("requests"));
    let (mut compute, mut huge) = (false, false);
    for (name, amount) in limits.entries().chain(requests.entries()) {
        resource_name(name, &amount, errors);
        value(name, &amount, errors);
        compute |= matches!(name, "cpu" | "memory");
        huge |= name.starts_with(HUGE_PAGES);
    }
    for (name, request) in requests.entries() {
        let limit = limits.child(name);
        let (wanted, allowed) = (quantity(&request), quantity(&limit));
        let said = |detail: String| Error::invalid(&requests.path, request.value, detail);
        match (wanted, allowed) {
            (Some(wanted), Some(allowed)) if wanted != allowed && !can_overcommit(name) => {
                errors.push(said(format!("must be equal to {name} limit of {allowed}")));
            }
            (Some(wanted), Some(allowed)) if wanted > allowed => {
                errors.push(said(format!("must be less than or equal to {name} limit of {allowed}")));
            }
            (_, None) if !can_overcommit(name) => {
                errors.push(limits.required("Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
    }
    if huge && !compute {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
    claim_names(&at.child("claims"), claims, errors);
}

fn claim_names(at: &At<'_>, claims: &[&str], errors: &mut ErrorList) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in at.items() {
        let (name, request) = (claim.child("name"), claim.child("request"));
        let key = (name.text(), request.text());
        if !errors.need_text(&name) {
            continue;
        }
        if !claims.contains(&key.0) {
            errors.push(Error::not_found(&name.path, key.0));
        } else if seen.contains(&key) {
            errors.push(Error::duplicate(&claim.path, key.0));
        }
        seen.push(key);
    }
}

/// An amount that is not negative, and whole where parts make no sense.
pub(crate) fn value(name: &str, amount: &At<'_>, errors: &mut ErrorList) {
    let Some(parsed) = quantity(amount) else { return };
    if parsed.is_negative() {
        errors.push(amount.invalid("must be greater than or equal to 0"));
    }
    if is_extended(name) && parsed.milli_value() % 1000 != 0 {
        errors.push(amount.invalid("must be an integer"));
    }
}

fn resource_name(name: &str, at: &At<'_>, errors: &mut ErrorList) {
    let said = |detail: String| Error::invalid(&at.path, name, detail);
    let complaints = names::is_qualified_name(name);
    if !complaints.is_empty() {
        errors.extend(complaints.into_iter().map(said));
    } else if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with(HUGE_PAGES) {
            errors.push(said("must be a standard resource type or fully qualified".into()));
            errors.push(said("must be a standard resource for containers".into()));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(said("doesn't follow extended resource name standard".into()));
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains(NATIVE_PREFIX)
}

/// A resource that a device plug-in or an administrator brings.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

pub(crate) fn can_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// When and how resources of a running container change.
pub(crate) fn resize_policy(at: &At<'_>, restart_policy: &str, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for policy in at.items() {
        let (resource, restart) = (policy.child("resourceName"), policy.child("restartPolicy"));
        if seen.contains(&resource.text()) {
            errors.push(Error::duplicate(&policy.path, resource.text()));
        }
        seen.push(resource.text());
        for (field, valid) in [(&resource, ["cpu", "memory"]), (&restart, ["NotRequired", "RestartContainer"])] {
            if field.text().is_empty() {
                errors.push(at.required(""));
            } else if !valid.contains(&field.text()) {
                errors.push(Error::not_supported(&at.path, field.text(), &valid));
            }
        }
        if restart_policy == "Never" && restart.text() != "NotRequired" {
            let rule = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(&at.path, restart.text(), rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_stay_within_limits() {
        let object = json!({"resources": {"requests": {"cpu": "2", "nvidia.com/gpu": "1", "x": "1", "memory": "-1"},
            "limits": {"cpu": "1500m", "a.b/c": "500m"}}});
        let mut errors = ErrorList::new();
        requirements(&At::field(&object, "resources"), &[], &mut errors);
        let mut texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        texts.sort();
        assert_eq!(
            texts,
            [
                "resources.limits: Required value: Limit must be set for non overcommitable resources",
                "resources.limits[a.b/c]: Invalid value: \"500m\": must be an integer",
                "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1500m",
                "resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
                "resources.requests[x]: Invalid value: \"x\": must be a standard resource for containers",
                "resources.requests[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
            ]
        );
    }
}
