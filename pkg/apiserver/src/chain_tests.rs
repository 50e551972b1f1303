//! Requests that panic or are given up, and what the server's health says of panics.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kedge_audit::{LogFile, Policy, Sink};
use kedge_auth::{Authenticator, BoundStores, CertificateAuthenticator, MASTERS, RbacAuthorizer, TokenSigner};
use kedge_base::{Ledger, Shutdown, TOO_MANY, TaskGroup, VirtualClock, WINDOW, system_clock};
use kedge_certs::Pki;
use kedge_registry::{ClusterConfig, NoAdmission, Registry};
use kedge_storage::Storage;
use serde_json::json;

use super::*;
use crate::auditing::Auditing;
use crate::body::{BodyError, full};
use crate::limits::InFlight;
use crate::readiness::Readiness;
use crate::server::{Config, OwnPaths};

/// The way of a request that panics, before its answer or within it, or that is never answered.
struct Panicking;

#[async_trait]
impl OwnPaths for Panicking {
    fn prefix(&self) -> &str {
        "/test/"
    }

    async fn handle(&self, _: &Method, path: &str, _: Bytes) -> Result<Response<Body>, Status> {
        assert!(path != "/test/panic", "on purpose");
        if path == "/test/hang" {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(Broken.boxed_unsync()))
    }
}

struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        panic!("on purpose")
    }
}

struct Setup {
    server: Arc<ApiServer>,
    ledger: Ledger,
    clock: VirtualClock,
}

async fn setup() -> Setup {
    setup_audited(None).await
}

async fn setup_audited(audit: Option<Arc<Auditing>>) -> Setup {
    let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let ledger = Ledger::new(Arc::new(clock.clone()));
    let kv = Arc::new(kedge_kv::Embedded::memory(system_clock()).unwrap());
    let configs = Registry::storage_configs();
    let storage = Arc::new(Storage::open(kv, &configs, Arc::default(), system_clock()).await.unwrap());
    let store = |prefix: &str| storage.resource(prefix).unwrap();
    let cluster = ClusterConfig {
        service_cidrs: vec!["10.43.0.0/24".parse().unwrap()],
        node_ports: (30_000, 30_100),
        shared: false,
    };
    let registry = Arc::new(Registry::new(storage.clone(), system_clock(), cluster));
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()).unwrap();
    let bound = BoundStores { pods: store("pods"), secrets: store("secrets"), nodes: store("minions") };
    let tokens = TokenSigner::new(&pki.service_account_key, "i", store("serviceaccounts"), bound);
    let certificates = CertificateAuthenticator::new(&pki.client_ca.certificate).unwrap();
    let roles = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"].map(store);
    let [roles, bindings, cluster_roles, cluster_bindings] = roles;
    let rbac = Arc::new(RbacAuthorizer::new(roles, bindings, cluster_roles, cluster_bindings));
    let server = ApiServer::new(Config {
        registry,
        admission: Arc::new(NoAdmission),
        authenticator: Authenticator::new(certificates, Arc::new(tokens.unwrap())),
        authorizer: Arc::new(kedge_auth::Union::new(vec![rbac])),
        kubelets: None,
        others: None,
        clock: system_clock(),
        tasks: TaskGroup::new("answers", Shutdown::new()),
        readiness: Readiness::over(ledger.clone()),
        in_flight: InFlight::default(),
        audit,
        anonymous: Default::default(),
        advertised: String::new(),
        flags: Vec::new(),
        own: Some(Arc::new(Panicking)),
        used_tokens: None,
        token_limits: kedge_registry::subresources::token::Limits::default(),
    });
    Setup { server, ledger, clock }
}

fn admin() -> Peer {
    Peer { trusted: Some(Arc::new(UserInfo::new("admin", &[MASTERS]))), ..Peer::default() }
}

async fn get(server: &Arc<ApiServer>, path: &str, peer: &Peer) -> (StatusCode, String) {
    let request = Request::builder().uri(path).body(full(Bytes::new())).unwrap();
    let response = server.handle(request, peer).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_request_that_panics_fails_alone_and_gives_back_what_it_held() {
    let Setup { server, ledger, .. } = setup().await;
    // More often than there are slots for requests.
    for _ in 0..300 {
        let (code, body) = get(&server, "/test/panic", &admin()).await;
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code.as_u16(), status["kind"].as_str(), status["code"].as_u64()), (500, Some("Status"), Some(500)));
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("This request caused apiserver to panic. Look in the logs for details."), "{message}");
    }
    assert_eq!(ledger.panics_of("request"), 300);
    assert_eq!(get(&server, "/api/v1/namespaces", &admin()).await.0, StatusCode::OK);
    // One client's request that always panics is no reason to send all others away.
    assert_eq!(get(&server, "/readyz", &admin()).await, (StatusCode::OK, "ok".into()));
}

#[tokio::test]
async fn an_answer_that_panics_while_it_is_sent_breaks_off() {
    let Setup { server, ledger, .. } = setup().await;
    let request = Request::builder().uri("/test/stream").body(full(Bytes::new())).unwrap();
    let response = server.handle(request, &admin()).await;
    assert!(response.into_body().frame().await.unwrap().is_err());
    assert_eq!(ledger.panics_of("stream"), 1);
}

/// Once nothing was recorded of a request whose client went away before the answer, though it may have done what it asked for.
#[tokio::test]
async fn a_request_that_is_given_up_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let policy = Policy::read("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]").unwrap();
    let file = LogFile::new(path.to_str().unwrap(), 0, 0, 0, false);
    let tasks = TaskGroup::new("audit", Shutdown::new());
    let sink = Sink::default().with_file(file, false, &tasks, &system_clock()).unwrap();
    let Setup { server, .. } = setup_audited(Some(Arc::new(Auditing::new(policy, sink)))).await;
    let request = Request::builder().uri("/test/hang").body(full(Bytes::new())).unwrap();
    let peer = admin();
    {
        let mut handling = std::pin::pin!(server.handle(request, &peer));
        let polled = std::future::poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    let log = async {
        loop {
            let log = std::fs::read_to_string(&path).unwrap();
            if log.contains("ResponseComplete") {
                return log;
            }
            system_clock().sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let log = tokio::time::timeout(std::time::Duration::from_secs(10), log).await.unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["requestURI"], "/test/hang");
    assert_eq!(last["responseStatus"]["message"], "Connection closed early");
}

#[tokio::test]
async fn tasks_that_panic_again_and_again_make_the_server_unready_until_they_are_quiet() {
    let Setup { server, ledger, clock } = setup().await;
    for _ in 0..TOO_MANY {
        assert_eq!(get(&server, "/readyz", &Peer::default()).await, (StatusCode::OK, "ok".into()));
        drop(ledger.catch_now("controllers", "deployment", Weight::Vital, || panic!("of {}", "foo")));
    }
    let (code, report) = get(&server, "/readyz", &Peer::default()).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(report.contains("[-]tasks failed: reason withheld\n") && report.contains("[+]etcd ok\n"), "{report}");
    let (code, report) = get(&server, "/readyz/tasks", &admin()).await;
    let why = format!("internal server error: controllers/deployment panicked {TOO_MANY} times of late: of foo");
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(report.starts_with(&why), "{report}");
    assert_eq!(get(&server, "/readyz/tasks", &Peer::default()).await.0, StatusCode::UNAUTHORIZED);
    // It lives, and need not be restarted.
    assert_eq!(get(&server, "/livez", &Peer::default()).await.0, StatusCode::OK);
    clock.advance(WINDOW);
    assert_eq!(get(&server, "/readyz", &Peer::default()).await, (StatusCode::OK, "ok".into()));
}

/// Once a slot was taken first, and whoever sent nonsense could use up those of everybody.
#[tokio::test]
async fn who_is_not_known_takes_no_slot() {
    let Setup { server, .. } = setup().await;
    let info = RequestInfo::parse(&Method::GET, &"/api/v1/namespaces".parse().unwrap()).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| server.limits.enter(&info).ok()).collect();
    assert!(!taken.is_empty());
    let unknown = Request::builder().uri("/api/v1/namespaces").header("authorization", "Bearer nonsense");
    let response = server.handle(unknown.body(full(Bytes::new())).unwrap(), &Peer::default()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "not 429: it waits for nothing");
}

async fn post(server: &Arc<ApiServer>, path: &str, object: serde_json::Value) -> serde_json::Value {
    let request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    let response = server.handle(request.body(full(object.to_string())).unwrap(), &admin()).await;
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(code.is_success(), "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// An account that is made, and what its tokens are bound to.
async fn account(server: &Arc<ApiServer>) -> kedge_auth::Bindings {
    post(server, "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = post(server, accounts, json!({"metadata": {"name": "a"}})).await;
    let bound = kedge_auth::BoundObject { name: "a".into(), uid: account["metadata"]["uid"].as_str().unwrap().into() };
    kedge_auth::Bindings { namespace: "default".into(), serviceaccount: bound, ..Default::default() }
}

/// Who reads its token once shows an old one, which is taken for a year, and may be found by that.
#[tokio::test]
async fn tokens_that_are_older_than_they_say_are_counted() {
    let Setup { server, .. } = setup().await;
    let mut bindings = account(&server).await;
    for (warnafter, times) in [(server.now() + 100, 1), (server.now() - 100, 2)] {
        bindings.warnafter = Some(warnafter);
        let token = server.authenticator.tokens().issue(bindings.clone(), Vec::new(), server.now(), 600).unwrap();
        for _ in 0..times {
            let request = Request::builder().uri("/api/v1/pods").header("authorization", format!("Bearer {token}"));
            let response = server.handle(request.body(full(Bytes::new())).unwrap(), &Peer::default()).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "known, and not allowed to");
        }
    }
    let (_, metrics) = get(&server, "/metrics", &admin()).await;
    for line in [
        "serviceaccount_valid_tokens_total 1",
        "serviceaccount_stale_tokens_total 2",
        "authenticated_user_requests{username=\"other\"} 3",
        "authorization_attempts_total{result=\"no-opinion\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

/// What a level has no seat for is refused in upstream's words, before it is known whether it is allowed, and nobody else is.
#[tokio::test]
async fn who_finds_no_seat_is_told_when_to_come_again() {
    let Setup { server, .. } = setup().await;
    let bindings = account(&server).await;
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let limited = json!({"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}});
    for (name, spec) in [("one", limited.clone()), ("two", limited)] {
        let level = json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": spec}});
        post(&server, &format!("{flows}/prioritylevelconfigurations"), level).await;
        let everything = json!({
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
        });
        let subject = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "default", "name": "a"}});
        let rule = json!({"subjects": [subject], "resourceRules": [everything]});
        let spec = json!({"priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 500, "rules": [rule]});
        post(&server, &format!("{flows}/flowschemas"), json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let token = server.authenticator.tokens().issue(bindings, Vec::new(), server.now(), 600).unwrap();
    let ask = async || {
        let request = Request::builder().uri("/api/v1/pods").header("authorization", format!("Bearer {token}"));
        let response = server.handle(request.body(full(Bytes::new())).unwrap(), &Peer::default()).await;
        let (head, body) = response.into_parts();
        (head, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    assert_eq!(ask().await.0.status, StatusCode::FORBIDDEN);
    let user = UserInfo::new("system:serviceaccount:default:a", &[]);
    let info = RequestInfo::parse(&Method::GET, &"/api/v1/pods".parse().unwrap()).unwrap();
    let schema = server.fairness.classify(&user, &info).unwrap();
    assert_eq!(&*schema.name, "one", "of the same precedence, the name decides");
    let catalogue = server.registry.catalogue();
    let seat = || server.fairness.seat(&schema, (&user, &info), &catalogue, Duration::from_secs(1));
    let mut held = Vec::new();
    while let Ok(seat) = seat().await {
        held.push(seat);
    }
    assert!(!held.is_empty());
    let (head, body) = ask().await;
    assert_eq!(
        (head.status, body.as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n")
    );
    assert_eq!(head.headers["retry-after"], "1");
    assert!(head.headers.contains_key("x-kubernetes-pf-prioritylevel-uid"));
    assert_eq!(get(&server, "/api/v1/pods", &admin()).await.0, StatusCode::OK);
    drop(held);
    assert_eq!(ask().await.0.status, StatusCode::FORBIDDEN);
}

/// Whether somebody who was found out by another server is authenticated, that server says, or the one rule for all.
#[test]
fn groups_are_those_that_the_server_in_front_names() {
    let mut headers = HeaderMap::new();
    headers.insert("x-remote-user", HeaderValue::from_static("system:anonymous"));
    headers.insert("x-remote-group", HeaderValue::from_static("system:unauthenticated"));
    let user = kedge_auth::authenticated(claimed(&headers).unwrap());
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        ("system:anonymous", &["system:unauthenticated".into()][..])
    );
}
