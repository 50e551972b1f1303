//! Network policies and ingress classes.

use super::Hook::{self, Before};
use super::object::{Object, child, if_absent, is_empty, make};
use serde_json::json;

pub(super) const HOOKS: &[Hook] = &[
    Before("api.networking.v1.NetworkPolicy", network_policy),
    Before("api.networking.v1.NetworkPolicyPort", |port| if_absent(port, "protocol", "TCP")),
    Before("api.networking.v1.IngressClass", ingress_class),
];

fn network_policy(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if is_empty(spec, "policyTypes") {
        let types = if is_empty(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

fn ingress_class(object: &mut Object) {
    if let Some(parameters) = child(object, "spec").and_then(|spec| child(spec, "parameters")) {
        if_absent(parameters, "scope", "Cluster");
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn policy_types_follow_from_the_rules() {
        let mut policy = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
        apply("networking.k8s.io", "v1", "NetworkPolicy", &mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    }
}
