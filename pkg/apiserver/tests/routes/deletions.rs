//! What a delete says of the object that it means, and of those that belong to it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, MERGE, NAMESPACE};

async fn delete(cluster: &Cluster, path: &str) -> (StatusCode, Value) {
    cluster.ask(Method::DELETE, path, JSON, "").await
}

fn within(plural: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{plural}")
}

/// The query was not looked at for it, and another object than was meant was lost.
#[tokio::test]
async fn a_delete_is_of_the_object_that_its_query_means() {
    let cluster = Cluster::new().await;
    let all = within("configmaps");
    let made = cluster.ok(&all, json!({"metadata": {"name": "c"}})).await;
    let (one, uid) = (format!("{all}/c"), made["metadata"]["uid"].as_str().unwrap().to_owned());
    for wrong in ["uid=another", "resourceVersion=1"] {
        let (code, answer) = delete(&cluster, &format!("{one}?{wrong}")).await;
        assert_eq!(code, StatusCode::CONFLICT, "{wrong}: {answer}");
    }
    let (code, answer) = delete(&cluster, &format!("{all}?uid=another")).await;
    assert_eq!(code, StatusCode::CONFLICT, "{answer}");
    cluster.get(&one).await;
    assert_eq!(delete(&cluster, &format!("{one}?uid={uid}")).await.0, StatusCode::OK);
}

/// Nothing belongs to an event: what was to be done with that stayed on it as a finalizer that nobody takes off.
#[tokio::test]
async fn events_keep_no_finalizers_of_the_garbage_collector() {
    let cluster = Cluster::new().await;
    let about = json!({"kind": "Pod", "namespace": NAMESPACE, "name": "p"});
    let event = json!({"metadata": {"name": "e", "finalizers": ["orphan", "a.b/c"]}, "involvedObject": about});
    cluster.ok(&within("events"), event).await;
    let (code, left) = delete(&cluster, &format!("{}/e?propagationPolicy=Foreground", within("events"))).await;
    assert_eq!((code, &left["metadata"]["finalizers"]), (StatusCode::OK, &json!(["a.b/c"])), "{left}");
}

#[tokio::test]
async fn a_namespace_waits_without_a_time_and_says_so_truly() {
    let cluster = Cluster::new().await;
    let path = "/api/v1/namespaces/other";
    cluster.ok("/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await;
    let wrong = json!({"status": {"phase": "Terminating"}});
    let (code, answer) = cluster.patch(&format!("{path}/status"), MERGE, &wrong).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let (_, answer) = delete(&cluster, &format!("{path}?uid=another")).await;
    let text = answer["message"].as_str().unwrap_or_default();
    assert!(text.contains("Precondition failed: UID in precondition: another, UID in object meta: "), "{answer}");
    let (code, left) = delete(&cluster, &format!("{path}?propagationPolicy=Foreground")).await;
    let metadata = &left["metadata"];
    assert_eq!((code, &left["status"]["phase"]), (StatusCode::OK, &json!("Terminating")), "{left}");
    assert!(
        metadata["deletionTimestamp"].is_string() && metadata.get("deletionGracePeriodSeconds").is_none(),
        "{left}"
    );
    assert!(metadata.get("finalizers").is_none(), "{left}");
    let mut empty = cluster.get(path).await;
    empty["spec"]["finalizers"] = json!(["a b"]);
    let finalize = |body: &Value| (Method::PUT, format!("{path}/finalize"), body.to_string());
    let (method, at, body) = finalize(&empty);
    assert_eq!(cluster.ask(method, &at, JSON, body).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

/// Who takes whatever the cache has gets all of it, as from a stock server.
#[tokio::test]
async fn a_list_of_any_version_has_no_pages() {
    let cluster = Cluster::new().await;
    for name in ["a", "b", "c"] {
        cluster.ok(&within("configmaps"), json!({"metadata": {"name": name}})).await;
    }
    let list = cluster.get(&format!("{}?limit=1&resourceVersion=0", within("configmaps"))).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3), "{list}");
    assert!(list["metadata"].get("continue").is_none(), "{list}");
}
