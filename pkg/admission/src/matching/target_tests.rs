//! Whom a request concerns, and in which version.
#![allow(clippy::unwrap_used)]

use kedge_meta::UserInfo;
use serde_json::json;

use super::*;
use crate::testing;

fn hook(fields: &Value) -> Criteria {
    let mut hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://example.com"}, "rules": [{"operations": ["*"],
        "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    for (name, value) in fields.as_object().unwrap() {
        hook[name] = value.clone();
    }
    Criteria::of_webhook(&hook)
}

fn rules(group: &str, version: &str, resource: &str) -> Value {
    json!([{"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]}])
}

fn attributes<'a>(
    operation: Operation,
    (group, version, plural): (&str, &str, &str),
    user: &'a UserInfo,
) -> Attributes<'a> {
    Attributes::new(operation, kedge_schema::resource(group, version, plural).unwrap(), user)
}

const PODS: (&str, &str, &str) = ("", "v1", "pods");
const AUTOSCALERS: &str = "horizontalpodautoscalers";

#[tokio::test]
async fn labels_of_the_object_as_it_was_or_will_be() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let labelled = |value: &str| json!({"metadata": {"labels": {"a": value}}});
    let of = |fields: Value, operation, object: Value, old: Option<&Value>| {
        let mut attributes = attributes(operation, PODS, &user);
        attributes.old = old;
        hook(&fields).target(&attributes, &object, &registry).unwrap().is_some()
    };
    let selector = json!({"objectSelector": {"matchLabels": {"a": "x"}}});
    assert!(of(selector.clone(), Operation::Create, labelled("x"), None));
    assert!(!of(selector.clone(), Operation::Create, labelled("y"), None));
    assert!(of(selector.clone(), Operation::Update, labelled("y"), Some(&labelled("x"))), "it was one");
    assert!(of(selector, Operation::Delete, Value::Null, Some(&labelled("x"))));
    let without = json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}});
    assert!(of(without.clone(), Operation::Create, json!({"metadata": {}}), None));
    assert!(
        !of(without.clone(), Operation::Connect, json!({"kind": "PodExecOptions"}), None),
        "options have no labels"
    );
    assert!(!of(without, Operation::Delete, Value::Null, Some(&labelled("x"))), "what is not there neither");
}

#[tokio::test]
async fn labels_of_the_namespace() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let namespace =
        |labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}});
    testing::put(&registry, namespace(json!({"a": "x"}))).await;
    let hook = hook(&json!({"namespaceSelector": {"matchLabels": {"a": "x"}}}));
    let of = |resource, operation, namespace, object: Value| {
        let mut attributes = attributes(operation, resource, &user);
        attributes.namespace = namespace;
        hook.target(&attributes, &object, &registry).map(|target| target.is_some()).map_err(|err| err.message)
    };
    assert_eq!(of(PODS, Operation::Create, "n", json!({})), Ok(true));
    assert_eq!(of(PODS, Operation::Create, "gone", json!({})), Err("namespaces \"gone\" not found".to_owned()));
    assert_eq!(of(("", "v1", "nodes"), Operation::Create, "", json!({})), Ok(true), "it is in none");
    let itself = ("", "v1", "namespaces");
    assert_eq!(of(itself, Operation::Create, "new", namespace(json!({"a": "x"}))), Ok(true));
    assert_eq!(of(itself, Operation::Update, "n", namespace(json!({"a": "y"}))), Ok(false), "as it will be");
    assert_eq!(of(itself, Operation::Delete, "n", Value::Null), Ok(true), "as it is");
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_no_matter_to_whom_the_request_is_none() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let mut attributes = attributes(Operation::Create, PODS, &user);
    attributes.namespace = "gone";
    let selector = json!({"matchLabels": {"a": "x"}});
    let other = hook(&json!({"namespaceSelector": selector, "rules": rules("", "v1", "services")}));
    assert!(other.target(&attributes, &json!({}), &registry).unwrap().is_none());
    let objects = hook(&json!({"namespaceSelector": selector, "objectSelector": {"matchLabels": {"a": "x"}}}));
    assert!(objects.target(&attributes, &json!({}), &registry).unwrap().is_none());
}

#[tokio::test]
async fn the_same_objects_in_another_version_are_shown_in_that() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let asked = |policy: &str, group: &str, version: &str, plural: &str, subresource: &'static str| {
        let hook = hook(&json!({"matchPolicy": policy, "rules": rules(group, version, &format!("{plural}/*"))}));
        let mut attributes = attributes(Operation::Create, ("autoscaling", "v1", AUTOSCALERS), &user);
        attributes.subresource = subresource;
        hook.target(&attributes, &json!({}), &registry).unwrap()
    };
    let same = asked("Equivalent", "autoscaling", "v1", AUTOSCALERS, "").unwrap();
    assert!(!same.is_converted());
    assert!(asked("Exact", "autoscaling", "v2", AUTOSCALERS, "").is_none());
    assert!(asked("Equivalent", "apps", "v1", "deployments", "").is_none());
    assert!(asked("Equivalent", "autoscaling", "v2", AUTOSCALERS, "scale").is_none(), "nobody has that");
    let status = asked("Equivalent", "autoscaling", "v2", AUTOSCALERS, "status").unwrap();
    assert_eq!(&*status.kind.version, "v2");
    let other = asked("Equivalent", "autoscaling", "v2", AUTOSCALERS, "").unwrap();
    assert_eq!((&*other.version, &*other.kind.version, &*other.kind.kind), ("v2", "v2", "HorizontalPodAutoscaler"));
    let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}, "targetCPUUtilizationPercentage": 50}});
    let mut shown = other.shown(&object).await.unwrap();
    assert_eq!(shown["apiVersion"], "autoscaling/v2");
    assert_eq!(shown["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    shown["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] = 70.into();
    let taken = other.taken(shown).await.unwrap();
    assert_eq!(
        (&taken["apiVersion"], &taken["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(70))
    );
    assert_eq!(other.shown(&Value::Null).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn what_a_patch_leaves_is_an_object_of_the_kind_with_its_defaults() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let pods = attributes(Operation::Create, PODS, &user);
    let target = hook(&json!({})).target(&pods, &json!({}), &registry).unwrap().unwrap();
    let pod = |container: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}});
    let taken = target.taken(pod(json!({"name": "c", "image": "i", "bogus": 1}))).await.unwrap();
    let container = &taken["spec"]["containers"][0];
    assert_eq!(
        (&container["terminationMessagePath"], &container["bogus"]),
        (&json!("/dev/termination-log"), &Value::Null)
    );
    let wrong = target.taken(pod(json!({"name": 1}))).await.unwrap_err();
    assert_eq!(wrong.code, 500);
    let mut other = pod(json!({}));
    other["kind"] = "Service".into();
    let said = target.taken(other).await.unwrap_err().message;
    assert_eq!(said, "Internal error occurred: converting (v1.Service) to (v1.Pod): unknown conversion");
}

#[tokio::test]
async fn what_is_excluded_matches_in_no_version() {
    let (registry, _) = testing::registry().await;
    let user = testing::user();
    let mut attributes = attributes(Operation::Create, ("autoscaling", "v1", AUTOSCALERS), &user);
    let of = |attributes: &Attributes<'_>, resources: Value| {
        Criteria::of_resources(&resources).target(attributes, &json!({}), &registry).unwrap().is_some()
    };
    let (all, one) = (rules("*", "*", "*"), rules("autoscaling", "v2", AUTOSCALERS));
    assert!(of(&attributes, json!({"resourceRules": all.clone()})));
    assert!(of(&attributes, json!({})), "without rules about everything");
    assert!(!of(&attributes, json!({"excludeResourceRules": one.clone(), "matchPolicy": "Equivalent"})));
    assert!(of(&attributes, json!({"resourceRules": all, "excludeResourceRules": one, "matchPolicy": "Exact"})));
    attributes.subresource = "status";
    assert!(!of(&attributes, json!({"resourceRules": rules("*", "*", "*")})));
}
