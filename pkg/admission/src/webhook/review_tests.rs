//! Questions and answers.
#![allow(clippy::unwrap_used)]

use kedge_registry::{Operation, Options, WriteOptions};
use serde_json::json;

use super::super::hook::hooks;
use super::*;
use crate::testing;

#[tokio::test]
async fn a_question_has_all_fields_of_upstreams() {
    let (registry, _) = testing::registry().await;
    let mut user = testing::user();
    user.uid = "7".into();
    user.extra.insert("k".into(), vec!["v".into()]);
    let mut attributes = Attributes::new(Operation::Update, testing::resource("", "pods"), &user);
    (attributes.namespace, attributes.name, attributes.subresource) = ("a", "p", "status");
    attributes.options = Options::Write(WriteOptions { field_manager: "m", field_validation: "" });
    attributes.dry_run = true;
    let hook = json!({"name": "a.b.c", "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods/*"]}]});
    let hook = hooks(&json!({"metadata": {"name": "x"}, "webhooks": [hook]})).remove(0);
    let target = hook.criteria.target(&attributes, &json!({}), &registry).unwrap().unwrap();
    let objects = Objects::of(&json!({"new": 1}), &json!({"old": 1})).unwrap();
    let review = Review::new(ReviewVersion::V1, "uid", &attributes, &target, &objects);
    let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let wanted = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "uid", "kind": pod, "resource": pods, "subResource": "status",
        "requestKind": pod, "requestResource": pods, "requestSubResource": "status",
        "name": "p", "namespace": "a", "operation": "UPDATE",
        "userInfo": {"username": "somebody", "uid": "7", "groups": ["system:authenticated"], "extra": {"k": ["v"]}},
        "object": {"new": 1}, "oldObject": {"old": 1}, "dryRun": true,
        "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "m", "dryRun": ["All"]}}});
    assert_eq!(serde_json::to_value(&review).unwrap(), wanted);
    attributes.operation = Operation::Connect;
    let nothing = Objects::of(&Value::Null, &Value::Null).unwrap();
    let review = Review::new(ReviewVersion::V1beta1, "uid", &attributes, &target, &nothing);
    let review = serde_json::to_value(&review).unwrap();
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1beta1");
    for field in ["object", "oldObject", "options"] {
        assert!(review["request"].get(field).unwrap().is_null(), "{field}");
    }
}

fn read(version: ReviewVersion, mutating: bool, response: &Value) -> Result<Answer, Unfit> {
    let review = json!({"apiVersion": version.api_version(), "kind": "AdmissionReview", "response": response});
    Answer::read(version, "u", mutating, review.to_string().as_bytes())
}

fn invalid(mutating: bool, response: &Value) -> String {
    match read(ReviewVersion::V1, mutating, response) {
        Err(Unfit::Invalid(why) | Unfit::Undecodable(why)) => why,
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn answers_are_checked_as_upstream_checks_them() {
    let patch = STANDARD.encode("[]");
    let good = json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"],
        "auditAnnotations": {"k": "v"}});
    let answer = read(ReviewVersion::V1, true, &good).unwrap();
    assert_eq!(
        (answer.allowed, answer.patch.as_deref(), answer.warnings),
        (true, Some(&b"[]"[..]), vec!["w".to_owned()])
    );
    assert_eq!(answer.annotations, [("k".to_owned(), "v".to_owned())]);
    for (mutating, response, why) in [
        (true, Value::Null, "webhook response was absent"),
        (true, json!({"allowed": true}), "expected response.uid=\"u\", got \"\""),
        (true, json!({"uid": "u", "patch": patch}), "webhook returned response.patch but not response.patchType"),
        (
            true,
            json!({"uid": "u", "patchType": "JSONPatch"}),
            "webhook returned response.patchType but not response.patch",
        ),
        (
            true,
            json!({"uid": "u", "patch": patch, "patchType": ""}),
            "webhook returned invalid response.patchType of \"\"",
        ),
        (false, good, "validating webhook may not return response.patch"),
        (false, json!({"uid": "u", "patchType": "JSONPatch"}), "validating webhook may not return response.patchType"),
        (
            true,
            json!({"uid": "u", "allowed": "yes"}),
            "json: cannot unmarshal string into Go struct field AdmissionReview.response.allowed of type bool",
        ),
    ] {
        assert_eq!(invalid(mutating, &response), why, "{response}");
    }
    let other = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {"uid": "u"}});
    let other = Answer::read(ReviewVersion::V1, "u", true, other.to_string().as_bytes());
    let why = "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion";
    assert_eq!(other, Err(Unfit::Undecodable(why.to_owned())));
    let bare = Answer::read(ReviewVersion::V1, "u", true, br#"{"response": {"uid": "u"}}"#);
    let why = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
    assert_eq!(bare, Err(Unfit::Invalid(why.to_owned())));
    assert!(matches!(Answer::read(ReviewVersion::V1, "u", true, b"<html>"), Err(Unfit::Undecodable(_))));
}

#[test]
fn of_the_older_version_nothing_is_checked() {
    let response = json!({"allowed": true, "patch": STANDARD.encode("[]")});
    let answer = read(ReviewVersion::V1beta1, true, &response).unwrap();
    assert_eq!((answer.allowed, &*answer.patch_type), (true, "JSONPatch"));
    assert_eq!(read(ReviewVersion::V1beta1, false, &response).unwrap().patch, None);
    let bare = Answer::read(ReviewVersion::V1beta1, "u", true, br#"{"response": {"allowed": true}}"#);
    assert!(bare.unwrap().allowed);
}

#[test]
fn refusals_say_who_refuses_and_why() {
    let said = |result: Value| {
        let status = denied("a.b.c", result);
        let shown = serde_json::to_value(&status).unwrap();
        (status.code, status.message, shown["reason"].as_str().unwrap_or_default().to_owned())
    };
    let by = "admission webhook \"a.b.c\" denied the request";
    assert_eq!(said(Value::Null), (400, format!("{by} without explanation"), String::new()));
    assert_eq!(
        said(json!({"message": "no", "code": 403, "reason": "Forbidden"})),
        (403, format!("{by}: no"), "Forbidden".to_owned())
    );
    assert_eq!(
        said(json!({"reason": "the map is bad", "code": 200})),
        (400, format!("{by}: the map is bad"), "the map is bad".to_owned())
    );
    assert_eq!(said(json!({"message": "no", "details": null, "status": "Success"})).1, format!("{by}: no"));
    let status = denied("a.b.c", json!({"status": "Success", "details": {"name": "x", "causes": [{"message": "m"}]}}));
    assert_eq!((&*status.status, status.details.unwrap().causes.len()), ("Failure", 1));
}
