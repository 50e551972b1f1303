//! What policies make of objects.
#![allow(clippy::unwrap_used)]

use kedge_registry::{Attributes, Operation};
use serde_json::json;

use super::*;
use crate::matching::Criteria;
use crate::testing;

async fn changed(resource: (&str, &str), object: Value, kind: &str, expression: &str) -> Result<Value, Failed> {
    let (registry, _) = testing::registry().await;
    let field = if kind == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
    let mutation = json!({"patchType": kind, field: {"expression": expression}});
    let policy: Policy<Mutations> = Policy::read(&json!({"metadata": {"name": "p"}, "spec": {
        "variables": [{"name": "own", "expression": "'own'"}], "mutations": [mutation]}}));
    let user = testing::user();
    let attributes = Attributes::new(Operation::Create, testing::resource(resource.0, resource.1), &user);
    let target = Criteria::of_resources(&json!({})).target(&attributes, &object, &registry).unwrap().unwrap();
    policy.changed(&policy.rules.steps[0], &Given { object: &object, ..Given::NOTHING }, &target)
}

fn deployment(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}}})
}

async fn applied(expression: &str) -> Result<Value, Failed> {
    let object = deployment(json!([{"name": "a", "image": "i"}]));
    changed(("apps", "deployments"), object, "ApplyConfiguration", expression).await
}

async fn patched(expression: &str) -> Result<Value, Failed> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}});
    changed(("", "configmaps"), object, "JSONPatch", expression).await
}

fn why(failed: Result<Value, Failed>) -> String {
    match failed.unwrap_err() {
        Failed::Policy(why) => why,
        Failed::Request(status) => format!("{} {}", status.code, status.message),
    }
}

#[tokio::test]
async fn what_is_applied_is_merged_as_the_type_says() {
    let expression = "Object{metadata: Object.metadata{labels: {'c': variables.own}}, spec: Object.spec{replicas: 3, template: \
        Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'b', image: 'j'}]}}}}";
    let object = applied(expression).await.unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "b", "c": "own"}));
    assert_eq!(object["spec"]["replicas"], 3);
    let containers = json!([{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]);
    assert_eq!(object["spec"]["template"]["spec"]["containers"], containers);
}

#[tokio::test]
async fn what_cannot_be_applied_is_told() {
    let name = "Object{spec: Object.wrong{replicas: 3}}";
    let told = "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from \
                root Object type";
    assert_eq!(why(applied(name).await), told);
    let selector = "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}";
    let told = "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector";
    assert_eq!(why(applied(selector).await), told);
    let unknown = why(applied("Object{spec: Object.spec{nothing: 1}}").await);
    let told = "error applying patch: failed to convert patch object to typed object: .spec.nothing: field not declared in schema";
    assert_eq!(unknown, told);
    let compiling = why(applied("Object{").await);
    assert!(compiling.starts_with("compilation failed: ERROR: "), "{compiling}");
}

#[tokio::test]
async fn patches_are_made_of_operations() {
    let add = "[JSONPatch{op: 'test', path: '/data/a', value: 'b'}, JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('x/y'), \
               value: variables.own}]";
    assert_eq!(patched(add).await.unwrap()["data"], json!({"a": "b", "x/y": "own"}));
    let object = "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'n': 'm'}}]";
    assert_eq!(patched(object).await.unwrap()["metadata"]["labels"], json!({"n": "m"}));
    let untrue = "[JSONPatch{op: 'test', path: '/data/a', value: 'c'}, JSONPatch{op: 'remove', path: '/data'}]";
    assert_eq!(patched(untrue).await.unwrap()["data"], json!({"a": "b"}), "none of it is done");
    let missing = why(patched("[JSONPatch{op: 'remove', path: '/none/a'}]").await);
    assert!(missing.starts_with("JSON Patch: remove operation does not apply: "), "{missing}");
    let unknown = why(patched("[JSONPatch{op: 'add', path: '/nothing', value: 'x'}]").await);
    assert_eq!(unknown, "500 Internal error occurred: strict decoding error: unknown field \"nothing\"");
}
