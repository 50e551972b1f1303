//! Claims from their making to their end, at a time that only moves when told to.
#![allow(clippy::unwrap_used)]

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::testing::Bench;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims";
const TEMPLATE: &str = "/apis/resource.k8s.io/v1/namespaces/a/resourceclaimtemplates/t";

fn pod(spec: &Value, status: &Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "a", "uid": "p1"}, "spec": spec, "status": status})
}

fn from_template() -> Value {
    json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]})
}

fn template() -> Value {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": true}});
    json!({"metadata": {"name": "t", "namespace": "a", "uid": "t1"},
        "spec": {"metadata": {"labels": {"l": "v"}, "annotations": {"x": "y"}}, "spec": {"devices": {"requests": [request]}}}})
}

fn claim(name: &str, owner: Option<&str>, status: &Value) -> Value {
    let owners =
        owner.map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]));
    json!({"metadata": {"name": name, "namespace": "a", "uid": name, "ownerReferences": owners.unwrap_or(json!([])),
        "annotations": {"resource.kubernetes.io/pod-claim-name": "gpu"}, "finalizers": ["resource.kubernetes.io/delete-protection", "other"]},
        "status": status})
}

fn used_by(uid: &str) -> Value {
    json!({"allocation": {"devices": {}}, "reservedFor": [{"resource": "pods", "name": "p", "uid": uid}]})
}

async fn bench(objects: Vec<(&str, Value)>) -> Bench {
    let bench = Bench::new(objects);
    start(&bench.ctx);
    bench.advance(1).await;
    bench
}

#[tokio::test]
async fn a_claim_is_made_once_and_its_name_is_published() {
    let bench = bench(vec![(POD, pod(&from_template(), &json!({}))), (TEMPLATE, template())]).await;
    let made = bench.api.calls(CLAIMS);
    assert_eq!((made.len(), &made[0].method), (1, &Method::POST));
    let metadata = &made[0].body["metadata"];
    assert_eq!(metadata["generateName"], "p-gpu-");
    assert_eq!(metadata["annotations"], json!({"x": "y", "resource.kubernetes.io/pod-claim-name": "gpu"}));
    assert_eq!((&metadata["labels"]["l"], &metadata["ownerReferences"][0]["uid"]), (&json!("v"), &json!("p1")));
    assert_eq!(made[0].body["spec"], template()["spec"]["spec"]);
    let published = bench.api.object(POD)["status"]["resourceClaimStatuses"].clone();
    assert_eq!(published[0]["name"], "gpu");
    bench.advance(30).await;
    assert_eq!(bench.api.calls(CLAIMS).iter().filter(|call| call.method == Method::POST).count(), 1);
}

#[tokio::test]
async fn one_that_was_made_before_a_restart_is_found_again() {
    let orphan = claim("p-gpu-x", Some("p1"), &json!({}));
    let path = format!("{CLAIMS}/p-gpu-x");
    let bench = bench(vec![(POD, pod(&from_template(), &json!({}))), (TEMPLATE, template()), (&path, orphan)]).await;
    assert!(bench.api.calls(CLAIMS).iter().all(|call| call.method != Method::POST));
    let published = &bench.api.object(POD)["status"]["resourceClaimStatuses"];
    assert_eq!(*published, json!([{"name": "gpu", "resourceClaimName": "p-gpu-x"}]));
}

#[tokio::test]
async fn a_missing_template_is_said_and_waited_for() {
    let bench = bench(vec![(POD, pod(&from_template(), &json!({})))]).await;
    let said = bench.api.events();
    assert!(
        said[0].starts_with("FailedResourceClaimCreation: PodResourceClaim gpu: resource claim template \"t\": "),
        "{said:?}"
    );
    bench.api.put(TEMPLATE, template());
    bench.advance(1).await;
    assert_eq!(bench.api.calls(CLAIMS).len(), 1);
}

#[tokio::test]
async fn who_is_gone_uses_nothing_and_what_nobody_uses_is_given_up() {
    let path = format!("{CLAIMS}/mine");
    let own = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}], "nodeName": "n"});
    let running = json!({"phase": "Running"});
    let bench = bench(vec![(POD, pod(&own, &running)), (&path, claim("mine", None, &used_by("p1")))]).await;
    assert!(bench.api.calls(CLAIMS).is_empty(), "it runs");
    bench.api.put(POD, pod(&own, &json!({"phase": "Succeeded"})));
    bench.advance(1).await;
    let claim = bench.api.object(&path);
    assert_eq!((&claim["status"]["allocation"], &claim["status"]["reservedFor"]), (&Value::Null, &Value::Null));
    assert_eq!(claim["metadata"]["finalizers"], json!(["other"]));
}

#[tokio::test]
async fn the_api_server_is_asked_about_pods_that_are_not_known() {
    let path = format!("{CLAIMS}/mine");
    let bench = bench(vec![(&path, claim("mine", None, &used_by("p1")))]).await;
    assert!(bench.api.object(&path)["status"]["reservedFor"].is_null());
    let other = json!({"allocation": {}, "reservedFor": [{"apiGroup": "example.com", "resource": "things", "name": "t", "uid": "u"}]});
    let bench = self::bench(vec![(&path, claim("mine", None, &other))]).await;
    assert!(bench.api.calls(CLAIMS).is_empty(), "users of other kinds stay");
}

#[tokio::test]
async fn a_pod_that_others_placed_uses_its_claim() {
    let path = format!("{CLAIMS}/mine");
    let own = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}], "nodeName": "n"});
    let allocated = json!({"allocation": {"devices": {}}});
    let bench = bench(vec![(POD, pod(&own, &json!({}))), (&path, claim("mine", None, &allocated))]).await;
    let users = &bench.api.object(&path)["status"]["reservedFor"];
    assert_eq!(*users, json!([{"resource": "pods", "name": "p", "uid": "p1"}]));
}

#[tokio::test]
async fn a_generated_claim_goes_with_the_work_of_its_pod() {
    let path = format!("{CLAIMS}/p-gpu-x");
    let status = json!({"phase": "Failed", "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]});
    let bench =
        bench(vec![(POD, pod(&from_template(), &status)), (&path, claim("p-gpu-x", Some("p1"), &used_by("p1")))]).await;
    assert!(bench.api.object(&path).is_null());
}

#[test]
fn what_is_gone_is_remembered_for_a_while() {
    let mut gone = Gone::default();
    (0..REMEMBERED + 10).for_each(|i| gone.add(&i.to_string()));
    assert_eq!((gone.order.len(), gone.uids.len()), (REMEMBERED, REMEMBERED));
    assert!(!gone.uids.contains("0") && gone.uids.contains("509"));
}
