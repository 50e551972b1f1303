//! How a request gets to a server: the seam between in-process and HTTPS.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::kubeconfig::{ClusterAccess, KubeconfigError};

/// Any error of a body or connection.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer; it may never end (a watch).
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Carries a request, whose URI is only path and query, to a server and its answer back.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// When no answer came. A failure that the server reports is an `Ok` with its code.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError>;

    /// Tells when kinds have come or gone, where that can be told. The number means nothing.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// What it writes is owned under that name.
const AGENT: HeaderValue = HeaderValue::from_static("kedge");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTPS to one API server, connections pooled, HTTP/2 where the server offers it.
pub struct HttpsTransport {
    client: HyperClient<Connector, Full<Bytes>>,
    base: Uri,
    bearer: Option<HeaderValue>,
}

impl HttpsTransport {
    /// A transport with the server, trust and identity of `access`.
    ///
    /// # Errors
    /// When certificates, key, token or server address cannot be used.
    pub fn new(access: &ClusterAccess) -> Result<Self, KubeconfigError> {
        let tls = Arc::new(access.tls_config()?);
        let base = access.server_uri()?;
        let bearer = access.bearer_header()?;
        let client = HyperClient::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .build(Connector { tls: TlsConnector::from(tls) });
        Ok(Self { client, base, bearer })
    }
}

#[async_trait]
impl Transport for HttpsTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let mut uri = self.base.clone().into_parts();
        uri.path_and_query = parts.uri.into_parts().path_and_query;
        parts.uri = Uri::from_parts(uri)?;
        parts.headers.entry(header::USER_AGENT).or_insert(AGENT);
        if let Some(bearer) = &self.bearer {
            parts.headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        let response = self.client.request(Request::from_parts(parts, Full::new(body))).await?;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// TCP and TLS to the server of a URI.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
}

/// A TLS connection as the HTTP client wants it.
struct TlsIo(TokioIo<tokio_rustls::client::TlsStream<TcpStream>>);

impl hyper_util::client::legacy::connect::Connection for TlsIo {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        let h2 = self.0.inner().get_ref().1.alpn_protocol() == Some(b"h2");
        let connected = hyper_util::client::legacy::connect::Connected::new();
        if h2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for TlsIo {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for TlsIo {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TlsIo;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<TlsIo, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let host = uri.host().ok_or("the server address has no host")?.trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let connect = async {
                let tcp = TcpStream::connect((host.as_str(), port)).await?;
                tcp.set_nodelay(true)?;
                let name = rustls_pki_types::ServerName::try_from(host.clone())?;
                Ok::<_, BoxError>(tls.connect(name, tcp).await?)
            };
            let stream = kedge_base::time::timeout(CONNECT_TIMEOUT, connect).await??;
            Ok(TlsIo(TokioIo::new(stream)))
        })
    }
}
