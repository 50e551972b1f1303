//! Addresses that are taken from the ranges of services.

use kedge_meta::field::{Error, ErrorList, GoText};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

pub(crate) struct IpAddress;

impl Strategy for IpAddress {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        scalar::strict_ip(name).into_iter().collect()
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(new);
        let (now, had) = (At::field(new, "spec").child("parentRef"), At::field(old, "spec").child("parentRef"));
        if now.value != had.value {
            errors.push(Error::invalid(&now.path, shown(&now), "field is immutable"));
        }
        errors
    }
}

/// As upstream shows its own form of a reference, whose fields have an order.
fn shown(parent: &At<'_>) -> GoText {
    let field = |name: &str| Value::from(parent.child(&name.to_lowercase()).text());
    let text = |name: &str| format!("{name:?}:{}", field(name));
    match parent.is_set() {
        true => GoText(format!("{{{}}}", ["Group", "Resource", "Namespace", "Name"].map(text).join(","))),
        false => GoText("null".into()),
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let parent = At::field(object, "spec").child("parentRef");
    if !parent.is_set() {
        errors.push(parent.required(""));
        return errors;
    }
    // The group of services is empty, so that it can be asked of nobody.
    let group = parent.child("group");
    if !group.text().is_empty() {
        errors.complaints(&group, names::is_dns1123_subdomain(group.text()));
    }
    errors.need_name(&parent.child("resource"), names::is_path_segment_name);
    errors.need_name(&parent.child("name"), names::is_path_segment_name);
    errors.name(&parent.child("namespace"), names::is_path_segment_name);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_named_by_itself_and_says_whose_it_is() {
        let name = |name: &str| IpAddress.validate_name(name, false);
        assert!(name("10.0.0.1").is_empty() && name("fd00::1").is_empty());
        assert_eq!(name("fd00:0::1"), ["must be in canonical form (\"fd00::1\")"]);
        let of = |parent: Value| {
            let errors = validate(&json!({"spec": {"parentRef": parent}}));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(of(json!({"resource": "services", "namespace": "a", "name": "b"})).is_empty());
        assert_eq!(of(json!(null)), ["spec.parentRef: Required value"]);
        assert_eq!(of(json!({})), ["spec.parentRef.resource: Required value", "spec.parentRef.name: Required value"]);
        let named = json!({"resource": "r", "name": "a"});
        assert_eq!(
            shown(&At::field(&json!({ "p": named }), "p")).0,
            "{\"Group\":\"\",\"Resource\":\"r\",\"Namespace\":\"\",\"Name\":\"a\"}"
        );
        let wrong = of(json!({"group": "A", "resource": "a/b", "namespace": "..", "name": "."}));
        assert_eq!(wrong.len(), 4, "{wrong:?}");
    }
}
