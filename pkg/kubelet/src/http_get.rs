//! One HTTP GET to a pod, for probes and lifecycle hooks: no proxy, no verification of certificates, a fresh
//! connection each time, and a limit on what is read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kedge_base::time;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Where to ask, and with which headers.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the query; begins with a slash.
    pub(crate) path: String,
    headers: HeaderMap,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Its beginning.
    pub(crate) body: String,
}

/// Why nothing came back. The texts are those of Go's client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("Get {url:?}: {cause}")]
    Failed { url: String, cause: String },
    #[error("Get {url:?}: http: server gave HTTP response to HTTPS client")]
    PlainAnswer { url: String },
}

/// The number of a port that may be given by a name of the container's ports.
///
/// # Errors
/// Upstream's message.
pub(crate) fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    let valid = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    valid.ok_or_else(|| match (number, port) {
        (Some(number), _) => format!("invalid port number: {number}"),
        (None, IntOrString::String(name)) => {
            format!("couldn't find port: {name:?} in container: {:?}", container.name)
        }
        (None, IntOrString::Int(number)) => format!("invalid port number: {number}"),
    })
}

impl Target {
    /// `purpose` is part of the name we give ourselves: `kube-<purpose>/<version>`.
    ///
    /// # Errors
    /// A message about a port or header that cannot be used.
    pub(crate) fn new(
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: &str,
        purpose: &str,
    ) -> Result<Target, String> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let mut headers = HeaderMap::new();
        for pair in action.http_headers.iter().flatten() {
            let name = HeaderName::from_bytes(pair.name.as_bytes()).map_err(|e| e.to_string())?;
            let value = HeaderValue::from_str(&pair.value).map_err(|e| e.to_string())?;
            headers.append(name, value);
        }
        if !headers.contains_key(header::USER_AGENT) {
            let agent = HeaderValue::from_str(&format!("kube-{purpose}/1.36"));
            headers.insert(header::USER_AGENT, agent.map_err(|e| e.to_string())?);
        }
        match headers.get(header::ACCEPT) {
            None => {
                headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
            }
            Some(value) if value.is_empty() => {
                headers.remove(header::ACCEPT);
            }
            Some(_) => {}
        }
        let path = given(&action.path).unwrap_or_default();
        Ok(Target {
            https: action.scheme.as_deref() == Some("HTTPS"),
            host: given(&action.host).unwrap_or_else(|| pod_ip.to_string()),
            port: resolve_port(&action.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers,
        })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// The same without TLS, and without what is only for the holder of the certificate.
    pub(crate) fn without_tls(&self) -> Target {
        let mut plain = Target { https: false, ..self.clone() };
        plain.headers.remove(header::AUTHORIZATION);
        plain
    }

    fn failed(&self, cause: impl ToString) -> GetError {
        GetError::Failed { url: self.url(), cause: cause.to_string() }
    }

    fn redirected(&self, location: &str) -> Option<Target> {
        let uri: Uri = location.parse().ok()?;
        let mut next = self.clone();
        if let Some(host) = uri.host() {
            next.host = host.trim_start_matches('[').trim_end_matches(']').to_string();
            next.https = uri.scheme_str().map_or(self.https, |s| s == "https");
            next.port = uri.port_u16().unwrap_or(if next.https { 443 } else { 80 });
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        next.path = match path.strip_prefix('/') {
            Some(_) => path.to_string(),
            // Relative to the directory of what was asked for.
            None => format!("{}/{path}", self.path.rsplit_once('/').map_or("", |(base, _)| base)),
        };
        Some(next)
    }
}

pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A connection, or the text of Go's dialer.
///
/// # Errors
/// Such as `dial tcp 10.0.0.1:80: connect: connection refused`.
pub(crate) async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let address = authority(host, port);
    match time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {address}: {}", dial_cause(host, &error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

fn dial_cause(host: &str, error: &std::io::Error) -> String {
    if error.raw_os_error().is_none() && host.parse::<IpAddr>().is_err() {
        return format!("lookup {host}: no such host");
    }
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused",
        std::io::ErrorKind::HostUnreachable => "no route to host",
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable",
        std::io::ErrorKind::ConnectionReset => "connection reset by peer",
        std::io::ErrorKind::TimedOut => "connection timed out",
        _ => return error.to_string(),
    };
    format!("connect: {text}")
}

/// Asks, and follows redirects as long as they stay on the same host. A redirect elsewhere is the answer itself.
///
/// # Errors
/// [`GetError`] when no answer came within `limit`.
pub(crate) async fn get(target: &Target, limit: Duration) -> Result<Answer, GetError> {
    let follow = async {
        let mut current = target.clone();
        for _ in 0..MAX_REDIRECTS {
            let (answer, location) = once(&current, limit).await?;
            let next = location.and_then(|l| current.redirected(&l));
            match next.filter(|n| n.host == target.host && (300..400).contains(&answer.status)) {
                Some(next) => current = next,
                None => return Ok(answer),
            }
        }
        Err(current.failed("stopped after 10 redirects"))
    };
    match time::timeout(limit, follow).await {
        Ok(result) => result,
        Err(_) => Err(target.failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")),
    }
}

async fn once(target: &Target, limit: Duration) -> Result<(Answer, Option<String>), GetError> {
    let stream = dial(&target.host, target.port, limit).await;
    let stream = stream.map_err(|cause| target.failed(cause))?;
    if !target.https {
        return exchange(target, stream).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|e| target.failed(e))?;
    match connector().map_err(|e| target.failed(e))?.connect(name, stream).await {
        Ok(stream) => exchange(target, stream).await,
        // What is no TLS record is most likely plain HTTP.
        Err(error) if error.to_string().contains("corrupt message") => Err(GetError::PlainAnswer { url: target.url() }),
        Err(error) => Err(target.failed(error)),
    }
}

async fn exchange<S>(target: &Target, stream: S) -> Result<(Answer, Option<String>), GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| {
        let cause = if error.is_incomplete_message() { "EOF".to_string() } else { error.to_string() };
        target.failed(cause)
    };
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
    let mut request = Request::get(&target.path).body(Empty::<bytes::Bytes>::new());
    if let Ok(request) = &mut request {
        *request.headers_mut() = target.headers.clone();
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&target.authority())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let request = request.map_err(|error| target.failed(error))?;
    let read = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|l| l.to_str().ok()).map(str::to_string);
        let mut body = Vec::new();
        let mut frames = response.into_body();
        while body.len() < MAX_BODY {
            match frames.frame().await {
                Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().unwrap_or(&bytes::Bytes::new())),
                Some(Err(error)) => return Err(failed(error)),
                None => break,
            }
        }
        body.truncate(MAX_BODY);
        Ok((Answer { status, body: String::from_utf8_lossy(&body).into_owned() }, location))
    };
    // The connection must be driven for the exchange to move; it ends with it.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        result = read => result,
        () = drive => Err(target.failed("EOF")),
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate { provider: provider.clone() });
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Pods have certificates that nobody but they know; a probe only wants an answer.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "http_get_tests.rs"]
mod tests;
