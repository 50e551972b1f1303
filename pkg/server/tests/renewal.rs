//! A server that runs for longer than its certificates are valid, by a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use kedge_base::{Clock as _, SharedClock, Shutdown, VirtualClock, system_clock};
use kedge_client::{Client, ClusterAccess};
use kedge_server::{AdmissionPlugins, Endpoint, Server, ServerConfig, SnapshotSettings, Tls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;

const DAY: Duration = Duration::from_secs(86_400);

fn config(dir: &Path, port: u16) -> ServerConfig {
    ServerConfig {
        data_dir: dir.join("data"),
        bind_address: [127, 0, 0, 1].into(),
        https_port: port,
        advertise_address: [127, 0, 0, 1].into(),
        tls_sans: Vec::new(),
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        cluster_cidr: "10.42.0.0/16".into(),
        cluster_dns: [10, 43, 0, 10].into(),
        cluster_domain: "cluster.local".into(),
        node_ports: (30_000, 32_767),
        kubeconfig: dir.join("kubeconfig.yaml"),
        kubeconfig_mode: 0o600,
        node_name: "n1".into(),
        scheduler: true,
        controllers: true,
        controller_settings: Default::default(),
        dns: false,
        metrics: false,
        local_storage: None,
        storage_migration: false,
        datastore: Endpoint::Memory,
        datastore_tls: Tls::default(),
        token: None,
        secrets_encryption: false,
        encryption_config: None,
        admission: AdmissionPlugins::default(),
        admission_config: None,
        in_flight: Default::default(),
        audit: Default::default(),
        authentication: Default::default(),
        authorization: Default::default(),
        tokens: kedge_server::TokenSettings::default(),
        snapshots: SnapshotSettings { schedule: None, retention: 1, dir: None },
        etcd_listen: None,
    }
}

/// The test's time, for TLS.
struct Time(VirtualClock);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A connection of the administrator, as the kubeconfig says now.
struct Connection {
    requests: SendRequest<Empty<bytes::Bytes>>,
    server: CertificateDer<'static>,
}

impl Connection {
    async fn open(kubeconfig: &Path, port: u16, clock: &VirtualClock) -> Self {
        let access = ClusterAccess::from_file(kubeconfig).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&access.certificate_authority).unwrap()).unwrap();
        let chain = CertificateDer::pem_slice_iter(&access.client_certificate).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(&access.client_key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        let server = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { requests, server }
    }

    async fn ask(&mut self) -> StatusCode {
        let request = Request::get("/api/v1/namespaces/default").header("host", "127.0.0.1").body(Empty::new());
        let response = self.requests.send_request(request.unwrap()).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    }
}

/// Waits until a file is another than it was.
async fn changed(path: &Path, before: &str) -> String {
    let changed = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match std::fs::read_to_string(path).unwrap() {
                same if same == before => tokio::time::sleep(Duration::from_millis(20)).await,
                other => return other,
            }
        }
    });
    changed.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outlives_its_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    // So that it is today when the test ends, also for those who know no other time.
    let start = system_clock().now().checked_sub(jiff::SignedDuration::from_hours(500 * 24)).unwrap();
    let (clock, shutdown) = (VirtualClock::new(start), Shutdown::new());
    let shared: SharedClock = Arc::new(clock.clone());
    let server = Server::start_at(config(dir.path(), port), &shutdown, shared).await.unwrap();
    let kubeconfig = dir.path().join("kubeconfig.yaml");
    let own = dir.path().join("data/server/cred/admin.kubeconfig");
    let first_text = std::fs::read_to_string(&kubeconfig).unwrap();
    let mut first = Connection::open(&kubeconfig, port, &clock).await;
    assert_eq!(first.ask().await, StatusCode::OK);

    clock.advance(250 * DAY);
    let second_text = changed(&kubeconfig, &first_text).await;
    // All leaves are renewed together, and the kubeconfig need not be the last of them.
    let serving = dir.path().join("data/server/tls/serving-kube-apiserver.crt");
    let renewed = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let next = Connection::open(&kubeconfig, port, &clock).await;
            if next.server != first.server {
                return next;
            }
        }
    });
    let mut second = renewed.await.unwrap();
    assert_eq!(second.ask().await, StatusCode::OK);
    assert_eq!(first.ask().await, StatusCode::OK, "the connection stays, and its certificate is still good");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), second_text);
    let on_disk = CertificateDer::from_pem_file(&serving).unwrap();
    assert_eq!(on_disk, second.server);

    clock.advance(250 * DAY);
    changed(&kubeconfig, &second_text).await;
    assert_eq!(second.ask().await, StatusCode::OK);
    assert_eq!(first.ask().await, StatusCode::UNAUTHORIZED, "the connection stays, but its certificate has run out");
    let client = Client::from_kubeconfig(&kubeconfig).unwrap();
    let namespace = client.get_raw("/api/v1/namespaces/default").await;
    assert!(namespace.is_ok(), "{namespace:?}");
    shutdown.trigger();
    server.stop().await;
}
