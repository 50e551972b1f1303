//! What default roles and bindings of a cluster that others have run lack: as upstream, they are completed at every start,
//! unless their annotation `rbac.authorization.kubernetes.io/autoupdate` says `false`.
//!
//! A stock control plane gives `system:kube-controller-manager` little, its controllers have accounts of their own; ours
//! run as that user.

use serde_json::{Value, json};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The merge patch that completes `existing`, when something of `wanted` is missing. Nothing is taken away.
pub(crate) fn completion(existing: &Value, wanted: &Value) -> Option<Value> {
    let field = match wanted["kind"].as_str()? {
        // What an aggregated role may do follows from other roles.
        "ClusterRole" | "Role" if existing["aggregationRule"].is_null() => "rules",
        "ClusterRoleBinding" | "RoleBinding" if existing["roleRef"] == wanted["roleRef"] => "subjects",
        _ => return None,
    };
    if existing["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let list = |object: &Value| object[field].as_array().cloned().unwrap_or_default();
    let mut items = list(existing);
    let missing: Vec<Value> = list(wanted).into_iter().filter(|item| !items.contains(item)).collect();
    if missing.is_empty() {
        return None;
    }
    items.extend(missing);
    // The version makes it a conflict when another server has just done the same.
    Some(json!({ "metadata": { "resourceVersion": existing["metadata"]["resourceVersion"] }, field: items }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rules: Value) -> Value {
        json!({"kind": "ClusterRole", "metadata": {"name": "r", "resourceVersion": "7"}, "rules": rules})
    }

    #[test]
    fn the_roles_of_a_stock_cluster_are_completed() {
        let (theirs, ours) = (json!({"verbs": ["get"]}), json!({"verbs": ["list"]}));
        let patch = completion(&role(json!([theirs])), &role(json!([ours])));
        let expected = json!({"metadata": {"resourceVersion": "7"}, "rules": [theirs, ours]});
        assert_eq!(patch, Some(expected));
        assert_eq!(completion(&role(json!([theirs, ours])), &role(json!([ours]))), None);
        assert_eq!(
            completion(&role(Value::Null), &role(json!([ours]))).map(|p| p["rules"].clone()),
            Some(json!([ours]))
        );
        let binding =
            |subjects: Value| json!({"kind": "ClusterRoleBinding", "roleRef": {"name": "r"}, "subjects": subjects});
        let patch = completion(&binding(json!([])), &binding(json!([{"name": "u"}])));
        assert_eq!(patch.map(|p| p["subjects"].clone()), Some(json!([{"name": "u"}])));
    }

    #[test]
    fn what_an_administrator_keeps_is_left_alone() {
        let wanted = role(json!([{"verbs": ["list"]}]));
        let mut kept = role(json!([]));
        kept["metadata"]["annotations"] = json!({AUTOUPDATE: "false"});
        assert_eq!(completion(&kept, &wanted), None);
        let mut aggregated = role(json!([]));
        aggregated["aggregationRule"] = json!({"clusterRoleSelectors": []});
        assert_eq!(completion(&aggregated, &wanted), None);
        let service = json!({"kind": "Service", "metadata": {}});
        assert_eq!(completion(&service, &service), None);
    }
}
