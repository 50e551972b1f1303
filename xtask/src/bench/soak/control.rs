//! Load on the control plane: what needs no node.

use std::time::Duration;

use anyhow::ensure;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::workers::{Tools, Turn};

pub const TURNS: &[(&str, Turn)] = &[
    ("events", |t, i| Box::pin(events(t, i))),
    ("watches", |t, i| Box::pin(watches(t, i))),
    ("time limits", |t, i| Box::pin(time_limits(t, i))),
    ("services", |t, i| Box::pin(services(t, i))),
    ("config maps and secrets", |t, i| Box::pin(config(t, i))),
    ("namespaces", |t, i| Box::pin(namespaces(t, i))),
    ("replica sets", |t, i| Box::pin(replica_sets(t, i))),
];

/// What every load works in.
pub const NAMESPACE: &str = "soak";
const CORE: &str = "/api/v1/namespaces/soak";
const SETS: &str = "/apis/apps/v1/namespaces/soak/replicasets";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/soak/endpointslices";

/// Events come, and go as a collection; those of controllers and kubelet go with them, as they would after an hour.
async fn events(tools: Tools, turn: u64) -> anyhow::Result<()> {
    for i in 0..40 {
        let event = json!({
            "metadata": {"name": format!("e{turn}-{i}")},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": NAMESPACE, "name": "none"},
            "reason": "Soaking", "type": "Normal", "message": "w".repeat(900), "source": {"component": "bench"},
        });
        tools.api.create(&format!("{CORE}/events"), &event).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for namespace in [NAMESPACE, "default"] {
        tools.api.delete(&format!("/api/v1/namespaces/{namespace}/events")).await?;
    }
    Ok(())
}

/// Watches that end in every way: by their time limit, dropped, with their connection, by a killed process, too old.
async fn watches(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let resource = ["pods", "configmaps", "events", "services"][(turn % 4) as usize];
    let uri = format!("/api/v1/{resource}?watch=true&allowWatchBookmarks=true");
    let mut ends = tools.api.open(Method::GET, &format!("{uri}&timeoutSeconds=2"), &Value::Null).await?;
    // On a connection of their own, whose window they fill, for nobody reads them; it goes without a word.
    let lonely = tools.connect()?;
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(lonely.open(Method::GET, &uri, &Value::Null).await?);
    }
    while let Some(frame) = ends.frame().await {
        frame.map_err(|err| anyhow::anyhow!("a watch with a time limit: {err}"))?;
    }
    // Half of them one by one, the others with their connection.
    unread.truncate(5);
    drop((lonely, unread));
    let killed = ["get", resource, "-A", "--watch"];
    tools.cut_off(&killed, Duration::from_millis(800)).await?;
    // Too old: the answer, or the first event, says 410.
    let old = tools.api.open(Method::GET, &format!("{uri}&resourceVersion=1&timeoutSeconds=1"), &Value::Null).await;
    if let Ok(mut body) = old {
        while let Some(Ok(_)) = body.frame().await {}
    }
    Ok(())
}

/// Requests that the server gives up, and such as their clients give up.
async fn time_limits(tools: Tools, _: u64) -> anyhow::Result<()> {
    for _ in 0..5 {
        // Whether it is answered in time is chance.
        let _ = tools.api.send(Method::GET, "/api/v1/pods?timeout=1ms", &Value::Null).await;
        let large = tools.api.send(Method::GET, "/api/v1/configmaps", &Value::Null);
        let _ = tokio::time::timeout(Duration::from_micros(300), large).await;
    }
    let bad = tools.api.create(&format!("{CORE}/configmaps"), &json!({"metadata": {"name": "NOT valid"}})).await;
    ensure!(bad.is_err(), "an invalid name was accepted");
    Ok(())
}

/// A service that changes, with slices of endpoints of its own.
async fn services(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (api, name) = (&tools.api, format!("s{turn}"));
    let uri = format!("{CORE}/services/{name}");
    let kind = if turn.is_multiple_of(2) { "ClusterIP" } else { "NodePort" };
    let port = |port: u64| json!([{"name": "a", "port": port, "targetPort": 8080}]);
    let spec = json!({"type": kind, "ports": port(80), "selector": {"app": "target"}});
    api.create(&format!("{CORE}/services"), &json!({"metadata": {"name": name}, "spec": spec})).await?;
    let slice = |count: u64| {
        let endpoints: Vec<Value> =
            (0..count).map(|i| json!({"addresses": [format!("10.99.{}.{}", i / 200, i % 200 + 1)]})).collect();
        json!({
            "metadata": {"name": format!("{name}-more"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "a", "port": 8080}], "endpoints": endpoints,
        })
    };
    api.create(SLICES, &slice(60)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.merge(&uri, &json!({"spec": {"ports": port(81), "selector": {"app": "nobody"}}})).await?;
    api.merge(&format!("{SLICES}/{name}-more"), &json!({"endpoints": slice(5)["endpoints"]})).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.delete(&uri).await?;
    // Whether the garbage collector was first is chance: the slice names no owner, the controller may know it.
    let _ = api.delete(&format!("{SLICES}/{name}-more")).await;
    Ok(())
}

/// Small ones and large ones, changed and deleted.
async fn config(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let api = &tools.api;
    let size = if turn.is_multiple_of(5) { 500_000 } else { 2_000 };
    let name = format!("c{turn}");
    for (plural, field) in [("configmaps", "data"), ("secrets", "stringData")] {
        let uri = format!("{CORE}/{plural}");
        api.create(&uri, &json!({"metadata": {"name": name}, field: {"content": "x".repeat(size)}})).await?;
        for i in 0..3 {
            api.merge(&format!("{uri}/{name}"), &json!({field: {"changed": i.to_string()}})).await?;
        }
        api.delete(&format!("{uri}/{name}")).await?;
    }
    Ok(())
}

async fn namespaces(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (api, name) = (&tools.api, format!("soak-{turn}"));
    api.create_namespace(&name).await?;
    let within = format!("/api/v1/namespaces/{name}");
    for i in 0..10 {
        let object = json!({"metadata": {"name": format!("o{i}")}, "data": {"a": "x".repeat(1_000)}});
        api.create(&format!("{within}/configmaps"), &object).await?;
    }
    api.create(&format!("{within}/serviceaccounts"), &json!({"metadata": {"name": "someone"}})).await?;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    api.create(&format!("{within}/services"), &service).await?;
    api.create(&format!("{within}/pods"), &json!({"metadata": {"name": "p"}, "spec": unplaceable()})).await?;
    api.delete_namespace(&name).await
}

/// Pods that no node takes: for the controllers, the garbage collector and the scheduler.
async fn replica_sets(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (api, name) = (&tools.api, format!("r{turn}"));
    let template = json!({"metadata": {"labels": {"set": name}}, "spec": unplaceable()});
    let spec = json!({"replicas": 20, "selector": {"matchLabels": {"set": name}}, "template": template});
    api.create(SETS, &json!({"metadata": {"name": name}, "spec": spec})).await?;
    let uri = format!("{SETS}/{name}");
    let has =
        |count: u64| move |set: Option<&Value>| set.is_some_and(|s| s["status"]["replicas"].as_u64() == Some(count));
    api.wait(&uri, has(20)).await?;
    api.merge(&uri, &json!({"spec": {"replicas": 5}})).await?;
    api.wait(&uri, has(5)).await?;
    api.delete(&uri).await?;
    let pods = format!("{CORE}/pods?labelSelector=set%3D{name}");
    api.wait(&pods, |list| list.is_some_and(|l| l["items"].as_array().is_some_and(Vec::is_empty))).await
}

fn unplaceable() -> Value {
    json!({"nodeSelector": {"bench/no": "where"}, "containers": [{"name": "c", "image": "none"}]})
}
