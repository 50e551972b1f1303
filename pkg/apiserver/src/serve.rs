//! The TLS port: accept, shake hands, serve HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST};
use http::{HeaderValue, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kedge_auth::{AnyClientCertificate, Shown};
use kedge_base::TaskGroup;
use kedge_base::net::{MAX_FAULTS, MAX_PENDING_RESETS};
use rustls::server::ResolvesServerCert;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::body::{Body, BodyError, BoxError};
use crate::drain::Drain;
use crate::output::respond::ToNobody;
use crate::server::{ApiServer, Peer};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Header lists beyond this are refused.
const MAX_HEADERS: u32 = 64 << 10;
/// Header fields of a request over HTTP/1.1: proxies add many.
const MAX_HEADER_FIELDS: usize = 500;
/// Connections at a time; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 8_192;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
/// Bytes of one request's body that may be on their way.
const STREAM_WINDOW: u32 = 64 << 10;

/// What who speaks without TLS gets.
const PLAIN_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// The TLS configuration for a serving certificate; clients may show a certificate, whoever issued it, and are told that those of
/// `client_ca_pem` are known.
///
/// # Errors
/// When the authorities cannot be read.
pub fn tls_config(certificate: Arc<dyn ResolvesServerCert>, client_ca_pem: &str) -> Result<ServerConfig, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authorities = CertificateDer::pem_slice_iter(client_ca_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let mut known = RootCertStore::empty();
    known.add_parsable_certificates(authorities);
    let issuers = known.subjects();
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyClientCertificate::new(provider, issuers)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves connections until shutdown; then those that are open get a moment to end.
pub async fn serve(server: Arc<ApiServer>, listener: Arc<TcpListener>, tls: Arc<ServerConfig>, tasks: TaskGroup) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let drain = Drain::new(tasks.clone());
    let shutdown = tasks.shutdown().clone();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Out of file descriptors, most likely: waiting lets others be closed.
                warn!(error = %err, "cannot accept a connection");
                server.clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let config = tls.clone();
        let server = server.clone();
        let (shutdown, drain) = (shutdown.clone(), drain.clone());
        tasks.spawn("connection", async move {
            let ended = connection(server, stream, address, config, drain, shutdown).await;
            if let Err(err) = ended {
                debug!(%address, error = %err, "connection ended");
            }
            drop(slot);
        });
    }
}

async fn connection(
    server: Arc<ApiServer>,
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    drain: Drain,
    shutdown: kedge_base::Shutdown,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    kedge_base::net::keep_alive::enable(&stream)?;
    let handshake = handshake(stream, config);
    let Some(stream) = kedge_base::time::timeout(HANDSHAKE, handshake).await?? else { return Ok(()) };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = Shown::new(certificates.iter().map(|c| c.clone().into_owned()).collect());
    let peer = Arc::new(Peer { certificates: Arc::new(certificates), trusted: None, address: Some(address) });
    let last = Arc::new(Notify::new());
    let by_nobody = last.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer, by_nobody) = (server.clone(), peer.clone(), by_nobody.clone());
        let request = drain.watch(request.map(|body| body.map_err(BodyError::from).boxed_unsync()));
        async move {
            let shared = request.version() == Version::HTTP_2;
            let answer = match refusal(&request) {
                Some(refused) => refused,
                None => server.handle(request, &peer).await,
            };
            if shared && answer.extensions().get::<ToNobody>().is_some() {
                by_nobody.notify_one();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_headers(MAX_HEADER_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS)
        // A body that waits must not take the window of those beside it.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stops = tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.requested() => true,
        // As upstream: who is not known has a connection for each request, and not one for many at a time.
        () = last.notified() => false,
    };
    connection.as_mut().graceful_shutdown();
    if !stops {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = shutdown.requested() => {}
        }
    }
    kedge_base::time::timeout(Duration::from_secs(2), connection).await?
}

/// Shakes hands. A client that speaks plain HTTP is told so, in plain HTTP.
async fn handshake(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    // A handshake begins with a control character, every method of HTTP with a letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(PLAIN_HTTP).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    TlsAcceptor::from(config).accept(stream).await.map(Some)
}

/// What is refused before anybody asks what it is about, as Go's server does that.
fn refusal<T>(request: &http::Request<T>) -> Option<http::Response<Body>> {
    let (headers, version) = (request.headers(), request.version());
    if headers.get(EXPECT).is_some_and(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Some(refused(version, StatusCode::EXPECTATION_FAILED, ""));
    }
    let bad = |why| Some(refused(version, StatusCode::BAD_REQUEST, why));
    if !is_escaped(request.uri().path()) {
        return bad("400 Bad Request");
    }
    if version != Version::HTTP_11 {
        return None;
    }
    // Without one a proxy before the server and the server itself may disagree on what is asked for.
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.as_bytes().iter().all(may_be_in_host) => None,
        (Some(_), None) => bad("400 Bad Request: malformed Host header"),
        (None, _) => bad("400 Bad Request: missing required Host header"),
        (Some(_), Some(_)) => bad("400 Bad Request"),
    }
}

/// Go shows in the first line of the answer why it refuses, and closes the connection.
fn refused(version: Version, code: StatusCode, why: &'static str) -> http::Response<Body> {
    let mut response = http::Response::new(crate::body::full(why));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if !why.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    if version <= Version::HTTP_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some((_, reason)) = why.split_once(' ') {
            response.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
        }
    }
    response
}

/// Whether every `%` of a path begins the number of a byte.
fn is_escaped(path: &str) -> bool {
    let mut parts = path.as_bytes().split(|byte| *byte == b'%').skip(1);
    parts.all(|part| part.len() >= 2 && part[..2].iter().all(u8::is_ascii_hexdigit))
}

fn may_be_in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_names_one_host_and_expects_nothing_special() {
        let at = |uri: &str, version, headers: &[(&str, &str)]| {
            let mut request = http::Request::builder().version(version).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            refusal(&request.body(()).unwrap()).map(|refused| refused.status().as_u16())
        };
        let code = |version, headers: &[(&str, &str)]| at("/", version, headers);
        assert_eq!(code(Version::HTTP_11, &[]), Some(400));
        assert_eq!(code(Version::HTTP_11, &[("host", "a"), ("host", "a")]), Some(400));
        assert_eq!(code(Version::HTTP_11, &[("host", "a"), ("expect", "100-Continue")]), None);
        assert_eq!(code(Version::HTTP_11, &[("host", "a"), ("expect", "wonders")]), Some(417));
        assert_eq!(code(Version::HTTP_11, &[("host", "a b")]), Some(400));
        assert_eq!(code(Version::HTTP_11, &[("host", "[::1]:6443")]), None);
        assert_eq!(at("/a%zz", Version::HTTP_2, &[]), Some(400));
        assert_eq!(at("/a%2", Version::HTTP_2, &[]), Some(400));
        assert_eq!(at("/a%2fb?c=%", Version::HTTP_2, &[]), None);
        assert_eq!(code(Version::HTTP_2, &[]), None);
        assert_eq!(code(Version::HTTP_10, &[]), None);
    }
}
