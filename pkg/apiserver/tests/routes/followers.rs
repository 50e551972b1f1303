//! The controllers that look after all kinds follow those that come and go: the garbage collector, the quotas, the namespaces.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kedge_apiserver::{ApiServer, BodyError, Peer};
use kedge_base::{SharedClock, Shutdown, TaskGroup, VirtualClock};
use kedge_client::{Body, BoxError, Client, Transport};
use kedge_meta::{GroupResource, Text, UserInfo};
use kedge_registry::convert::Renamed;
use kedge_registry::{Definition, Stored};
use kedge_schema::structural::Structural;
use kedge_schema::{ResourceInfo, SchemaRef};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{Cluster, JSON, defined};

const WIDGETS: &str = "/apis/example.com/v1/namespaces/test/widgets";

/// As components of the server's own process reach it.
struct Within {
    server: Arc<ApiServer>,
    peer: Peer,
}

#[async_trait]
impl Transport for Within {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let request =
            request.map(|bytes| Full::new(bytes).map_err(|never| -> BodyError { match never {} }).boxed_unsync());
        let response = self.server.handle(request, &self.peer).await;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.server.changes())
    }
}

struct Signer(Arc<kedge_auth::TokenSigner>);

impl kedge_controllers::TokenSigner for Signer {
    fn sign(&self, claims: &Value) -> Result<String, kedge_controllers::SignError> {
        self.0.sign(claims).map_err(|err| kedge_controllers::SignError(err.to_string()))
    }
}

/// A client inside the process, as the controllers have it.
pub fn client_of(cluster: &Cluster) -> Client {
    let user = UserInfo::new("system:kube-controller-manager", &[kedge_auth::MASTERS]);
    let peer = Peer { trusted: Some(Arc::new(user)), ..Peer::default() };
    Client::new(Arc::new(Within { server: cluster.server.clone(), peer }))
}

pub fn start_controllers(cluster: &Cluster, clock: &SharedClock) -> TaskGroup {
    let client = client_of(cluster);
    let tasks = TaskGroup::new("controllers", Shutdown::new());
    let config = kedge_controllers::Config {
        cluster_cidr: "10.42.0.0/16".into(),
        root_ca: "ca".into(),
        storage_migration: false,
        settings: kedge_controllers::Settings::default(),
        trust: kedge_controllers::Trust {
            client_ca: "ca".into(),
            request_header_ca: "ca".into(),
            proxy_name: "proxy".into(),
        },
        signing: kedge_controllers::Signing {
            clients: cluster.pki.client_ca.clone(),
            servers: cluster.pki.server_ca.clone(),
        },
        token_signer: Arc::new(Signer(cluster.server.token_signer().clone())),
    };
    kedge_controllers::start(&client, clock, &tasks, config);
    tasks
}

pub fn definition(namespaced: bool) -> Definition {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {}}}});
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let info = ResourceInfo {
        group: Text::of("example.com"),
        version: Text::of("v1"),
        plural: Text::of("widgets"),
        singular: Text::of("widget"),
        kind: Text::of("Widget"),
        list_kind: Text::of("WidgetList"),
        namespaced,
        verbs: verbs.map(Text::of).to_vec(),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: Text::of("abc="),
        storage_prefix: Text::of("example.com/widgets"),
        storage_group: Text::of("example.com"),
        storage_version: Text::of("v1"),
        schema: SchemaRef::Structural(Arc::new(Structural::parse("com.example.v1.Widget".into(), &schema).unwrap())),
        subresources: Vec::new(),
    };
    Definition {
        versions: vec![defined(info, Vec::new())],
        conversion: Arc::new(Renamed),
        fields: Vec::new(),
        stored: Stored::default(),
    }
}

fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}})
}

/// Waits until what a path shows is as wanted.
pub async fn until(cluster: &Cluster, path: &str, what: &str, wanted: impl Fn(StatusCode, &Value) -> bool) {
    let mut last = (StatusCode::OK, Value::Null);
    let reached = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            last = cluster.ask(Method::GET, path, JSON, "").await;
            if wanted(last.0, &last.1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(reached.await.is_ok(), "{what}: {path} is {last:?}");
}

async fn until_gone(cluster: &Cluster, path: &str) {
    until(cluster, path, "goes", |code, _| code == StatusCode::NOT_FOUND).await;
}

async fn until_counted(cluster: &Cluster, n: usize) {
    let n = n.to_string();
    let used = |_: StatusCode, quota: &Value| quota["status"]["used"]["count/widgets.example.com"] == n.as_str();
    until(cluster, "/api/v1/namespaces/test/resourcequotas/q", &format!("counts {n}"), used).await;
}

async fn delete(cluster: &Cluster, path: &str) {
    let (code, answer) = cluster.ask(Method::DELETE, path, JSON, "").await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_comes_is_collected_counted_and_emptied() {
    let cluster = Cluster::new().await;
    let tasks = start_controllers(&cluster, &kedge_base::system_clock());
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/widgets.example.com": "2"}}});
    cluster.ok("/api/v1/namespaces/test/resourcequotas", quota).await;
    for round in 0..2 {
        cluster.registry.add(definition(true)).await.unwrap();
        until_counted(&cluster, 0).await;
        // Counted when it comes, and held by the quota.
        let owner = json!({"metadata": {"name": "owner"}});
        let owner = cluster.ok("/api/v1/namespaces/test/configmaps", owner).await;
        let mut owned = widget("owned");
        owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"]}]);
        cluster.ok(WIDGETS, owned).await;
        cluster.ok(WIDGETS, widget("free")).await;
        until_counted(&cluster, 2).await;
        let (code, refused) = cluster.post(WIDGETS, &widget("third")).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{refused}");
        // Collected with its owner, and given back to the quota. It may own others itself.
        delete(&cluster, "/api/v1/namespaces/test/configmaps/owner").await;
        until_gone(&cluster, &format!("{WIDGETS}/owned")).await;
        until_counted(&cluster, 1).await;
        let free = cluster.get(&format!("{WIDGETS}/free")).await;
        let dependent = json!({"metadata": {"name": "dependent", "ownerReferences": [{
            "apiVersion": "example.com/v1", "kind": "Widget", "name": "free", "uid": free["metadata"]["uid"]}]}});
        cluster.ok("/api/v1/namespaces/test/configmaps", dependent).await;
        delete(&cluster, &format!("{WIDGETS}/free")).await;
        until_gone(&cluster, "/api/v1/namespaces/test/configmaps/dependent").await;
        until_counted(&cluster, 0).await;
        // Emptied with its namespace.
        let doomed = format!("doomed-{round}");
        cluster.ok("/api/v1/namespaces", json!({"metadata": {"name": doomed}})).await;
        let there = format!("/apis/example.com/v1/namespaces/{doomed}/widgets");
        let mut held = widget("held");
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        cluster.ok(&there, held).await;
        delete(&cluster, &format!("/api/v1/namespaces/{doomed}")).await;
        let remains = |_: StatusCode, namespace: &Value| {
            let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let says = |c: &Value| c["message"].as_str().is_some_and(|m| m.contains("widgets.example.com has 1"));
            conditions.iter().any(says)
        };
        until(&cluster, &format!("/api/v1/namespaces/{doomed}"), "says what is left", remains).await;
        let let_go = json!({"metadata": {"finalizers": null}});
        let (code, _) = cluster.patch(&format!("{there}/held"), crate::support::MERGE, &let_go).await;
        assert_eq!(code, StatusCode::OK);
        until_gone(&cluster, &format!("/api/v1/namespaces/{doomed}")).await;
        // It goes with what there is of it, which is counted no more.
        cluster.ok(WIDGETS, widget("last")).await;
        until_counted(&cluster, 1).await;
        cluster.registry.remove(&GroupResource::new("example.com", "widgets")).await.unwrap();
        until_gone(&cluster, WIDGETS).await;
        until_counted(&cluster, 0).await;
    }
    tasks.shutdown().trigger();
}

/// Once every charge was a reason to count, and a pod that took long to be stored was counted out: then one too many was let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_charged_stays_charged_until_the_count_comes_round() {
    let cluster = Cluster::new().await;
    let clock = VirtualClock::new(kedge_base::system_clock().now());
    let tasks = start_controllers(&cluster, &(Arc::new(clock.clone()) as SharedClock));
    let quotas = "/api/v1/namespaces/test/resourcequotas";
    let used = |wanted: &'static str| move |_: StatusCode, quota: &Value| quota["status"]["used"]["pods"] == wanted;
    let quota = |name: &str| json!({"metadata": {"name": name}, "spec": {"hard": {"pods": "2"}}});
    let q = format!("{quotas}/q");
    cluster.ok(quotas, quota("q")).await;
    until(&cluster, &q, "is counted", used("0")).await;
    let charge = json!({"status": {"used": {"pods": "1"}}});
    let (code, said) = cluster.patch(&format!("{q}/status"), crate::support::MERGE, &charge).await;
    assert_eq!(code, StatusCode::OK, "{said}");
    for later in ["later-1", "later-2"] {
        clock.advance(Duration::from_secs(10));
        cluster.ok(quotas, quota(later)).await;
        until(&cluster, &format!("{quotas}/{later}"), "is counted", used("0")).await;
    }
    assert!(used("1")(StatusCode::OK, &cluster.get(&q).await), "what was charged was given back");
    let round = |code: StatusCode, quota: &Value| {
        clock.advance(Duration::from_secs(1));
        used("0")(code, quota)
    };
    until(&cluster, &q, "is given back", round).await;
    // What is enforced is what the quota wants, whoever says otherwise.
    let other = json!({"status": {"hard": {"pods": "9"}}});
    let (code, said) = cluster.patch(&format!("{q}/status"), crate::support::MERGE, &other).await;
    assert_eq!(code, StatusCode::OK, "{said}");
    until(&cluster, &q, "is enforced", |_, quota| quota["status"]["hard"]["pods"] == "2").await;
    clock.advance(Duration::from_secs(1));
    // What goes is given back at once, unless something is charged that is not there.
    let (pods, p) = ("/api/v1/namespaces/test/pods", "/api/v1/namespaces/test/pods/p?gracePeriodSeconds=0");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.ok(pods, pod.clone()).await;
    until(&cluster, &q, "is charged", used("1")).await;
    delete(&cluster, p).await;
    until(&cluster, &q, "is given back", used("0")).await;
    // Also to the others: a count that is still under way would find what is charged next.
    for later in ["later-1", "later-2"] {
        until(&cluster, &format!("{quotas}/{later}"), "is given back", round).await;
    }
    let (code, said) = cluster.patch(&format!("{q}/status"), crate::support::MERGE, &charge).await;
    assert_eq!(code, StatusCode::OK, "{said}");
    cluster.ok(pods, pod).await;
    until(&cluster, &q, "is charged", used("2")).await;
    delete(&cluster, p).await;
    // Counts that follow each other begin a tenth of a second apart.
    clock.advance(Duration::from_millis(150));
    until(&cluster, &format!("{quotas}/later-1"), "is given back", used("0")).await;
    assert!(used("2")(StatusCode::OK, &cluster.get(&q).await), "what was charged was given back");
    until(&cluster, &q, "is given back", round).await;
    tasks.shutdown().trigger();
}
