//! The kubelet's HTTPS port: logs, exec, attach, port-forward and a look at the pods for the API server; metrics for who scrapes.
//!
//! Every request is authorized before anything else about it is looked at.

mod about;
mod access;
mod checkpoint;
mod host_logs;
mod local_volumes;
mod logs;
mod metrics;
mod netns;
mod query;
mod reply;
mod router;
mod streams;
mod tokens;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kedge_base::net::{MAX_FAULTS, MAX_PENDING_RESETS};
use kedge_base::{TaskGroup, Weight, time};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::config::{KubeletError, ServingConfig};
use crate::kubelet::Kubelet;
use crate::node::MachineInfo;
use crate::stats::Rates;
use access::{Decisions, Identity};
use reply::Reply;
use tokens::Tokens;

/// Connections at a time; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What all requests share.
pub(super) struct Server {
    kubelet: Arc<Kubelet>,
    tasks: TaskGroup,
    rates: Rates,
    tokens: Tokens,
    decisions: Decisions,
    machine: MachineInfo,
}

/// Opens the port and serves it until shutdown.
///
/// # Errors
/// When the certificate cannot be used or the address is taken.
pub(crate) async fn start(
    kubelet: Arc<Kubelet>,
    config: &ServingConfig,
    tasks: &TaskGroup,
) -> Result<(), KubeletError> {
    let tls = tls_config(config).map_err(|error| KubeletError::Certificate(error.to_string()))?;
    let address = config.address;
    let listener = TcpListener::bind(address).await.map_err(|source| KubeletError::Listen { address, source })?;
    info!(%address, "kubelet is listening");
    let clock = kubelet.clock.clone();
    let server = Arc::new(Server {
        rates: Rates::new(clock.clone()),
        tokens: Tokens::new(clock.clone()),
        decisions: Decisions::new(clock),
        machine: MachineInfo::detect(&kubelet.config.root_dir, &kubelet.config.args.eviction_hard),
        kubelet,
        tasks: tasks.clone(),
    });
    let (listener, tls) = (Arc::new(listener), TlsAcceptor::from(Arc::new(tls)));
    tasks.spawn_worker("kubelet-server", move || accept(server.clone(), listener.clone(), tls.clone()));
    Ok(())
}

fn tls_config(config: &ServingConfig) -> Result<ServerConfig, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.client_ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(config.certificate.clone());
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

async fn accept(server: Arc<Server>, listener: Arc<TcpListener>, tls: TlsAcceptor) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: waiting lets others be closed.
                warn!(%error, "cannot accept a connection to the kubelet");
                server.kubelet.clock.sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (server, tls) = (server.clone(), tls.clone());
        let tasks = server.tasks.clone();
        tasks.spawn_until_shutdown("kubelet-connection", async move {
            if let Err(error) = connection(server, stream, tls).await {
                debug!(error, "connection to the kubelet ended");
            }
            drop(slot);
        });
    }
}

/// A method as it is counted. What clients invent is one: whoever asks need not have said yet who they are.
fn counted(method: &http::Method) -> &str {
    let usual = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"];
    usual.into_iter().find(|usual| *usual == method.as_str()).unwrap_or("other")
}

/// A panic fails the one request, not the others on the connection.
async fn answer(server: &Server, identity: Option<&Identity>, request: http::Request<Incoming>) -> Reply {
    let is_head = *request.method() == http::Method::HEAD;
    let known = router::known(request.uri().path());
    let long = matches!(known, "exec" | "attach" | "portForward" | "debug");
    server.kubelet.metrics.http_requests.add(kedge_base::exposition::written(&[
        ("long_running", if long { "true" } else { "false" }),
        ("method", counted(request.method())),
        ("path", known),
        ("server_type", "readwrite"),
    ]));
    let handled = router::handle(server, identity, request);
    let caught = server.tasks.ledger().catch("kubelet", "kubelet-request", Weight::Single, handled).await;
    let failed = |_| reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the request made the kubelet panic");
    let answer = caught.unwrap_or_else(failed);
    if is_head { reply::head_only(answer) } else { answer }
}

async fn connection(server: Arc<Server>, stream: TcpStream, tls: TlsAcceptor) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let stream = time::timeout(HANDSHAKE, tls.accept(stream)).await??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = Arc::new(leaf.and_then(|der| Identity::of_certificate(der)));
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, identity) = (server.clone(), identity.clone());
        async move { Ok::<_, Infallible>(answer(&server, identity.as_ref().as_ref(), request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS);
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await
}
