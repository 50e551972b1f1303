//! What the server says of itself: its metrics by upstream's names, what it is and what it was started with.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, NAMESPACE};

async fn metrics(cluster: &Cluster) -> String {
    let (code, _, text) = cluster.accepting("/metrics", "*/*", true).await;
    assert_eq!(code, StatusCode::OK);
    String::from_utf8(text.to_vec()).unwrap()
}

/// The value of the one sample that has all these pieces.
fn value(metrics: &str, pieces: &[&str]) -> f64 {
    let matching: Vec<_> = metrics.lines().filter(|line| pieces.iter().all(|piece| line.contains(piece))).collect();
    assert_eq!(matching.len(), 1, "{pieces:?}: {matching:?}");
    matching[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_upstreams_names_and_labels() {
    let cluster = Cluster::new().await;
    let all = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    cluster.ok(&all, json!({"metadata": {"name": "c"}})).await;
    assert_eq!(cluster.post(&all, &json!({"metadata": {"name": "c"}})).await.0, StatusCode::CONFLICT);
    assert_eq!(
        cluster.post(&format!("{all}?dryRun=All"), &json!({"metadata": {"name": "d"}})).await.0,
        StatusCode::CREATED
    );
    cluster.get(&all).await;
    cluster.get(&format!("{all}/c")).await;
    cluster.ask(http::Method::GET, "/api/v1/nothings", JSON, "").await;
    cluster.ask(http::Method::GET, &format!("{all}/c/anything"), JSON, "").await;
    let text = metrics(&cluster).await;
    let resource = "group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\"";
    let total = |verb: &str, scope: &str, code: &str, dry_run: &str| {
        value(
            &text,
            &[
                "apiserver_request_total{",
                resource,
                &format!("verb=\"{verb}\""),
                &format!("scope=\"{scope}\""),
                &format!("code=\"{code}\""),
                &format!("dry_run=\"{dry_run}\""),
                "component=\"apiserver\"",
            ],
        )
    };
    assert_eq!(total("POST", "resource", "201", ""), 1.0);
    assert_eq!(total("POST", "resource", "409", ""), 1.0);
    assert_eq!(total("POST", "resource", "201", "All"), 1.0);
    assert_eq!(total("LIST", "namespace", "200", ""), 1.0);
    assert_eq!(total("GET", "resource", "200", ""), 1.0);
    let gets = [resource, "verb=\"GET\"", "le=\"+Inf\""];
    for histogram in ["apiserver_request_duration_seconds_bucket", "apiserver_response_sizes_bucket"] {
        assert_eq!(value(&text, &[&[histogram], &gets[..]].concat()), 1.0, "{histogram}");
    }
    assert_eq!(value(&text, &["apiserver_response_sizes_bucket", resource, "\"LIST\"", "le=\"1e+09\""]), 1.0);
    assert_eq!(value(&text, &["apiserver_resource_objects{", "\"configmaps\""]), 1.0);
    assert!(!text.contains("nothings") && !text.contains("anything"), "names that anybody could make up");
}

#[tokio::test]
async fn a_deprecated_kind_that_is_used_is_shown() {
    let cluster = Cluster::new().await;
    assert!(!metrics(&cluster).await.contains("apiserver_requested_deprecated_apis{"));
    cluster.get("/api/v1/endpoints").await;
    let labels = "{group=\"\",version=\"v1\",resource=\"endpoints\",subresource=\"\",removed_release=\"\"}";
    assert_eq!(value(&metrics(&cluster).await, &["apiserver_requested_deprecated_apis", labels]), 1.0);
}

#[tokio::test]
async fn the_server_says_what_it_is_in_the_form_asked_for() {
    let cluster = Cluster::new().await;
    let (_, kind, text) = cluster.accepting("/statusz", "", true).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(kind.starts_with("text/plain") && text.starts_with("\napiserver statusz\nWarning: "), "{text}");
    assert!(text.contains("\nEmulation version: 1.36\nPaths: /flagz /healthz "), "{text}");
    let flagz = "application/json;g=config.k8s.io;v=v1beta1;as=Flagz";
    let (code, kind, body) = cluster.accepting("/flagz", flagz, true).await;
    let wanted = json!({"kind": "Flagz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "apiserver"},
        "flags": {"data-dir": "/d"}});
    assert_eq!((code, kind.as_str()), (StatusCode::OK, flagz));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), wanted);
    let (code, _, body) = cluster.accepting("/flagz", "application/json", true).await;
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
    let types = "application/json, application/yaml, text/plain";
    assert_eq!(said["message"], format!("only the following media types are accepted: {types}"));
}

/// Clients say how long they wait; what is no duration was passed over.
#[tokio::test]
async fn the_time_that_a_client_gives_is_read() {
    let cluster = Cluster::new().await;
    let list = "/api/v1/namespaces";
    assert_eq!(cluster.ask(http::Method::GET, &format!("{list}?timeout=30s"), JSON, "").await.0, StatusCode::OK);
    let (code, said) = cluster.ask(http::Method::GET, &format!("{list}?timeout=soon"), JSON, "").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(said["message"], "invalid timeout specified in the request URL - time: invalid duration \"soon\"");
}
