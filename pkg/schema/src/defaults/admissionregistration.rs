//! Webhooks and admission policies.

use super::Hook::{self, Before};
use super::object::{Object, if_absent};
use serde_json::json;

pub(super) const HOOKS: &[Hook] = &[
    Before("api.admissionregistration.v1.ValidatingWebhook", webhook),
    Before("api.admissionregistration.v1.MutatingWebhook", mutating_webhook),
    Before("api.admissionregistration.v1.RuleWithOperations", scope),
    Before("api.admissionregistration.v1.NamedRuleWithOperations", scope),
    Before("api.admissionregistration.v1.ServiceReference", |service| if_absent(service, "port", 443)),
    Before("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", failure_policy),
    Before("api.admissionregistration.v1.MutatingAdmissionPolicySpec", failure_policy),
    Before("api.admissionregistration.v1.MatchResources", matching),
];

fn failure_policy(object: &mut Object) {
    if_absent(object, "failurePolicy", "Fail");
}

fn scope(rule: &mut Object) {
    if_absent(rule, "scope", "*");
}

fn matching(object: &mut Object) {
    if_absent(object, "matchPolicy", "Equivalent");
    if_absent(object, "namespaceSelector", json!({}));
    if_absent(object, "objectSelector", json!({}));
}

fn webhook(webhook: &mut Object) {
    failure_policy(webhook);
    matching(webhook);
    if_absent(webhook, "timeoutSeconds", 10);
}

fn mutating_webhook(object: &mut Object) {
    webhook(object);
    if_absent(object, "reinvocationPolicy", "Never");
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn a_webhook_matches_everything() {
        let mut object = json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]});
        apply("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", &mut object);
        assert_eq!(
            object["webhooks"][0],
            json!({"rules": [{"scope": "*"}], "clientConfig": {"service": {"port": 443}}, "failurePolicy": "Fail",
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10,
                "reinvocationPolicy": "Never"})
        );
    }
}
