//! Bindings of roles to subjects, in a namespace and in the cluster.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct Binding;

impl Strategy for Binding {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &Context<'_>, binding: &Value) -> ErrorList {
        validate(binding, ctx.resource.namespaced)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let role = At::field(new, "roleRef");
        if role.value != At::field(old, "roleRef").value {
            errors.push(role.invalid("cannot change roleRef"));
        }
        errors
    }
}

fn validate(binding: &Value, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let role = At::field(binding, "roleRef");
    errors.need_exactly(&role.child("apiGroup"), &[GROUP]);
    errors.need_exactly(&role.child("kind"), if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] });
    errors.need_name(&role.child("name"), names::is_path_segment_name);
    for subject in At::field(binding, "subjects").items() {
        one_subject(&subject, namespaced, &mut errors);
    }
    errors
}

/// A value of a set, where nothing is a wrong value too.
trait NeedExactly {
    fn need_exactly(&mut self, at: &At<'_>, valid: &[&str]);
}

impl NeedExactly for ErrorList {
    fn need_exactly(&mut self, at: &At<'_>, valid: &[&str]) {
        if !valid.contains(&at.text()) {
            self.push(Error::not_supported_of(&at.path, at.text(), valid));
        }
    }
}

fn one_subject(at: &At<'_>, namespaced: bool, errors: &mut ErrorList) {
    let (name, group, kind) = (at.child("name"), at.child("apiGroup"), at.child("kind"));
    errors.need_text(&name);
    match kind.text() {
        "ServiceAccount" => {
            errors.name(&name, names::is_dns1123_subdomain);
            errors.need_exactly(&group, &[""]);
            if !namespaced {
                errors.need_text(&at.child("namespace"));
            }
        }
        "User" | "Group" => errors.need_exactly(&group, &[GROUP]),
        _ => errors.need_exactly(&kind, &["ServiceAccount", "User", "Group"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subjects_are_complete() {
        let binding = json!({"roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"}, "subjects": [
            {"kind": "ServiceAccount", "name": "s"}, {"kind": "User", "name": "u", "apiGroup": GROUP}]});
        assert!(validate(&binding, true).is_empty());
        let texts: Vec<_> = validate(&binding, false).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[0].namespace: Required value",
            ]
        );
        let binding = json!({"roleRef": {"apiGroup": GROUP, "kind": "Pod", "name": "r"}, "subjects": [{"kind": "Cat", "name": "s"}]});
        let texts: Vec<_> = validate(&binding, true).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "roleRef.kind: Unsupported value: \"Pod\": supported values: \"Role\", \"ClusterRole\"",
                "subjects[0].kind: Unsupported value: \"Cat\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ]
        );
    }
}
