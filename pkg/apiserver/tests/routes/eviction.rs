//! Evictions: what budgets allow, what they refuse and how, and what is left of it afterwards.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Cluster, MERGE, NAMESPACE};

fn at(rest: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{rest}")
}

fn budgets(rest: &str) -> String {
    format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets{rest}")
}

/// A pod that runs, and is ready or not.
async fn pod(cluster: &Cluster, name: &str, ready: bool) {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    cluster.ok(&at("pods"), json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec})).await;
    let ready = if ready { "True" } else { "False" };
    status(cluster, name, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]})).await;
}

async fn status(cluster: &Cluster, name: &str, status: Value) {
    let (code, answer) = cluster.patch(&at(&format!("pods/{name}/status")), MERGE, &json!({ "status": status })).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

async fn budget(cluster: &Cluster, name: &str, counts: [i64; 3]) {
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}});
    let made = cluster.ok(&budgets(""), json!({"metadata": {"name": name}, "spec": spec})).await;
    let [allowed, current, desired] = counts;
    let status = json!({"observedGeneration": made["metadata"]["generation"], "disruptionsAllowed": allowed,
        "currentHealthy": current, "desiredHealthy": desired, "expectedPods": current});
    let (code, answer) = cluster.patch(&budgets(&format!("/{name}/status")), MERGE, &json!({ "status": status })).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

async fn evict(cluster: &Cluster, name: &str, options: Value) -> (StatusCode, Value) {
    let eviction = json!({"metadata": {"name": name}, "deleteOptions": options});
    cluster.post(&at(&format!("pods/{name}/eviction")), &eviction).await
}

async fn is_there(cluster: &Cluster, name: &str) -> bool {
    cluster.ask(http::Method::GET, &at(&format!("pods/{name}")), "", "").await.0 == StatusCode::OK
}

#[tokio::test]
async fn an_eviction_is_counted_and_the_next_is_refused() {
    let cluster = Cluster::new().await;
    pod(&cluster, "one", true).await;
    pod(&cluster, "two", true).await;
    budget(&cluster, "b", [1, 2, 1]).await;
    let before = cluster.revision();
    let (code, answer) = evict(&cluster, "one", json!({"dryRun": ["All"]})).await;
    assert_eq!((code, cluster.revision()), (StatusCode::CREATED, before), "{answer}");
    let (code, answer) = evict(&cluster, "one", json!({})).await;
    assert_eq!((code, &answer["code"]), (StatusCode::CREATED, &json!(201)), "{answer}");
    assert!(!is_there(&cluster, "one").await, "it runs nowhere, and so is gone at once");
    let status = cluster.get(&budgets("/b")).await["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["one"].is_string(), "{status}");
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    for dry in [json!({}), json!({"dryRun": ["All"]})] {
        let (code, answer) = evict(&cluster, "two", dry).await;
        assert_eq!(code, StatusCode::TOO_MANY_REQUESTS);
        let cause = &answer["details"]["causes"][0];
        let said = "The disruption budget b does not allow evicting pods currently";
        assert_eq!((&cause["reason"], &cause["message"]), (&json!("DisruptionBudget"), &json!(said)));
        assert_eq!(answer["details"].get("retryAfterSeconds"), None, "{answer}");
    }
    assert!(is_there(&cluster, "two").await);
}

#[tokio::test]
async fn a_budget_that_has_not_been_looked_at_allows_nothing_yet() {
    let cluster = Cluster::new().await;
    pod(&cluster, "p", true).await;
    budget(&cluster, "b", [1, 2, 1]).await;
    let (code, answer) = cluster.patch(&budgets("/b"), MERGE, &json!({"spec": {"minAvailable": 2}})).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let (code, answer) = evict(&cluster, "p", json!({})).await;
    assert_eq!((code, &answer["details"]["retryAfterSeconds"]), (StatusCode::TOO_MANY_REQUESTS, &json!(10)));
}

#[tokio::test]
async fn pods_that_are_not_ready_go_as_the_policy_says() {
    let cluster = Cluster::new().await;
    budget(&cluster, "b", [0, 1, 2]).await;
    pod(&cluster, "p", false).await;
    assert_eq!(evict(&cluster, "p", json!({})).await.0, StatusCode::TOO_MANY_REQUESTS, "the budget is not met");
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    assert_eq!(cluster.patch(&budgets("/b"), MERGE, &always).await.0, StatusCode::OK);
    assert_eq!(evict(&cluster, "p", json!({})).await.0, StatusCode::CREATED);
    let other = json!({"spec": {"unhealthyPodEvictionPolicy": "IfHealthyBudget"}, "status": {}});
    assert_eq!(cluster.patch(&budgets("/b"), MERGE, &other).await.0, StatusCode::OK);
    let met = json!({"status": {"currentHealthy": 2}});
    assert_eq!(cluster.patch(&budgets("/b/status"), MERGE, &met).await.0, StatusCode::OK);
    pod(&cluster, "q", false).await;
    assert_eq!(evict(&cluster, "q", json!({})).await.0, StatusCode::CREATED, "it does not count");
    let status = cluster.get(&budgets("/b")).await["status"].clone();
    assert_eq!(status.get("disruptedPods").cloned().unwrap_or(json!({})), json!({}), "nothing was taken: {status}");
}

#[tokio::test]
async fn what_has_not_begun_or_has_ended_goes_without_a_budget() {
    let cluster = Cluster::new().await;
    budget(&cluster, "b", [0, 1, 2]).await;
    for phase in ["Pending", "Succeeded", "Failed"] {
        pod(&cluster, "p", true).await;
        status(&cluster, "p", json!({"phase": phase})).await;
        let (code, answer) = evict(&cluster, "p", json!({})).await;
        assert_eq!(code, StatusCode::CREATED, "{phase}: {answer}");
    }
}

#[tokio::test]
async fn what_an_eviction_may_not_say() {
    let cluster = Cluster::new().await;
    pod(&cluster, "p", true).await;
    let uid = json!({"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}});
    let (code, answer) = evict(&cluster, "p", uid).await;
    assert_eq!(code, StatusCode::CONFLICT, "{answer}");
    assert_eq!(evict(&cluster, "p", json!({"dryRun": ["Some"]})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let path = at("pods/p/eviction");
    assert_eq!(cluster.post(&path, &json!({"metadata": {"name": "q"}})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(evict(&cluster, "none", json!({})).await.0, StatusCode::NOT_FOUND);
    budget(&cluster, "b1", [1, 2, 1]).await;
    budget(&cluster, "b2", [1, 2, 1]).await;
    let (code, answer) = evict(&cluster, "p", json!({})).await;
    let said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!((code, answer["message"].as_str().unwrap()), (StatusCode::INTERNAL_SERVER_ERROR, said));
    assert!(is_there(&cluster, "p").await);
}

/// Clients that were written before 1.22 name the version of that time.
#[tokio::test]
async fn the_first_version_of_evictions_is_still_taken() {
    let cluster = Cluster::new().await;
    for (name, version, code) in [
        ("old", "policy/v1beta1", StatusCode::CREATED),
        ("new", "policy/v1", StatusCode::CREATED),
        ("odd", "policy/v2", StatusCode::BAD_REQUEST),
    ] {
        pod(&cluster, name, true).await;
        let eviction = json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": name}});
        let (got, answer) = cluster.post(&at(&format!("pods/{name}/eviction")), &eviction).await;
        assert_eq!(got, code, "{answer}");
        assert_eq!(is_there(&cluster, name).await, code != StatusCode::CREATED);
    }
}
