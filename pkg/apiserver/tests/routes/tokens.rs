//! Tokens: for whom, for how long, bound to what; and what a review says of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use kedge_meta::UserInfo;
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, NAMESPACE};

fn at(rest: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{rest}")
}

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.ok(&at("serviceaccounts"), json!({"metadata": {"name": "other"}})).await;
    cluster.ok("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    for (name, node) in [("p", "n1"), ("q", "n2")] {
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
        cluster.ok(&at("pods"), json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    cluster.ok(&at("secrets"), json!({"metadata": {"name": "s"}})).await;
    cluster
}

async fn request(cluster: &Cluster, account: &str, spec: Value) -> (StatusCode, Value) {
    cluster.post(&at(&format!("serviceaccounts/{account}/token")), &json!({ "spec": spec })).await
}

fn bound(kind: &str, name: &str) -> Value {
    json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}})
}

async fn review(cluster: &Cluster, token: &Value, audiences: Value) -> Value {
    let spec = json!({"spec": {"token": token, "audiences": audiences}});
    cluster.ok("/apis/authentication.k8s.io/v1/tokenreviews", spec).await["status"].clone()
}

/// Once an account's token could be bound to any pod, so that it outlived what it was meant for.
#[tokio::test]
async fn a_token_is_bound_to_a_pod_of_its_account() {
    let cluster = cluster().await;
    let (code, answer) = request(&cluster, "default", bound("Pod", "p")).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let token = &answer["status"]["token"];
    let found = review(&cluster, token, json!([])).await;
    assert_eq!(found["user"]["extra"]["authentication.kubernetes.io/node-name"], json!(["n1"]), "{found}");
    let (code, answer) = request(&cluster, "other", bound("Pod", "p")).await;
    let said = "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.";
    assert_eq!((code, answer["message"].as_str().unwrap()), (StatusCode::BAD_REQUEST, said));
    for (kind, name, code) in [("Secret", "s", 201), ("Node", "n1", 201), ("Pod", "none", 404), ("Node", "none", 404)] {
        let (got, answer) = request(&cluster, "default", bound(kind, name)).await;
        assert_eq!(got.as_u16(), code, "{kind} {name}: {answer}");
    }
    let (code, answer) = request(&cluster, "default", bound("ConfigMap", "m")).await;
    let said = "cannot bind token to object of type /v1, Kind=ConfigMap";
    assert_eq!((code, answer["message"].as_str().unwrap()), (StatusCode::BAD_REQUEST, said));
    let other = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "other"}});
    assert_eq!(request(&cluster, "default", other).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_token_dies_with_what_it_is_bound_to() {
    let cluster = cluster().await;
    for (kind, name, path) in
        [("Pod", "p", at("pods/p")), ("Secret", "s", at("secrets/s")), ("Node", "n1", "/api/v1/nodes/n1".into())]
    {
        let (_, answer) = request(&cluster, "default", bound(kind, name)).await;
        let token = &answer["status"]["token"];
        assert_eq!(review(&cluster, token, json!([])).await["authenticated"], true, "{kind}");
        let (code, answer) = cluster.ask(Method::DELETE, &path, JSON, r#"{"gracePeriodSeconds":0}"#).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        let gone = review(&cluster, token, json!([])).await;
        assert_eq!(gone.get("authenticated"), None, "{kind}: {gone}");
    }
}

#[tokio::test]
async fn the_account_and_the_time_must_fit() {
    let cluster = cluster().await;
    for (body, code) in [
        (json!({"spec": {"expirationSeconds": 599}}), 422),
        (json!({"spec": {"expirationSeconds": 4_294_967_297_i64}}), 422),
        (json!({"spec": {"expirationSeconds": 600}}), 201),
        (json!({"metadata": {"name": "other"}}), 422),
        (json!({"metadata": {"namespace": "other"}}), 400),
        (json!({"metadata": {"uid": "other"}}), 409),
    ] {
        let (got, answer) = cluster.post(&at("serviceaccounts/default/token"), &body).await;
        // Upstream has two checks of the namespace; whichever comes first refuses.
        let refused = got.as_u16() == code || (code == 400 && got.as_u16() == 422);
        assert!(refused, "{body}: {answer}");
    }
    let (code, _) = request(&cluster, "none", json!({})).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

/// Once a review repeated whatever audiences it was asked about.
#[tokio::test]
async fn a_review_names_the_audiences_that_both_mean() {
    let cluster = cluster().await;
    let (_, answer) = request(&cluster, "default", json!({"audiences": ["a", "b", "c"]})).await;
    let token = &answer["status"]["token"];
    let found = review(&cluster, token, json!(["x", "c", "a"])).await;
    assert_eq!((&found["authenticated"], &found["audiences"]), (&json!(true), &json!(["a", "c"])));
    for asked in [json!(["x"]), json!([])] {
        let refused = review(&cluster, token, asked).await;
        assert_eq!(refused.get("authenticated"), None, "{refused}");
        assert!(refused["error"].as_str().unwrap().contains("audience"), "{refused}");
    }
    let (_, answer) = request(&cluster, "default", json!({})).await;
    let found = review(&cluster, &answer["status"]["token"], json!([])).await;
    assert_eq!(found["audiences"], answer["spec"]["audiences"], "those of the API server: {found}");
    let (code, _) = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {}})).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
}

/// A node gets tokens for pods that are bound to it, for whom these pods name; once it got any.
#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods() {
    let cluster = cluster().await;
    let node = UserInfo::new("system:node:n1", &["system:nodes"]);
    let uid = |pod: Value| pod["metadata"]["uid"].clone();
    let (mine, others) = (uid(cluster.get(&at("pods/p")).await), uid(cluster.get(&at("pods/q")).await));
    let reference = |name: &str, uid: &Value| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    for (spec, code) in [
        (json!({"boundObjectRef": reference("p", &mine)}), 201),
        (json!({"boundObjectRef": reference("q", &others)}), 403),
        (json!({"boundObjectRef": reference("p", &Value::Null)}), 403),
        (json!({"boundObjectRef": reference("p", &others)}), 403),
        (json!({"boundObjectRef": reference("p", &mine), "audiences": ["somebody"]}), 403),
        (json!({}), 403),
    ] {
        let body = json!({ "spec": spec }).to_string();
        let path = at("serviceaccounts/default/token");
        let (got, answer) = cluster.ask_as(&node, Method::POST, &path, JSON, body).await;
        assert_eq!(got.as_u16(), code, "{spec}: {answer}");
    }
}

/// What a token says, unverified.
fn claims(answer: &Value) -> Value {
    let token = answer["status"]["token"].as_str().unwrap();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Pods whose program reads its token once were refused after an hour.
#[tokio::test]
async fn the_usual_token_of_a_pod_lasts_longer_than_it_says() {
    let cluster = cluster().await;
    let with = |mut spec: Value, seconds: i64| {
        spec["expirationSeconds"] = json!(seconds);
        spec
    };
    let (_, answer) = request(&cluster, "default", with(bound("Pod", "p"), 3607)).await;
    let claims_of_usual = claims(&answer);
    let at = |name: &str| claims_of_usual[name].as_i64().unwrap();
    assert_eq!(at("exp") - at("iat"), 365 * 24 * 3600);
    assert_eq!(claims_of_usual["kubernetes.io"]["warnafter"], at("iat") + 3607);
    assert_eq!(answer["spec"]["expirationSeconds"], 3607);
    let ends = answer["status"]["expirationTimestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(ends.as_second(), at("iat") + 3607, "kubelets get a new one in time");
    assert_eq!(review(&cluster, &answer["status"]["token"], json!([])).await["authenticated"], true);
    let mut elsewhere = with(bound("Pod", "p"), 3607);
    elsewhere["audiences"] = json!(["vault"]);
    for spec in [with(bound("Pod", "p"), 3600), with(bound("Secret", "s"), 3607), with(json!({}), 3607), elsewhere] {
        let (_, answer) = request(&cluster, "default", spec.clone()).await;
        let claims = claims(&answer);
        let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lasts, spec["expirationSeconds"].as_i64().unwrap(), "{spec}");
        assert_eq!(claims["kubernetes.io"].get("warnafter"), None, "{spec}");
    }
}
