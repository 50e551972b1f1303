//! More than a server can do at a time: full lists, writes and clients that read slowly, beside the heartbeats of nodes.
//!
//! Whoever is refused comes again when the answer says so. What counts is that heartbeats come through and that the server is itself again
//! afterwards; with `--cgroup`, that it survives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::Table;
use super::scenarios::{LISTED, Load, make_pods};
use crate::bench::api::{self, Api, each};

const LISTERS: usize = 32;
const WRITERS: usize = 200;
const SLOW: usize = 500;
const NODES: usize = 50;
/// Clients that share a connection; those that read slowly do not.
const SHARING: usize = 10;
const BEAT: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_secs(2);
/// How long it lasts.
const LASTS: Duration = Duration::from_secs(60);
const PODS: &str = "/api/v1/namespaces/pods/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// What came of the requests of a kind.
#[derive(Default)]
struct Tally {
    done: Vec<Duration>,
    refused: usize,
    broken: usize,
}

type Shared = Arc<Mutex<Tally>>;

pub(super) async fn overload(clients: &[Api], load: &Load, table: &mut Table) -> anyhow::Result<()> {
    make_pods(clients).await?;
    prepare(clients).await?;
    table.step(&format!("{LISTED} pods created"))?;
    let [lists, writes, beats, slow] = [(); 4].map(|()| Shared::default());
    let until = Instant::now() + LASTS;
    let mut running = JoinSet::new();
    for (count, kind) in [(LISTERS, &lists), (WRITERS, &writes)] {
        let connections = api::connect(&load.kubeconfig, count.div_ceil(SHARING))?;
        for i in 0..count {
            let (api, tally) = (connections[i / SHARING].clone(), kind.clone());
            if Arc::ptr_eq(kind, &lists) {
                running.spawn(asking(api, tally, until, move |_| {
                    (Method::GET, PODS.to_owned(), Value::Null, "lister".into())
                }));
            } else {
                running.spawn(asking(api, tally, until, move |n| {
                    let map = json!({"metadata": {"name": format!("w{i}-{n}")}, "data": {"a": "x".repeat(1_000)}});
                    (Method::POST, "/api/v1/namespaces/pods/configmaps".to_owned(), map, format!("writer-{}", i % 4))
                }));
            }
        }
    }
    for _ in 0..SLOW {
        running.spawn(reading_slowly(Api::connect(&load.kubeconfig)?, slow.clone(), until));
    }
    let nodes = api::connect(&load.kubeconfig, NODES.div_ceil(SHARING))?;
    for i in 0..NODES {
        running.spawn(beating(nodes[i / SHARING].clone(), i, beats.clone(), until));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    table.step("a minute of everything")?;
    println!("\n| what | done | refused | broken off | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|---|---|");
    for (name, tally) in [("lists", lists), ("writes", writes), ("heartbeats", beats.clone()), ("slow readers", slow)] {
        tally.lock().await.print(name);
    }
    let beats = beats.lock().await;
    ensure!(beats.refused == 0 && beats.broken == 0, "heartbeats were refused");
    recovers(&clients[0]).await?;
    table.step("and is itself again")
}

/// Who may do everything but is nobody special, and the leases of the nodes.
async fn prepare(clients: &[Api]) -> anyhow::Result<()> {
    let names = ["lister", "slow", "writer-0", "writer-1", "writer-2", "writer-3"];
    let subjects = names.map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}));
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let binding = json!({"metadata": {"name": "overload"}, "roleRef": role, "subjects": subjects});
    clients[0].create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?;
    each(clients, NODES, |api, i| async move {
        let spec = json!({"holderIdentity": format!("n{i}"), "leaseDurationSeconds": 40});
        api.create(LEASES, &json!({"metadata": {"name": format!("n{i}")}, "spec": spec})).await.map(drop)
    })
    .await
}

/// Asks again and again; who is refused waits as long as it is told to.
async fn asking(
    api: Api,
    tally: Shared,
    until: Instant,
    next: impl Fn(usize) -> (Method, String, Value, String) + Send,
) -> anyhow::Result<()> {
    let mut n = 0;
    while Instant::now() < until {
        let (method, uri, body, user) = next(n);
        n += 1;
        let begun = Instant::now();
        let Ok(mut answer) = api.ask_as(method, &uri, &body, (&user, &[])).await else {
            tally.lock().await.broken += 1;
            continue;
        };
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let mut whole = true;
        while let Some(frame) = answer.body_mut().frame().await {
            whole &= frame.is_ok();
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            tally.lock().await.refused += 1;
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(Duration::from_secs(after.unwrap_or(1)).min(left)).await;
            continue;
        }
        ensure!(status.is_success(), "{uri}: {status}");
        let mut tally = tally.lock().await;
        if whole { tally.done.push(begun.elapsed()) } else { tally.broken += 1 }
    }
    Ok(())
}

/// Asks for a list and takes a piece of it now and then.
async fn reading_slowly(api: Api, tally: Shared, until: Instant) -> anyhow::Result<()> {
    while Instant::now() < until {
        let begun = Instant::now();
        let answer = api.ask_as(Method::GET, PODS, &Value::Null, ("slow", &[])).await;
        let Ok(mut answer) = answer else {
            tally.lock().await.broken += 1;
            tokio::time::sleep(PACE).await;
            continue;
        };
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            tally.lock().await.refused += 1;
            tokio::time::sleep(PACE).await;
            continue;
        }
        while Instant::now() < until {
            match answer.body_mut().frame().await {
                Some(Ok(_)) => tokio::time::sleep(PACE).await,
                Some(Err(_)) => {
                    tally.lock().await.broken += 1;
                    break;
                }
                None => {
                    tally.lock().await.done.push(begun.elapsed());
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A node that says that it is there.
async fn beating(api: Api, node: usize, tally: Shared, until: Instant) -> anyhow::Result<()> {
    let (uri, user) = (format!("{LEASES}/n{node}"), format!("system:node:n{node}"));
    while Instant::now() < until {
        let begun = Instant::now();
        let answer = api.ask_as(Method::GET, &uri, &Value::Null, (&user, &["system:nodes"])).await;
        let lease = match answer {
            Ok(answer) if answer.status().is_success() => answer.into_body().collect().await.ok(),
            _ => None,
        };
        let renewed = match lease.and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok()) {
            Some(lease) => {
                let answer = api.ask_as(Method::PUT, &uri, &lease, (&user, &["system:nodes"])).await;
                answer.is_ok_and(|answer| answer.status().is_success())
            }
            None => false,
        };
        let took = begun.elapsed();
        let mut tally = tally.lock().await;
        if renewed {
            tally.done.push(took)
        } else {
            tally.refused += 1
        }
        drop(tally);
        tokio::time::sleep(BEAT.saturating_sub(took)).await;
    }
    Ok(())
}

/// Nobody is refused any more.
async fn recovers(api: &Api) -> anyhow::Result<()> {
    let begun = Instant::now();
    for user in ["lister", "slow", "writer-0"] {
        let uri = format!("{PODS}?limit=1");
        while !api
            .ask_as(Method::GET, &uri, &Value::Null, (user, &[]))
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            ensure!(begun.elapsed() < Duration::from_secs(60), "{user} is still refused");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    println!("recovered after {} ms", begun.elapsed().as_millis());
    Ok(())
}

impl Tally {
    fn print(&mut self, name: &str) {
        self.done.sort();
        let at = |part: f64| {
            let place = ((self.done.len() as f64 * part) as usize).min(self.done.len().saturating_sub(1));
            self.done.get(place).map_or(0, Duration::as_millis)
        };
        let (refused, broken) = (self.refused, self.broken);
        println!("| {name} | {} | {refused} | {broken} | {} | {} | {} |", self.done.len(), at(0.5), at(0.99), at(1.0));
    }
}
