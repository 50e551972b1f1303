//! An API server over a store in memory, without anybody else who writes to it.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kedge_admission::{Chain, ServiceEndpoints};
use kedge_apiserver::{ApiServer, Body, Config, InFlight, KubeletAccess, Peer, Readiness};
use kedge_auth::{
    Authenticator, Authorizer, BoundStores, CertificateAuthenticator, NodeAuthorizer, NodeRelations, RbacAuthorizer,
    TokenSigner, Union,
};
use kedge_base::net::DirectDialer;
use kedge_base::{Shutdown, TaskGroup};
use kedge_kv::Embedded;
use kedge_meta::{Text, UserInfo};
use kedge_registry::{Admission, ClusterConfig, Custom, CustomResource, DefinedVersion, Registry, printers};
use kedge_schema::ResourceInfo;
use kedge_storage::Storage;
use kedge_webhook::{Caller, Settings};
use serde_json::{Value, json};

pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const JSON: &str = "application/json";

/// Where objects with a namespace are.
pub const NAMESPACE: &str = "test";

pub struct Cluster {
    pub server: Arc<ApiServer>,
    pub registry: Arc<Registry>,
    pub admin: UserInfo,
    pub kv: Arc<Embedded>,
    pub pki: kedge_certs::Pki,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn new() -> Self {
        Self::with(None, |chain| chain).await
    }

    /// With a way to kubelets and pods.
    pub async fn with_kubelets(kubelets: Option<KubeletAccess>) -> Self {
        Self::with(kubelets, |chain| chain).await
    }

    /// With something around the usual admission.
    pub async fn with_admission<A: Admission + 'static>(wrap: impl FnOnce(Chain) -> A) -> Self {
        Self::with(None, wrap).await
    }

    async fn with<A: Admission + 'static>(kubelets: Option<KubeletAccess>, wrap: impl FnOnce(Chain) -> A) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = kedge_base::system_clock();
        let kv = Arc::new(Embedded::memory(clock.clone()).unwrap());
        let storage = Arc::new(
            Storage::open(kv.clone(), &Registry::storage_configs(), Arc::default(), clock.clone()).await.unwrap(),
        );
        let store = |prefix: &str| storage.resource(prefix).unwrap();
        let config = ClusterConfig {
            service_cidrs: vec!["10.43.0.0/24".parse().unwrap()],
            node_ports: (30_000, 30_100),
            shared: false,
        };
        let registry = Arc::new(Registry::new(storage.clone(), clock.clone(), config));
        let pki = kedge_certs::Pki::open(dir.path(), time::OffsetDateTime::now_utc()).unwrap();
        let bound = BoundStores { pods: store("pods"), secrets: store("secrets"), nodes: store("minions") };
        let signer =
            Arc::new(TokenSigner::new(&pki.service_account_key, "issuer", store("serviceaccounts"), bound).unwrap());
        let rbac = Arc::new(RbacAuthorizer::new(
            store("roles"),
            store("rolebindings"),
            store("clusterroles"),
            store("clusterrolebindings"),
        ));
        let nodes = Arc::new(NodeAuthorizer::new(NodeRelations {
            pods: store("pods"),
            volumes: store("persistentvolumes"),
            attachments: store("volumeattachments"),
            slices: store("resourceslices"),
        }));
        let certificates = CertificateAuthenticator::new(&pki.client_ca.certificate).unwrap();
        let webhooks = Arc::new(Caller::new(Settings {
            services: Arc::new(ServiceEndpoints(registry.clone())),
            dialer: Arc::new(DirectDialer),
            tasks: TaskGroup::new("webhooks", Shutdown::new()),
            clock: clock.clone(),
        }));
        let authorizer: Arc<dyn Authorizer> = Arc::new(Union::new(vec![nodes, rbac.clone()]));
        let server = ApiServer::new(Config {
            admission: Arc::new(wrap(Chain::new(registry.clone(), rbac.clone(), &authorizer, &webhooks).unwrap())),
            registry: registry.clone(),
            authenticator: Authenticator::new(certificates, signer),
            authorizer,
            kubelets,
            others: None,
            clock,
            tasks: TaskGroup::new("answers", Shutdown::new()),
            readiness: Readiness::default(),
            in_flight: InFlight::default(),
            audit: None,
            anonymous: Default::default(),
            advertised: "127.0.0.1:6443".into(),
            flags: vec![("data-dir".into(), "/d".into())],
            own: None,
            used_tokens: None,
            token_limits: kedge_registry::subresources::token::Limits::default(),
        });
        let admin = UserInfo::new("admin", &[kedge_auth::MASTERS]);
        let cluster = Self { server, registry, kv, pki, admin, _dir: dir };
        cluster.ok("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})).await;
        let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        cluster.ok(&accounts, json!({"metadata": {"name": "default"}})).await;
        let class = json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000});
        cluster.ok("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        cluster
    }

    /// A request of the administrator.
    pub async fn ask(&self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
        self.ask_as(&self.admin, method, path, kind, body).await
    }

    pub async fn ask_as(
        &self,
        user: &UserInfo,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let response = self.send(user, request, body).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn send(
        &self,
        user: &UserInfo,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> http::Response<Body> {
        let body: Body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
        let peer = Peer { trusted: Some(Arc::new(user.clone())), ..Peer::default() };
        self.server.handle(request.body(body).unwrap(), &peer).await
    }

    /// The answer to the administrator in a form that he accepts: its code, its media type, and its first frame or all of it.
    pub async fn accepting(&self, path: &str, accept: &str, whole: bool) -> (StatusCode, String, Bytes) {
        let request = Request::builder().uri(path).header("accept", accept);
        let response = self.send(&self.admin, request, "").await;
        let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let (code, mut body) = (response.status(), response.into_body());
        let bytes = match whole {
            true => body.collect().await.unwrap().to_bytes(),
            false => body.frame().await.unwrap().unwrap().into_data().unwrap(),
        };
        (code, kind, bytes)
    }

    pub async fn get(&self, path: &str) -> Value {
        let (code, value) = self.ask(Method::GET, path, JSON, "").await;
        assert_eq!(code, StatusCode::OK, "{path}: {value}");
        value
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, JSON, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> (StatusCode, Value) {
        self.ask(Method::PATCH, path, kind, body.to_string()).await
    }

    /// Creates an object that must be accepted.
    pub async fn ok(&self, path: &str, body: Value) -> Value {
        let (code, value) = self.post(path, &body).await;
        assert_eq!(code, StatusCode::CREATED, "{path}: {value}");
        value
    }

    pub fn revision(&self) -> u64 {
        self.registry.revision()
    }
}

/// A watch that is read line by line; none when it has ended.
pub struct Watch {
    body: Body,
    text: Vec<u8>,
}

impl Watch {
    pub async fn open(cluster: &Cluster, path: &str) -> (StatusCode, Self) {
        let body: Body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let admin = Arc::new(UserInfo::new("admin", &[kedge_auth::MASTERS]));
        let peer = Peer { trusted: Some(admin), ..Peer::default() };
        let response = cluster.server.handle(Request::get(path).body(body).unwrap(), &peer).await;
        (response.status(), Self { body: response.into_body(), text: Vec::new() })
    }

    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.extend_from_slice(&data);
        }
    }
}

/// Ordinary objects of all kinds, in an order in which they can be created.
pub fn objects() -> Vec<(&'static ResourceInfo, Value)> {
    let all = include_str!("../../../registry/tests/objects.yaml");
    let parsed = all.split("\n---\n").map(|document| serde_yaml::from_str::<Value>(document).unwrap());
    let kinds = kedge_schema::resources();
    parsed
        .map(|object| {
            let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            let info = kinds.iter().find(|r| r.api_version() == version && r.kind == kind && r.is_stored()).unwrap();
            (info, object)
        })
        .collect()
}

/// The path of a resource's objects.
pub fn collection(info: &ResourceInfo) -> String {
    let group = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let place = if info.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
    format!("{group}/{}{place}/{}", info.version, info.plural)
}

/// The path of an object.
pub fn path(info: &ResourceInfo, object: &Value) -> String {
    format!("{}/{}", collection(info), object["metadata"]["name"].as_str().unwrap())
}

/// Tries something with every object, and fails when it failed with any; each says why.
pub async fn with_each(mut attempt: impl AsyncFnMut(&'static ResourceInfo, Value)) {
    let mut failed = Vec::new();
    for (info, object) in objects() {
        let title = format!("{} {}", info.kind, object["metadata"]["name"]);
        let outcome = std::panic::AssertUnwindSafe(attempt(info, object)).catch_unwind().await;
        failed.extend(outcome.err().map(|_| title));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A version of a kind that comes while the server runs, with the rules of custom resources.
pub fn defined(info: ResourceInfo, selectable: Vec<Text>) -> DefinedVersion {
    let custom = Arc::new(Custom { selectable, ..Custom::default() });
    let schema = info.schema.structural().unwrap().clone();
    let strategy = Arc::new(CustomResource::new(schema, custom.clone()));
    DefinedVersion { info, strategy, printer: printers::aged(), custom }
}
