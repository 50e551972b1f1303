//! The loads.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::ensure;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Table;
use super::overload::overload;
use crate::bench::api::{Api, each};

/// What the few real pods run.
pub const IMAGE: &str = "kedge.bench/memory:1";
const REAL_PODS: u64 = 24;
/// Replicas of one set, and sets that come and go together.
const REPLICAS: usize = 100;
const BATCH: usize = 10;
/// Batches at the same time.
const BATCHES: usize = 4;
const CYCLES: usize = 410;
const LARGE: usize = 700_000;
const COLLECTION: usize = 8_000;
pub(super) const LISTED: usize = 10_000;
const LISTS: usize = 10;
const LISTERS: usize = 4;
const WATCHES: usize = 1_000;
/// How many changes all watchers see.
const CHANGES: usize = 100;

/// How much of what can be chosen.
#[derive(Clone)]
pub struct Load {
    /// For further connections, once the server runs.
    pub kubeconfig: PathBuf,
    pub events: usize,
    pub pods: usize,
    /// Whether there is a node that runs real pods.
    pub node: bool,
}

type Run = for<'a> fn(&'a [Api], &'a Load, &'a mut Table) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One load, by its name.
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub run: Run,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "churn",
        what: "events and pods come and go with their namespaces",
        run: |c, l, t| Box::pin(churn(c, l, t)),
    },
    Scenario {
        name: "config-maps",
        what: "410 times a ConfigMap of 700 kB, created and deleted",
        run: |c, _, t| Box::pin(config_maps(c, t)),
    },
    Scenario {
        name: "collection",
        what: "8,000 events deleted as a collection",
        run: |c, _, t| Box::pin(collection(c, t)),
    },
    Scenario {
        name: "lists",
        what: "10,000 pods listed ten times by four clients at once",
        run: |c, _, t| Box::pin(lists(c, t)),
    },
    Scenario {
        name: "overload",
        what: "32 full lists of 10,000 pods, 200 writers, 500 slow readers and 50 nodes for a minute",
        run: |c, l, t| Box::pin(overload(c, l, t)),
    },
    Scenario { name: "watches", what: "1,000 watches opened and dropped", run: |c, _, t| Box::pin(watches(c, t)) },
];

/// Events in one namespace, pods and their replica sets in another; then both namespaces are deleted.
async fn churn(clients: &[Api], load: &Load, table: &mut Table) -> anyhow::Result<()> {
    for name in ["events", "pods"] {
        clients[0].create_namespace(name).await?;
    }
    create_events(clients, load.events).await?;
    table.step(&format!("{} events created", load.events))?;
    if load.node {
        real_pods(&clients[0]).await?;
        table.step(&format!("{REAL_PODS} real pods run"))?;
    }
    let batches = load.pods.div_ceil(REPLICAS * BATCH);
    each(&clients[..BATCHES], batches, replica_sets).await?;
    table.step(&format!("{} pods came and went", batches * REPLICAS * BATCH))?;
    let (first, second) = tokio::join!(clients[0].delete_namespace("events"), clients[1].delete_namespace("pods"));
    first.and(second)?;
    table.step("the namespaces are gone")
}

async fn create_events(clients: &[Api], count: usize) -> anyhow::Result<()> {
    each(clients, count, |api, i| async move {
        api.create("/api/v1/namespaces/events/events", &event(i)).await?;
        Ok(())
    })
    .await
}

/// An event of 2.4 KB as it is stored.
fn event(i: usize) -> Value {
    json!({
        "metadata": {"name": format!("e{i}"), "annotations": {"bench/filling": "a".repeat(1_000)}},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "events", "name": format!("p{i}")},
        "reason": "Started",
        "message": "something happened here ".repeat(42),
        "type": "Normal",
        "source": {"component": "bench"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    })
}

/// Containers that do run go with their namespace, too.
async fn real_pods(api: &Api) -> anyhow::Result<()> {
    let container = json!({
        "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
        "args": ["trap 'exit 0' TERM; while true; do sleep 1; done"],
    });
    let spec = json!({"terminationGracePeriodSeconds": 5, "containers": [container]});
    api.create(SETS, &replica_set("real", REAL_PODS, spec)).await?;
    api.wait(&format!("{SETS}/real"), |set| replicas(set, "readyReplicas") == REAL_PODS).await
}

const SETS: &str = "/apis/apps/v1/namespaces/pods/replicasets";

/// A batch: all its pods are there before it goes. Every other set is scaled down first, the others are left to the garbage collector.
async fn replica_sets(api: Api, batch: usize) -> anyhow::Result<()> {
    let names: Vec<String> = (0..BATCH).map(|i| format!("r{batch}-{i}")).collect();
    for name in &names {
        // No node has such a label: the scheduler tries and says so.
        let container = json!({"name": "c", "image": "none", "env": [{"name": "A", "value": "a".repeat(1_000)}]});
        let spec = json!({"nodeSelector": {"bench/no": "where"}, "containers": [container]});
        api.create(SETS, &replica_set(name, REPLICAS as u64, spec)).await?;
    }
    for name in &names {
        api.wait(&format!("{SETS}/{name}"), |set| replicas(set, "replicas") == REPLICAS as u64).await?;
    }
    for name in names.iter().step_by(2) {
        api.merge(&format!("{SETS}/{name}"), &json!({"spec": {"replicas": 0}})).await?;
    }
    for name in &names {
        api.delete(&format!("{SETS}/{name}")).await?;
    }
    Ok(())
}

fn replica_set(name: &str, replicas: u64, spec: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"set": name}},
            "template": {"metadata": {"labels": {"set": name}}, "spec": spec},
        },
    })
}

fn replicas(set: Option<&Value>, field: &str) -> u64 {
    set.and_then(|set| set["status"][field].as_u64()).unwrap_or_default()
}

async fn config_maps(clients: &[Api], table: &mut Table) -> anyhow::Result<()> {
    let (api, uri) = (&clients[0], "/api/v1/namespaces/default/configmaps");
    for i in 0..CYCLES {
        let name = format!("large-{i}");
        api.create(uri, &json!({"metadata": {"name": name}, "data": {"content": "x".repeat(LARGE)}})).await?;
        api.delete(&format!("{uri}/{name}")).await?;
    }
    table.step("created and deleted")
}

async fn collection(clients: &[Api], table: &mut Table) -> anyhow::Result<()> {
    clients[0].create_namespace("events").await?;
    create_events(clients, COLLECTION).await?;
    table.step("created")?;
    clients[0].delete("/api/v1/namespaces/events/events").await?;
    table.step("deleted by one request")?;
    let left = clients[0].get("/api/v1/namespaces/events/events").await?;
    let left = left.as_ref().and_then(|list| list["items"].as_array()).map(Vec::len);
    ensure!(left == Some(0), "the collection has {left:?} left");
    Ok(())
}

/// Pods that no node has a place for.
pub(super) async fn make_pods(clients: &[Api]) -> anyhow::Result<()> {
    clients[0].create_namespace("pods").await?;
    each(clients, LISTED, |api, i| async move {
        let container = json!({"name": "c", "image": "none", "env": [{"name": "A", "value": "a".repeat(1_000)}]});
        let spec = json!({"nodeSelector": {"bench/no": "where"}, "containers": [container]});
        let pod = json!({"metadata": {"name": format!("p{i}"), "labels": {"app": "listed"}}, "spec": spec});
        api.create("/api/v1/namespaces/pods/pods", &pod).await?;
        Ok(())
    })
    .await
}

async fn lists(clients: &[Api], table: &mut Table) -> anyhow::Result<()> {
    make_pods(clients).await?;
    table.step(&format!("{LISTED} pods created"))?;
    each(&clients[..LISTERS], LISTERS * LISTS, |api, _| async move {
        let length = api.send(Method::GET, "/api/v1/namespaces/pods/pods", &Value::Null).await?;
        ensure!(length > 10_000_000, "a list of {length} bytes");
        Ok(())
    })
    .await?;
    table.step("listed")?;
    clients[0].delete_namespace("pods").await?;
    table.step("deleted")
}

/// All are open at once, see the same changes, and are dropped at once.
async fn watches(clients: &[Api], table: &mut Table) -> anyhow::Result<()> {
    let mut readers = JoinSet::new();
    for i in 0..WATCHES {
        let resource = ["configmaps", "secrets", "pods", "events"][i % 4];
        let uri = format!("/api/v1/{resource}?watch=true&allowWatchBookmarks=true");
        let mut body = clients[i % clients.len()].open(Method::GET, &uri, &Value::Null).await?;
        readers.spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
    }
    table.step(&format!("{WATCHES} watches are open"))?;
    let uri = "/api/v1/namespaces/default/configmaps";
    each(clients, CHANGES, move |api, i| async move {
        api.create(uri, &json!({"metadata": {"name": format!("c{i}")}, "data": {"a": "x".repeat(1_000)}})).await?;
        api.delete(&format!("{uri}/c{i}")).await?;
        Ok(())
    })
    .await?;
    table.step("and have seen changes")?;
    let ended = readers.try_join_next();
    ensure!(ended.is_none(), "a watch ended by itself");
    readers.shutdown().await;
    // The server notices in its own time, which is not long.
    tokio::time::sleep(Duration::from_secs(2)).await;
    table.step("and were dropped")
}
