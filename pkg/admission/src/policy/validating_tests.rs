//! Requests and policies that are stored.
#![allow(clippy::unwrap_used)]

use kedge_auth::{Deciding, Decision, Request};
use kedge_registry::Operation;
use serde_json::json;

use super::*;
use crate::testing;

struct Nobody;

impl Authorizer for Nobody {
    fn authorize<'a>(&'a self, _: &'a Request<'a>) -> Deciding<'a> {
        Decision::NoOpinion(String::new()).into()
    }
}

const GROUP: &str = "admissionregistration.k8s.io/v1";

async fn put(registry: &Registry, kind: &str, name: &str, spec: Value) {
    let metadata = json!({"name": name, "uid": format!("{kind}{name}"), "generation": 1});
    testing::put(registry, json!({"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec})).await;
}

async fn policy(registry: &Registry, name: &str, fields: Value) {
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let mut spec =
        json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules, "matchPolicy": "Equivalent"}});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    put(registry, "ValidatingAdmissionPolicy", name, spec).await;
}

async fn bind(registry: &Registry, name: &str, policy: &str, fields: Value) {
    let mut spec = json!({"policyName": policy, "validationActions": ["Deny"]});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    put(registry, "ValidatingAdmissionPolicyBinding", name, spec).await;
}

struct Answer {
    status: Option<Status>,
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Answer {
    fn message(&self) -> &str {
        self.status.as_ref().map_or("", |status| &status.message)
    }
}

async fn ask(registry: &Arc<Registry>, object: Value) -> Answer {
    let authorizer: Arc<dyn Authorizer> = Arc::new(Nobody);
    let plugin = ValidatingPolicies::new(registry, &authorizer, &Arc::default());
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "configmaps"), &user);
    (attributes.namespace, attributes.name, attributes.object) = ("n", "c", object);
    let status = match plugin.validates(&attributes) {
        true => plugin.validate(registry, &attributes).await.err(),
        false => None,
    };
    Answer { status, warnings: attributes.notes.warnings(), annotations: attributes.notes.annotations() }
}

async fn registry() -> Arc<Registry> {
    let (registry, _) = testing::registry().await;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"env": "prod"}}});
    testing::put(&registry, namespace).await;
    registry
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data})
}

#[tokio::test]
async fn a_failure_is_denied_warned_of_and_noted_as_the_binding_says() {
    let registry = registry().await;
    let validations = json!([{"expression": "object.data.level != 'high'", "message": "level is high"}]);
    policy(&registry, "p", json!({"validations": validations})).await;
    let high = map(json!({"level": "high"}));
    assert_eq!(ask(&registry, high.clone()).await.message(), "", "it is not bound");
    bind(&registry, "b", "p", json!({"validationActions": ["Warn", "Audit"]})).await;
    let answer = ask(&registry, high.clone()).await;
    let said = "level is high";
    let warning = format!("Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': {said}");
    assert_eq!((answer.message(), &*answer.warnings), ("", &[warning][..]));
    let value = r#"[{"message":"level is high","policy":"p","binding":"b","expressionIndex":0,"validationActions":["Warn","Audit"]}]"#;
    let key = "validation.policy.admission.k8s.io/validation_failure";
    assert_eq!(answer.annotations, [(key.to_owned(), value.to_owned())]);
    bind(&registry, "c", "p", json!({})).await;
    let status = ask(&registry, high).await.status.unwrap();
    let denied = format!("ValidatingAdmissionPolicy 'p' with binding 'c' denied request: {said}");
    assert_eq!(status.message, format!("configmaps \"c\" is forbidden: {denied}"));
    assert_eq!((status.code, status.reason), (422, Reason::Invalid));
    assert_eq!(status.details.unwrap().causes[0].message, denied);
    assert!(ask(&registry, map(json!({"level": "low"}))).await.status.is_none());
}

#[tokio::test]
async fn parameters_are_found_by_name_and_by_label() {
    let registry = registry().await;
    let validations = json!([{"expression": "object.data.size() <= int(params.data.max)", "reason": "Forbidden",
        "messageExpression": "params.kind + ' says ' + params.data.max + ' in ' + namespaceObject.metadata.labels.env"}]);
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    policy(&registry, "p", json!({"paramKind": kind, "validations": validations})).await;
    bind(&registry, "b", "p", json!({"paramRef": {"name": "lim", "parameterNotFoundAction": "Deny"}})).await;
    let two = map(json!({"a": "1", "b": "2"}));
    let prefix = "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    let none = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(ask(&registry, two.clone()).await.message(), format!("{prefix}{none}"));
    let limit = |name: &str, namespace: &str, max: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"max": max},
            "metadata": {"name": name, "namespace": namespace, "labels": {"set": "x"}}})
    };
    testing::put(&registry, limit("lim", "other", "0")).await;
    testing::put(&registry, limit("lim", "n", "1")).await;
    let answer = ask(&registry, two.clone()).await;
    assert_eq!(answer.message(), format!("{prefix}ConfigMap says 1 in prod"));
    assert_eq!(answer.status.unwrap().code, 403);
    assert_eq!(ask(&registry, map(json!({"a": "1"}))).await.message(), "");
    let selector = json!({"matchLabels": {"set": "y"}});
    let allow = json!({"selector": selector, "parameterNotFoundAction": "Allow"});
    policy(&registry, "q", json!({"paramKind": {"apiVersion": "none.io/v1", "kind": "Nothing"}, "validations": []}))
        .await;
    bind(&registry, "allow", "q", json!({"paramRef": allow})).await;
    let answer = ask(&registry, map(json!({}))).await;
    let none = "ValidatingAdmissionPolicy 'q' denied request: failed to configure policy: failed to find resource referenced by \
                paramKind: 'none.io/v1, Kind=Nothing'";
    assert_eq!(answer.message(), format!("configmaps \"c\" is forbidden: {none}"));
}

#[tokio::test]
async fn all_that_are_selected_must_agree() {
    let registry = registry().await;
    let validations = json!([{"expression": "params == null || object.data.size() <= int(params.data.max)"}]);
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    policy(&registry, "p", json!({"paramKind": kind, "validations": validations})).await;
    let selector = json!({"matchLabels": {"set": "x"}});
    bind(&registry, "b", "p", json!({"paramRef": {"selector": selector, "parameterNotFoundAction": "Allow"}})).await;
    let two = map(json!({"a": "1", "b": "2"}));
    assert_eq!(ask(&registry, two.clone()).await.message(), "", "there are none, and that is allowed");
    for (name, max) in [("a", "50"), ("z", "1")] {
        let metadata = json!({"name": name, "namespace": "n", "labels": {"set": "x"}});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"max": max}, "metadata": metadata});
        testing::put(&registry, object).await;
        assert_eq!(ask(&registry, two.clone()).await.message().is_empty(), max == "50");
    }
}

#[tokio::test]
async fn a_binding_narrows_what_its_policy_is_about() {
    let registry = registry().await;
    policy(&registry, "p", json!({"validations": [{"expression": "false"}]})).await;
    let matched = |env: &str| json!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": env}}}});
    bind(&registry, "other", "p", matched("test")).await;
    assert_eq!(ask(&registry, map(json!({}))).await.message(), "");
    bind(&registry, "own", "p", matched("prod")).await;
    assert!(ask(&registry, map(json!({}))).await.message().contains("binding 'own'"));
}

#[tokio::test]
async fn rights_can_be_asked_for_in_rules_alone() {
    let registry = registry().await;
    let right = "authorizer.requestResource.check('custom').allowed()";
    let validations =
        json!([{"expression": right, "message": "m", "messageExpression": "variables.may ? 'yes' : 'no'"}]);
    policy(&registry, "p", json!({"variables": [{"name": "may", "expression": right}], "validations": validations}))
        .await;
    bind(&registry, "b", "p", json!({})).await;
    assert!(ask(&registry, map(json!({}))).await.message().ends_with("denied request: m"));
}
