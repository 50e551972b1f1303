//! Policies one after the other, and again.
#![allow(clippy::unwrap_used)]

use kedge_auth::{Deciding, Decision, Request};
use serde_json::json;

use super::*;
use crate::testing;

struct Nobody;

impl Authorizer for Nobody {
    fn authorize<'a>(&'a self, _: &'a Request<'a>) -> Deciding<'a> {
        Decision::NoOpinion(String::new()).into()
    }
}

async fn put(registry: &Registry, kind: &str, name: &str, spec: Value) {
    let metadata = json!({"name": name, "uid": format!("{kind}{name}"), "generation": 1});
    let group = "admissionregistration.k8s.io/v1";
    testing::put(registry, json!({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec})).await;
}

/// A policy that changes the data of maps, bound under its own name.
async fn policy(registry: &Registry, name: &str, reinvocation: &str, data: &[&str], fields: Value) {
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let step = |data: &&str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": format!("Object{{data: {data}}}")}});
    let mutations: Vec<Value> = data.iter().map(step).collect();
    let mut spec = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
        "reinvocationPolicy": reinvocation, "mutations": mutations});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    put(registry, "MutatingAdmissionPolicy", name, spec).await;
    put(registry, "MutatingAdmissionPolicyBinding", name, json!({"policyName": name})).await;
}

async fn registry() -> Arc<Registry> {
    let (registry, _) = testing::registry().await;
    testing::put(&registry, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).await;
    registry
}

async fn admitted(registry: &Arc<Registry>) -> Result<Value, Status> {
    let authorizer: Arc<dyn Authorizer> = Arc::new(Nobody);
    let plugin = MutatingPolicies::new(registry, &authorizer, &Arc::default());
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "configmaps"), &user);
    (attributes.namespace, attributes.name) = ("n", "c");
    attributes.object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": {"a": "0"}});
    for _ in 0..2 {
        if plugin.mutates(&attributes) {
            plugin.admit(registry, &mut attributes).await?;
        }
        if !attributes.reinvocation.begin() {
            break;
        }
    }
    Ok(attributes.object["data"].clone())
}

#[tokio::test]
async fn steps_and_policies_see_what_those_before_them_did() {
    let registry = registry().await;
    policy(&registry, "a", "Never", &["{'b': object.data.a + '1'}", "{'c': object.data.b + '2'}"], json!({})).await;
    policy(&registry, "b", "Never", &["{'d': object.data.c + '3'}"], json!({})).await;
    assert_eq!(admitted(&registry).await.unwrap(), json!({"a": "0", "b": "01", "c": "012", "d": "0123"}));
}

#[tokio::test]
async fn who_wants_to_see_it_again_does_when_it_was_changed() {
    let registry = registry().await;
    let seen = "{'seen': string(size(object.data))}";
    policy(&registry, "a", "IfNeeded", &[seen], json!({})).await;
    policy(&registry, "b", "Never", &["{'x': 'y'}"], json!({})).await;
    policy(&registry, "c", "Never", &["{'once': object.data.?once.orValue('') + '1'}"], json!({})).await;
    assert_eq!(admitted(&registry).await.unwrap(), json!({"a": "0", "seen": "4", "x": "y", "once": "1"}));
}

#[tokio::test]
async fn conditions_and_parameters_decide_who_changes_what() {
    let registry = registry().await;
    let condition = |text: &str| json!({"matchConditions": [{"name": "c", "expression": text}]});
    policy(&registry, "a", "Never", &["{'x': 'y'}"], condition("request.operation == 'UPDATE'")).await;
    policy(
        &registry,
        "b",
        "Never",
        &["{'z': params.data.z}"],
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
    )
    .await;
    let selector = json!({"selector": {"matchLabels": {"set": "x"}}, "parameterNotFoundAction": "Allow"});
    put(&registry, "MutatingAdmissionPolicyBinding", "other", json!({"policyName": "b", "paramRef": selector})).await;
    let denied = admitted(&registry).await.unwrap_err();
    let why = "policy 'b' with binding 'b' denied request: expression 'Object{data: {'z': params.data.z}}' resulted in error: ";
    assert!(denied.message.starts_with(why), "{}", denied.message);
    assert_eq!((denied.code, denied.reason), (403, Reason::Invalid));
    assert_eq!(denied.details.unwrap().causes.len(), 1);
    let bindings = registry.builtin("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings").unwrap();
    let revision = bindings.store.get("b").unwrap().unwrap().revision;
    bindings.store.delete("b", revision, kedge_storage::With::default()).await.unwrap();
    assert_eq!(admitted(&registry).await.unwrap(), json!({"a": "0"}), "there are no parameters");
    for (name, z) in [("p", "1"), ("q", "2")] {
        let metadata = json!({"name": name, "namespace": "n", "labels": {"set": "x"}});
        testing::put(
            &registry,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"z": z}, "metadata": metadata}),
        )
        .await;
    }
    assert_eq!(admitted(&registry).await.unwrap(), json!({"a": "0", "z": "2"}), "each in its turn");
}

#[tokio::test]
async fn a_policy_that_may_fail_leaves_the_object_alone() {
    let registry = registry().await;
    policy(&registry, "a", "Never", &["{'x': object.none}", "{'y': 'z'}"], json!({"failurePolicy": "Ignore"})).await;
    assert_eq!(admitted(&registry).await.unwrap(), json!({"a": "0", "y": "z"}), "the other step is done");
}
