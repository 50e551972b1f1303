//! The way to kubelets and pods: HTTP over connections that a [`Dialer`] makes, upgrades passed through byte by byte.

mod headers;
mod tunnel;
mod usage;

pub(crate) use headers::{forwarded, is_upgrade, remove_credentials, remove_hop_by_hop, returned};
pub(crate) use tunnel::run as tunnel;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kedge_base::TaskGroup;
use kedge_base::net::{Connection, Dialer, DirectDialer, go_text};
use kedge_meta::Status;
use kedge_webhook::AnyCertificate;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use tracing::debug;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::body::{Body, BodyError};

pub(crate) use usage::{NodeUsage, Sample, Usages};

/// Until TLS is spoken, as Go's default transport.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections to kubelets, and those to pods and services, at a time; each is that of one request. What a pod keeps waiting is not at the
/// expense of logs and commands.
const MAX_CONNECTIONS: usize = 2_048;

/// What is spoken with a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    /// Pods have certificates that nobody but they know.
    Https,
    /// Kubelets are known, and know this server, which may do everything there.
    Kubelet {
        /// Whose kubelet it is.
        node: String,
    },
}

/// Whom a request goes on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub transport: Transport,
    /// `host:port`.
    pub address: String,
}

impl Backend {
    /// The kubelet of a node.
    pub(crate) fn kubelet(node: &str, address: String) -> Self {
        Self { transport: Transport::Kubelet { node: node.to_owned() }, address }
    }
}

/// Why a request could not be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    #[error("{}", go_text(.0, .1))]
    Dial(String, #[source] std::io::Error),
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    #[error("{0}")]
    Tls(#[source] std::io::Error),
    #[error("tls: the certificate is that of {found:?}, not of {wanted:?}")]
    Stranger { found: String, wanted: String },
    /// As Go says when a connection ends before an answer.
    #[error("EOF")]
    Eof,
    #[error("{0}")]
    Http(#[source] hyper::Error),
    #[error("all {MAX_CONNECTIONS} connections of that kind are in use")]
    Full,
}

impl From<hyper::Error> for Unreached {
    fn from(err: hyper::Error) -> Self {
        if err.is_incomplete_message() { Self::Eof } else { Self::Http(err) }
    }
}

/// Reaches kubelets, and pods through the network of their nodes.
pub struct KubeletAccess {
    dialer: Arc<dyn Dialer>,
    kubelets: TlsConnector,
    pods: TlsConnector,
    to_kubelets: Arc<Semaphore>,
    to_pods: Arc<Semaphore>,
    tasks: TaskGroup,
}

impl KubeletAccess {
    /// With a TLS configuration that trusts the kubelets' authority and shows the API server's client certificate.
    /// Connections live in `tasks`.
    ///
    /// # Errors
    /// When no other TLS configuration can be made.
    pub fn new(tls: Arc<rustls::ClientConfig>, tasks: TaskGroup) -> Result<Self, rustls::Error> {
        let slots = || Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let pods = TlsConnector::from(Arc::new(any_certificate()?));
        Ok(Self {
            dialer: Arc::new(DirectDialer),
            kubelets: TlsConnector::from(tls),
            pods,
            to_kubelets: slots(),
            to_pods: slots(),
            tasks,
        })
    }

    /// The same with another way to make connections.
    #[must_use]
    pub fn with_dialer(self, dialer: Arc<dyn Dialer>) -> Self {
        Self { dialer, ..self }
    }

    /// Sends a request on and its answer back; when the backend switches protocols, both sides are joined.
    ///
    /// # Errors
    /// When the backend cannot be reached, or says nothing that is HTTP.
    pub(crate) async fn send(
        &self,
        backend: &Backend,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Unreached> {
        let slots = match backend.transport {
            Transport::Kubelet { .. } => &self.to_kubelets,
            Transport::Http | Transport::Https => &self.to_pods,
        };
        let slot = slots.clone().try_acquire_owned().map_err(|_| Unreached::Full)?;
        let client = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        remove_credentials(request.headers_mut());
        let stream = self.connect(backend).await?;
        // Programs that know headers in one spelling only know them in that of Go's client.
        let (mut sender, connection) =
            http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
        let slot = Arc::new(slot);
        self.tasks.spawn_until_shutdown("backend connection", drive(connection, slot.clone()));
        let mut response = sender.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = client
        {
            let tunnel = tunnel::run(client, hyper::upgrade::on(&mut response));
            self.tasks.spawn_until_shutdown("backend stream", async move {
                tunnel.await;
                drop(slot);
            });
        }
        // The connection lives as long as the answer streams.
        Ok(response.map(|body| body.map_err(BodyError::from).boxed_unsync()))
    }

    /// The same for a kubelet's own paths.
    ///
    /// # Errors
    /// 500 in upstream's words when the kubelet cannot be reached, 429 when too many connections are open.
    pub(crate) async fn forward(&self, kubelet: &Backend, request: Request<Body>) -> Result<Response<Body>, Status> {
        let url = format!("https://{}{}", kubelet.address, request.uri().path());
        let upgrade = is_upgrade(request.headers());
        let answered = self.send(kubelet, request).await.map_err(|err| match upgrade {
            _ if matches!(err, Unreached::Full) => Status::too_many_requests(err.to_string(), 1),
            true => Status::failure(500, kedge_meta::Reason::Unknown, format!("error dialing backend: {err}")),
            false => Status::failure(500, kedge_meta::Reason::Unknown, format!("Get {url:?}: {err}")),
        });
        if upgrade { upgraded(answered?) } else { answered }
    }

    /// Runs what serves a connection beyond its request.
    pub(crate) fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_until_shutdown(task, work);
    }

    async fn connect(&self, backend: &Backend) -> Result<Box<dyn Connection>, Unreached> {
        let address = &backend.address;
        let plain = self.dialer.dial(address).await.map_err(|err| Unreached::Dial(address.clone(), err))?;
        let (tls, node) = match &backend.transport {
            Transport::Http => return Ok(plain),
            Transport::Https => (&self.pods, None),
            Transport::Kubelet { node } => (&self.kubelets, Some(node)),
        };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|err| Unreached::Tls(std::io::Error::other(err)))?;
        let handshake = kedge_base::time::timeout(HANDSHAKE, tls.connect(name, plain));
        let secured = handshake.await.map_err(|_| Unreached::HandshakeTimeout)?.map_err(Unreached::Tls)?;
        if let Some(node) = node {
            is_of_node(secured.get_ref().1.peer_certificates().unwrap_or_default(), node)?;
        }
        Ok(Box::new(secured))
    }
}

/// Whether a certificate is that of a node's kubelet. Its authority has also certified this server and the other nodes, and a node says itself
/// where it is reached: with another's address it would have requests answered there that are sent with this server's rights.
fn is_of_node(shown: &[CertificateDer<'_>], node: &str) -> Result<(), Unreached> {
    let found = shown.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let found = found.as_ref().and_then(|(_, leaf)| leaf.subject().iter_common_name().next()?.as_str().ok());
    let wanted = format!("system:node:{node}");
    if found == Some(wanted.as_str()) {
        return Ok(());
    }
    Err(Unreached::Stranger { found: found.unwrap_or_default().to_owned(), wanted })
}

/// The answer to an upgrade: it is done, or refused; anything else makes no sense. Least of all a redirect, which a client would follow with what
/// it has sent here.
pub(crate) fn upgraded(response: Response<Body>) -> Result<Response<Body>, Status> {
    let code = response.status();
    if code != StatusCode::SWITCHING_PROTOCOLS && code.as_u16() < 400 {
        let why = format!("invalid upgrade response: status code {}", code.as_u16());
        return Err(Status::failure(500, kedge_meta::Reason::Unknown, why));
    }
    let mut response = response;
    if code != StatusCode::SWITCHING_PROTOCOLS {
        remove_hop_by_hop(response.headers_mut());
    }
    Ok(response)
}

async fn drive(connection: http1::Connection<TokioIo<Box<dyn Connection>>, Body>, slot: Arc<OwnedSemaphorePermit>) {
    if let Err(err) = connection.with_upgrades().await {
        debug!(error = %err, "connection to a backend ended");
    }
    drop(slot);
}

fn any_certificate() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate::new(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests;
