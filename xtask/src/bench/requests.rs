//! What requests cost a server: rates and processor time, large lists, watches, memory for each object, server-side apply; and the same for
//! another server that runs already, to compare with.
//!
//! Processor time is the server's own, user and system, and the steadiest figure on a shared machine. A peer's etcd is not counted.

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::api::{self, Api, each};
use super::fan_out::FanOut;
use super::flags::Flags;
use super::interrupt::Interruptible;
use super::process::{self, Usage};
use super::server::{Scratch, Server};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// Clients that come at the same time.
const MANY: usize = 64;
const MAKERS: usize = 32;
const WATCH: FanOut = FanOut { watchers: 200, events: 500 };
/// Times that a list is read, and a Deployment applied.
const LISTS: usize = 5;
const APPLIED: usize = 200;
/// How long a server is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(10);

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags = Flags::new(args);
    let pods = flags.value("--pods")?.unwrap_or(10_000);
    let peer = flags.value::<PathBuf>("--peer")?;
    let pid = flags.value::<u32>("--peer-pid")?;
    let binary = flags.binary()?;
    let main = Interruptible::new()?;
    let dir = Scratch::new("api")?;
    let begun = Instant::now();
    let mut server = Server::start(&binary, dir.path(), &["--disable-agent"])?;
    let ready = server.logged("API server ready")?;
    println!("cold start to ready: {} ms", (ready - begun).as_millis());
    let own = main.run(measure(Side { kubeconfig: server.kubeconfig(), pid: server.pid() }, pods))?;
    server.take_down()?;
    let theirs = match peer {
        Some(kubeconfig) => {
            let pid = pid.context("--peer needs --peer-pid, whose processor time is counted")?;
            main.run(measure(Side { kubeconfig, pid }, pods))
        }
        None => Ok(Vec::new()),
    };
    // What was measured here is shown also when the peer fails.
    print(&own, theirs.as_deref().unwrap_or_default());
    theirs.map(drop)
}

/// A server, and the process that answers.
struct Side {
    kubeconfig: PathBuf,
    pid: u32,
}

/// What was measured, in the unit that its name says; more is better, or less.
struct Figure {
    what: String,
    value: f64,
    more: bool,
}

fn print(own: &[Figure], theirs: &[Figure]) {
    println!("| What | Figure | Peer | Better by |\n|---|---|---|---|");
    for (at, figure) in own.iter().enumerate() {
        let (mut peer, mut ratio) = (String::new(), String::new());
        if let Some(other) = theirs.get(at) {
            peer = shown(other.value);
            let better = if figure.more { figure.value / other.value } else { other.value / figure.value };
            ratio = format!("{better:.1}");
        }
        println!("| {} | {} | {peer} | {ratio} |", figure.what, shown(figure.value));
    }
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

impl Side {
    fn clients(&self, count: usize) -> anyhow::Result<Vec<Api>> {
        api::connect(&self.kubeconfig, count)
    }

    /// Milliseconds of processor time so far.
    fn spent(&self) -> anyhow::Result<f64> {
        Ok(process::ticks(self.pid).context("the server has ended")? as f64 * 10.0)
    }

    fn memory(&self) -> anyhow::Result<f64> {
        Ok(Usage::of(self.pid).context("the server has ended")?.rss as f64)
    }

    /// Does something `count` times; how often in a second, and what each costs.
    async fn timed<F, W>(&self, what: &str, clients: usize, count: usize, work: W) -> anyhow::Result<[Figure; 2]>
    where
        W: Fn(Api, usize) -> F + Clone + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let apis = self.clients(clients)?;
        let (begun, before) = (Instant::now(), self.spent()?);
        each(&apis, count, work).await?;
        let (took, spent) = (begun.elapsed().as_secs_f64(), self.spent()? - before);
        let n = count as f64;
        Ok([
            Figure { what: format!("{what}, per second"), value: n / took, more: true },
            Figure { what: "… processor time each, ms".into(), value: spent / n, more: false },
        ])
    }
}

async fn measure(side: Side, pods: usize) -> anyhow::Result<Vec<Figure>> {
    let mut found = Vec::new();
    found.extend(small_objects(&side).await?);
    found.extend(connections(&side).await?);
    found.extend(applies(&side).await?);
    found.extend(large_lists(&side, pods).await?);
    let events = WATCH.run(&side.clients(MAKERS)?, MAPS, 100_000, map).await?;
    found.push(Figure {
        what: format!("events to {} watchers, per second", WATCH.watchers),
        value: events,
        more: true,
    });
    Ok(found)
}

fn map(i: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{i}")}, "data": {"a": "b", "i": i.to_string()}})
}

async fn small_objects(side: &Side) -> anyhow::Result<Vec<Figure>> {
    let make = |from: usize| move |api: Api, i: usize| async move { api.create(MAPS, &map(from + i)).await.map(drop) };
    let mut found = Vec::new();
    found.extend(side.timed("create ConfigMap, 1 client", 1, 1_000, make(0)).await?);
    found.extend(side.timed(&format!("create ConfigMap, {MANY} clients"), MANY, 10_000, make(1_000)).await?);
    let read = |api: Api, i: usize| async move {
        api.send(Method::GET, &format!("{MAPS}/m{}", i % 1_000), &Value::Null).await.map(drop)
    };
    found.extend(side.timed(&format!("GET ConfigMap, {MANY} clients"), MANY, 20_000, read).await?);
    Ok(found)
}

/// New connections, each for one request.
async fn connections(side: &Side) -> anyhow::Result<[Figure; 2]> {
    let kubeconfig = side.kubeconfig.clone();
    let ask = move |_: Api, _: usize| {
        let fresh = Api::connect(&kubeconfig);
        async move { fresh?.send(Method::GET, &format!("{MAPS}/m0"), &Value::Null).await.map(drop) }
    };
    side.timed("new TLS connection and GET, 8 clients", 8, 1_000, ask).await
}

/// A Deployment of some 300 fields, applied again: as it is, and with another value in one of them.
async fn applies(side: &Side) -> anyhow::Result<Vec<Figure>> {
    let uri = format!("{DEPLOYMENTS}/large");
    let first = side.clients(1)?;
    first[0].apply(&uri, &deployment(0)).await?;
    let same = {
        let uri = uri.clone();
        move |api: Api, _: usize| {
            let uri = uri.clone();
            async move { api.apply(&uri, &deployment(0)).await }
        }
    };
    let other = move |api: Api, i: usize| {
        let uri = uri.clone();
        async move { api.apply(&uri, &deployment(i + 1)).await }
    };
    let mut found = Vec::new();
    found.extend(side.timed("apply a Deployment of 300 fields, unchanged", 1, APPLIED, same).await?);
    found.extend(side.timed("… with one field changed", 1, APPLIED, other).await?);
    Ok(found)
}

fn deployment(turn: usize) -> Value {
    let container = |at: usize| {
        let env: Vec<Value> =
            (0..40).map(|i| json!({"name": format!("NAME{i}"), "value": format!("value {at} {i}")})).collect();
        json!({
            "name": format!("c{at}"), "image": "example.com/app:1", "env": env,
            "ports": [{"name": format!("p{at}"), "containerPort": 8_000 + at, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 8_000 + at}, "periodSeconds": 7},
        })
    };
    let labels = json!({"app": "large"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "large", "labels": labels, "annotations": {"turn": turn.to_string()}},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container(0), container(1), container(2)]}},
        },
    })
}

/// Pods that no node takes, read as a whole, and what they take in memory.
async fn large_lists(side: &Side, pods: usize) -> anyhow::Result<Vec<Figure>> {
    tokio::time::sleep(REST).await;
    let before = side.memory()?;
    let mut found = Vec::new();
    let make = |api: Api, i: usize| async move { api.create(PODS, &pod(i)).await.map(drop) };
    found.extend(side.timed(&format!("create a pod that fits nowhere, {MAKERS} clients"), MAKERS, pods, make).await?);
    tokio::time::sleep(REST).await;
    let with = side.memory()?;
    found.push(Figure { what: "… memory each, KiB".into(), value: (with - before) / pods as f64, more: false });
    for (form, accept) in [("JSON", JSON), ("protobuf", PROTOBUF)] {
        let read = move |api: Api, _: usize| async move { api.read_as(PODS, accept).await.map(drop) };
        let [rate, cost] = side.timed("", 1, LISTS, read).await?;
        found.push(Figure {
            what: format!("list {pods} pods as {form}, ms"),
            value: 1_000.0 / rate.value,
            more: false,
        });
        found.push(cost);
    }
    found.push(Figure { what: "memory after the lists, MiB".into(), value: side.memory()? / 1_024.0, more: false });
    Ok(found)
}

fn pod(i: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{i:06}"), "labels": {"app": "load", "n": (i % 100).to_string()}},
        "spec": {
            "nodeSelector": {"nowhere": "true"},
            "containers": [{"name": "c", "image": "example.com/app:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
        },
    })
}
