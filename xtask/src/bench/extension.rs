//! What extending the API costs: memory and start with definitions of custom resources, and their objects beside those of a built-in kind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use xtask::webhook::{self, Webhook, allow};

use super::api::{self, Api, each};
use super::fan_out::FanOut;
use super::flags::Flags;
use super::interrupt::Interruptible;
use super::process::mib;
use super::row;
use super::server::{Scratch, Server};

const CLIENTS: usize = 16;
/// How long a server that has just started is left alone before it is looked at.
const WARM: Duration = Duration::from_secs(5);
/// Definitions, and how many fields each has: none; those of a large operator, some 70 KB each; many small ones.
const DEFINITIONS: [(usize, usize); 3] = [(0, 0), (125, 450), (1_000, 5)];
const GROUP: &str = "bench.kedge.dev";
const WATCH: FanOut = FanOut { watchers: 50, events: 500 };
/// Requests that are timed one after the other.
const ASKED: usize = 1_000;

struct Options {
    binary: PathBuf,
    objects: usize,
}

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags = Flags::new(args);
    let options = Options { objects: flags.value("--objects")?.unwrap_or(5_000), binary: flags.binary()? };
    let main = Interruptible::new()?;
    println!("| What | Figure |\n|---|---|");
    for (count, fields) in DEFINITIONS {
        main.run(definitions(&options.binary, count, fields))?;
    }
    let dir = Scratch::new("extension-rates")?;
    let server = start(&options.binary, dir.path())?;
    main.run(rates(&server, options.objects))
}

fn start(binary: &Path, dir: &Path) -> anyhow::Result<Server> {
    let mut server = Server::start(binary, dir, &["--disable-agent"])?;
    server.logged("API server ready")?;
    Ok(server)
}

/// Memory with definitions, and how long a start takes with them, until the last of them is served.
async fn definitions(binary: &Path, count: usize, fields: usize) -> anyhow::Result<()> {
    let dir = Scratch::new(&format!("extension-{count}"))?;
    let mut server = start(binary, dir.path())?;
    let clients = api::connect(&server.kubeconfig(), CLIENTS)?;
    let begun = Instant::now();
    each(&clients, count, move |api, i| async move {
        let plural = format!("kind{i}s");
        api.create(DEFINE, &definition(&plural, &format!("Kind{i}"), fields, false)).await.map(drop)
    })
    .await?;
    let last = format!("/apis/{GROUP}/v1/kind{}s?limit=1", count.saturating_sub(1));
    served(&clients[0], count, &last).await?;
    let created = begun.elapsed();
    drop(clients);
    tokio::time::sleep(WARM).await;
    let rss = server.usage()?;
    server.stop()?;
    std::fs::remove_file(dir.path().join("log"))?;
    let begun = Instant::now();
    let mut server = Server::start(binary, dir.path(), &["--disable-agent"])?;
    server.logged("API server ready")?;
    let ready = begun.elapsed();
    let api = Api::connect(&server.kubeconfig())?;
    served(&api, count, &last).await?;
    let answered = begun.elapsed();
    drop(api);
    tokio::time::sleep(WARM).await;
    let again = server.usage()?;
    let size = definition("kind0s", "Kind0", fields, false).to_string().len();
    println!("| {count} definitions of {size} bytes: created and served after | {} ms |", created.as_millis());
    row("… RSS then, MiB (anonymous)", format!("{} ({})", mib(rss.rss), mib(rss.anonymous)));
    row("… RSS after a restart, MiB (anonymous)", format!("{} ({})", mib(again.rss), mib(again.anonymous)));
    row(
        "… restart to ready, to an answer about the last kind, ms",
        format!("{}, {}", ready.as_millis(), answered.as_millis()),
    );
    server.take_down()
}

const DEFINE: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Waits until the last kind can be listed, if there is one.
async fn served(api: &Api, count: usize, last: &str) -> anyhow::Result<()> {
    if count == 0 {
        return Ok(());
    }
    api.wait(last, |list| list.is_some()).await
}

fn definition(plural: &str, kind: &str, fields: usize, rules: bool) -> Value {
    let mut properties: serde_json::Map<String, Value> = (0..fields)
        .map(|i| (format!("field{i}"), json!({"type": "string", "description": words(i), "maxLength": 64})))
        .collect();
    properties.insert("data".into(), json!({"type": "object", "additionalProperties": {"type": "string"}}));
    let mut spec = json!({"type": "object", "properties": properties});
    if rules {
        let rule = |rule: &str| json!({"rule": rule, "message": "broken"});
        spec["properties"]["data"]["maxProperties"] = 16.into();
        spec["properties"]["data"]["additionalProperties"]["maxLength"] = 256.into();
        spec["x-kubernetes-validations"] = json!([
            rule("has(self.data) && self.data.all(key, key.size() > 0)"),
            rule("!has(self.data) || self.data.exists(key, self.data[key].startsWith('v'))"),
        ]);
    }
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// As many words as a field is usually described with, which differ from those of other fields: what repeats itself packs too well.
fn words(field: usize) -> String {
    const WORDS: [&str; 64] = [
        "the",
        "name",
        "of",
        "a",
        "secret",
        "that",
        "is",
        "read",
        "when",
        "this",
        "resource",
        "must",
        "be",
        "one",
        "region",
        "defaults",
        "to",
        "address",
        "for",
        "each",
        "instance",
        "if",
        "not",
        "set",
        "policy",
        "which",
        "controls",
        "how",
        "traffic",
        "goes",
        "from",
        "cluster",
        "identifier",
        "tags",
        "applied",
        "whether",
        "encryption",
        "at",
        "rest",
        "on",
        "subnet",
        "port",
        "range",
        "seconds",
        "between",
        "checks",
        "before",
        "it",
        "counts",
        "as",
        "failed",
        "reference",
        "and",
        "role",
        "assumed",
        "by",
        "service",
        "optional",
        "number",
        "replicas",
        "deprecated",
        "use",
        "instead",
        "zone",
    ];
    // A linear congruential generator: any other order would do as well.
    let mut state = field as u64;
    let next = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 58) as usize]
    });
    next.take(17).collect::<Vec<_>>().join(" ")
}

/// A kind that is written and read.
struct Subject {
    what: &'static str,
    uri: String,
    make: fn(usize) -> Value,
}

fn data(i: usize) -> Value {
    json!({"a": format!("v{i}"), "b": "value", "c": "value"})
}

fn custom(kind: &str, i: usize) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": format!("o{i}")}, "spec": {"data": data(i)}})
}

fn subjects() -> [Subject; 3] {
    let of = |plural: &str| format!("/apis/{GROUP}/v1/namespaces/default/{plural}");
    [
        Subject {
            what: "ConfigMap",
            uri: "/api/v1/namespaces/default/configmaps".into(),
            make: |i| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("o{i}")}, "data": data(i)}),
        },
        Subject { what: "custom resource", uri: of("plains"), make: |i| custom("Plain", i) },
        Subject { what: "custom resource with two rules", uri: of("ruleds"), make: |i| custom("Ruled", i) },
    ]
}

/// What objects of a custom kind cost beside those of a built-in one.
async fn rates(server: &Server, objects: usize) -> anyhow::Result<()> {
    let clients = api::connect(&server.kubeconfig(), CLIENTS)?;
    let api = &clients[0];
    for (plural, kind, rules) in [("plains", "Plain", false), ("ruleds", "Ruled", true)] {
        api.create(DEFINE, &definition(plural, kind, 3, rules)).await?;
        served(api, 1, &format!("/apis/{GROUP}/v1/{plural}")).await?;
    }
    for Subject { what, uri, make } in subjects() {
        let (begun, before) = (Instant::now(), server.used()?.0);
        let to = uri.clone();
        each(&clients, objects, move |api, i| {
            let to = to.clone();
            async move { api.create(&to, &make(i)).await.map(drop) }
        })
        .await?;
        let ticks = server.used()?.0 - before;
        let cost = ticks as f64 * 10.0 / objects as f64;
        let rate = objects as f64 / begun.elapsed().as_secs_f64();
        row(&format!("create {what}, {CLIENTS} clients"), format!("{rate:.0}/s, {cost:.3} ms of processor time each"));
        let begun = Instant::now();
        let mut bytes = 0;
        for _ in 0..5 {
            bytes = api.send(Method::GET, &uri, &Value::Null).await?;
        }
        let each = begun.elapsed().as_millis() / 5;
        row(&format!("list {objects} of {what}"), format!("{each} ms, {:.1} MB", bytes as f64 / 1e6));
        let rate = WATCH.run(&clients, &uri, objects, make).await?;
        row(&format!("watch {what}, {} watchers", WATCH.watchers), format!("{rate:.0} events/s"));
    }
    webhooks(&clients[0]).await
}

/// What a webhook that lets everything pass at once adds to a request, its own time included: one client, which waits for each answer.
async fn webhooks(api: &Api) -> anyhow::Result<()> {
    const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let dir = Scratch::new("extension-hook")?;
    let hook = Webhook::start(dir.path(), |_, _| allow())?;
    let elsewhere = json!({"objectSelector": {"matchLabels": {"asked": "yes"}}});
    let cases = [
        ("none", None),
        ("a webhook that another label would ask", Some(hook.hook("other", &elsewhere))),
        ("a webhook", Some(hook.hook("every", &json!({})))),
    ];
    for (round, (what, hook)) in cases.into_iter().enumerate() {
        let configuration = format!("{HOOKS}/bench");
        if let Some(hook) = &hook {
            api.create(HOOKS, &webhook::configuration("Validating", "bench", std::slice::from_ref(hook))).await?;
        }
        let mut took = Vec::with_capacity(ASKED);
        for i in 0..ASKED {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("hooked-{round}-{i}")}, "data": data(i)});
            let begun = Instant::now();
            api.create("/api/v1/namespaces/default/configmaps", &object).await?;
            took.push(begun.elapsed());
        }
        took.sort();
        row(
            &format!("create ConfigMap, 1 client, webhooks: {what}"),
            format!("{:.3} ms", took[ASKED / 2].as_secs_f64() * 1e3),
        );
        if hook.is_some() {
            api.delete(&configuration).await?;
        }
    }
    row(
        "… that webhook asked directly, 1 client",
        format!("{:.3} ms", directly(&hook, dir.path()).await?.as_secs_f64() * 1e3),
    );
    Ok(())
}

/// The median time of a webhook's own answer.
async fn directly(hook: &Webhook, dir: &Path) -> anyhow::Result<Duration> {
    let cluster =
        json!({"server": format!("https://127.0.0.1:{}", hook.port()), "certificate-authority-data": hook.bundle()});
    let config = json!({
        "clusters": [{"name": "hook", "cluster": cluster}], "users": [{"name": "hook", "user": {"token": "none"}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "hook"}}], "current-context": "hook",
    });
    let file = dir.join("kubeconfig.json");
    std::fs::write(&file, config.to_string())?;
    let (api, mut took) = (Api::connect(&file)?, Vec::with_capacity(ASKED));
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "asked"}, "data": data(0)});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "object": object}});
    for _ in 0..ASKED {
        let begun = Instant::now();
        api.send(Method::POST, "/every", &review).await?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[ASKED / 2])
}
