//! Tokens in secrets over years, with the controllers on a clock of their own.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use kedge_base::{SharedClock, Shutdown, TaskGroup, VirtualClock, system_clock};
use serde_json::{Value, json};

use crate::followers::{client_of, start_controllers, until};
use crate::support::{Cluster, JSON, MERGE};

const SECRETS: &str = "/api/v1/namespaces/test/secrets";
const INVALID: &str = "kubernetes.io/legacy-token-invalid-since";

async fn make(cluster: &Cluster, name: &str) -> String {
    let annotations = json!({ "kubernetes.io/service-account.name": "robot" });
    let metadata = json!({ "name": name, "annotations": annotations });
    cluster.ok(SECRETS, json!({ "metadata": metadata, "type": "kubernetes.io/service-account-token" })).await;
    let path = format!("{SECRETS}/{name}");
    until(cluster, &path, "is filled", |_, secret| secret["data"]["token"].is_string()).await;
    let token = cluster.get(&path).await["data"]["token"].clone();
    String::from_utf8(STANDARD.decode(token.as_str().unwrap()).unwrap()).unwrap()
}

async fn review(cluster: &Cluster, token: &str) -> Value {
    let review = json!({ "spec": { "token": token } });
    cluster.ok("/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"].clone()
}

/// Lets days pass, one more each time, until what a path shows is as wanted.
async fn days_until(cluster: &Cluster, clock: &VirtualClock, path: &str, wanted: impl Fn(StatusCode, &Value) -> bool) {
    let mut last = (StatusCode::OK, Value::Null);
    for _ in 0..3_000 {
        last = cluster.ask(Method::GET, path, JSON, "").await;
        if wanted(last.0, &last.1) {
            return;
        }
        clock.advance(Duration::from_secs(3_600));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} is {last:?}");
}

#[tokio::test]
async fn a_token_that_was_made_for_its_account_goes_when_nobody_uses_it_for_two_years() {
    let year = Duration::from_secs(367 * 24 * 3_600);
    let cluster = Cluster::new().await;
    let clock = VirtualClock::new(system_clock().now());
    let shared: SharedClock = Arc::new(clock.clone());
    cluster.ok("/api/v1/namespaces", json!({ "metadata": { "name": "kube-system" } })).await;
    let account = json!({ "metadata": { "name": "robot" }, "secrets": [{ "name": "made" }, { "name": "mounted" }] });
    cluster.ok("/api/v1/namespaces/test/serviceaccounts", account).await;
    let tasks = start_controllers(&cluster, &shared);
    let tracking = TaskGroup::new("tracking", Shutdown::new());
    kedge_controllers::legacy_token_tracking::start(&client_of(&cluster), &shared, &tracking);
    let since = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    until(&cluster, since, "says since when", |_, map| map["data"]["since"].is_string()).await;
    let (made, by_hand) = (make(&cluster, "made").await, make(&cluster, "by-hand").await);
    make(&cluster, "mounted").await;
    let volume = json!({ "name": "v", "secret": { "secretName": "mounted" } });
    let spec = json!({ "containers": [{ "name": "c", "image": "i" }], "volumes": [volume] });
    cluster.ok("/api/v1/namespaces/test/pods", json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    assert_eq!(review(&cluster, &made).await["authenticated"], true);

    clock.advance(year);
    let path = format!("{SECRETS}/made");
    days_until(&cluster, &clock, &path, |_, secret| secret["metadata"]["labels"][INVALID].is_string()).await;
    let refused = review(&cluster, &made).await;
    let said = refused["error"].as_str().unwrap();
    assert!(said.starts_with("[invalid bearer token, the token in secret test/made for service account"), "{said}");
    assert_eq!(review(&cluster, &by_hand).await["authenticated"], true);
    // Whoever misses it can have it back for as long as it takes.
    let label = json!({ "metadata": { "labels": { INVALID: null } } });
    assert_eq!(cluster.patch(&path, MERGE, &label).await.0, StatusCode::OK);
    assert_eq!(review(&cluster, &made).await["authenticated"], true);
    days_until(&cluster, &clock, &path, |_, secret| secret["metadata"]["labels"][INVALID].is_string()).await;

    clock.advance(year);
    days_until(&cluster, &clock, &path, |code, _| code == StatusCode::NOT_FOUND).await;
    for stays in ["by-hand", "mounted"] {
        let labels = cluster.get(&format!("{SECRETS}/{stays}")).await["metadata"]["labels"].clone();
        assert_eq!(labels.get(INVALID), None, "{stays}: {labels}");
    }
    tasks.join(Duration::from_secs(5)).await;
    tracking.join(Duration::from_secs(5)).await;
}
