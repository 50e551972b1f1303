//! What lists can be selected by, and what users of deprecated kinds are told.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kedge_apiserver::{Body, Peer};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{Cluster, JSON, NAMESPACE};

/// The names that a field selector finds, or why it is refused.
async fn found(cluster: &Cluster, collection: &str, selector: &str) -> Result<Vec<String>, String> {
    let selector = selector.replace('=', "%3D").replace('!', "%21").replace(',', "%2C");
    let (code, list) = cluster.ask(Method::GET, &format!("{collection}?fieldSelector={selector}"), JSON, "").await;
    if code != StatusCode::OK {
        assert_eq!((code, &list["reason"]), (StatusCode::BAD_REQUEST, &json!("BadRequest")), "{list}");
        return Err(list["message"].as_str().unwrap_or_default().to_owned());
    }
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
}

fn names(all: &[&str]) -> Result<Vec<String>, String> {
    Ok(all.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn events_of_both_groups_are_selected_by_their_own_labels() {
    let cluster = Cluster::new().await;
    let core = format!("/api/v1/namespaces/{NAMESPACE}/events");
    let newer = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
    for (name, source, reporter) in [("a", "scheduler", ""), ("b", "", "controller")] {
        let about = json!({"kind": "Pod", "name": name, "namespace": NAMESPACE});
        let event = json!({"metadata": {"name": name}, "involvedObject": about, "reason": "R", "type": "Normal",
            "source": {"component": source}, "reportingComponent": reporter, "reportingInstance": reporter});
        cluster.ok(&core, event).await;
    }
    assert_eq!(found(&cluster, &core, "involvedObject.name=a").await, names(&["a"]));
    assert_eq!(found(&cluster, &core, "source=scheduler").await, names(&["a"]));
    // Who has no source has reported by itself.
    assert_eq!(found(&cluster, &core, "source=controller").await, names(&["b"]));
    assert_eq!(found(&cluster, &newer, "reportingController=controller").await, names(&["b"]));
    assert_eq!(found(&cluster, &newer, "regarding.name!=a,reason=R").await, names(&["b"]));
    for (collection, label) in
        [(&core, "regarding.name"), (&core, "message"), (&newer, "source"), (&newer, "involvedObject.name")]
    {
        let refused = found(&cluster, collection, &format!("{label}=a")).await;
        assert_eq!(refused, Err(format!("field label not supported: {label}")));
    }
}

#[tokio::test]
async fn other_kinds_have_the_labels_that_upstream_registers() {
    let cluster = Cluster::new().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    cluster.ok(&pods, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    assert_eq!(found(&cluster, &pods, "spec.host=,status.podIPs=,spec.hostNetwork=false").await, names(&["p"]));
    assert_eq!(found(&cluster, &pods, "spec.host=n").await, names(&[]));
    let sets = format!("/apis/apps/v1/namespaces/{NAMESPACE}/replicasets");
    let only = "\"status.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!(found(&cluster, &sets, "status.replicas=0").await, Err(only.to_owned()));
    let jobs = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    assert_eq!(found(&cluster, &jobs, "status.successful=0").await, names(&[]));
    let failed = "field label \"status.failed\" not supported for Job";
    assert_eq!(found(&cluster, &jobs, "status.failed=0").await, Err(failed.to_owned()));
    // Whatever a watch cannot select by is refused before it begins.
    let (code, _) =
        cluster.ask(Method::GET, &format!("{pods}?watch=1&fieldSelector=status.qosClass%3Dx"), JSON, "").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn users_of_endpoints_are_told_of_slices() {
    let cluster = Cluster::new().await;
    for (path, told) in [("endpoints", true), ("endpoints/none", true), ("services", false)] {
        let body: Body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(format!("/api/v1/namespaces/{NAMESPACE}/{path}")).body(body).unwrap();
        let peer = Peer { trusted: Some(Arc::new(cluster.admin.clone())), ..Peer::default() };
        let response = cluster.server.handle(request, &peer).await;
        let warning = response.headers().get("warning").map(|value| value.to_str().unwrap().to_owned());
        let said = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
        assert_eq!(warning.as_deref(), told.then_some(said), "{path}");
    }
}

/// The scheduler's decision once counted as a change of what is wanted, so that no status was ever up to date.
#[tokio::test]
async fn a_pod_that_is_bound_is_still_the_one_that_was_made() {
    let cluster = Cluster::new().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let made = cluster.ok(&pods, json!({"metadata": {"name": "p", "generation": 100}, "spec": spec})).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    cluster.ok(&format!("{pods}/p/binding"), binding).await;
    let bound: Value = cluster.get(&format!("{pods}/p")).await;
    assert_eq!((&bound["metadata"]["generation"], &bound["spec"]["nodeName"]), (&json!(1), &json!("n")));
    let (_, changed) = cluster
        .patch(&format!("{pods}/p"), crate::support::MERGE, &json!({"spec": {"activeDeadlineSeconds": 9}}))
        .await;
    assert_eq!(changed["metadata"]["generation"], 2);
}
