//! Role bindings and their subjects.

use super::Hook::{self, Before};
use super::object::{Object, if_empty, make, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const HOOKS: &[Hook] = &[
    Before("api.rbac.v1.ClusterRoleBinding", binding),
    Before("api.rbac.v1.RoleBinding", binding),
    Before("api.rbac.v1.Subject", subject),
];

fn binding(object: &mut Object) {
    if let Some(role) = make(object, "roleRef") {
        if_empty(role, "apiGroup", GROUP);
    }
}

fn subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        if_empty(subject, "apiGroup", GROUP);
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn users_and_groups_are_of_this_group() {
        let mut binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]});
        apply("rbac.authorization.k8s.io", "v1", "RoleBinding", &mut binding);
        assert_eq!(binding["roleRef"]["apiGroup"], super::GROUP);
        assert_eq!(binding["subjects"][0]["apiGroup"], super::GROUP);
        assert!(binding["subjects"][1].get("apiGroup").is_none());
    }
}
