//! Connections: TCP, TLS over TCP, or a unix socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kedge_base::SharedClock;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint as TonicEndpoint, Uri};

use super::options::{Address, Endpoint, EtcdOptions};
use crate::error::Error;

/// Pings on a connection with open streams. etcd cuts connections that ping more often than every five seconds.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Where systems keep the authorities that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// A connection did not come about: a request that failed so was never sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {endpoint}: {what}")]
pub(super) struct DialError {
    endpoint: String,
    what: String,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a connection needs.
struct Dialer {
    endpoint: Endpoint,
    clock: SharedClock,
    timeout: Duration,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Dialer {
    async fn dial(&self) -> Result<TokioIo<Box<dyn Io>>, DialError> {
        let fail = |what: String| DialError { endpoint: self.endpoint.name.clone(), what };
        tokio::select! {
            io = self.connect() => io.map(TokioIo::new).map_err(|e| fail(e.to_string())),
            () = self.clock.sleep(self.timeout) => Err(fail(format!("no connection within {:?}", self.timeout))),
        }
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Io>> {
        let (host, port, tls) = match &self.endpoint.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port, tls } => (host, *port, *tls),
        };
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        if !tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
        let config = self.tls_config().map_err(std::io::Error::other)?;
        Ok(Box::new(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
    }

    fn tls_config(&self) -> Result<ClientConfig, Error> {
        let refuse = |e: rustls::Error| Error::Settings(e.to_string());
        let mut roots = RootCertStore::empty();
        for cert in certificates(&self.ca_file()?)? {
            roots.add(cert).map_err(refuse)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refuse)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((cert, key)) => {
                builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(refuse)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn ca_file(&self) -> Result<PathBuf, Error> {
        if let Some(ca) = &self.ca {
            return Ok(ca.clone());
        }
        let found = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|p| p.exists());
        found.ok_or_else(|| Error::Settings("no authority is given and the system has none".into()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) => Err(Error::Settings(format!("{}: no certificate in it", path.display()))),
        Err(e) => Err(Error::Settings(format!("{}: {e}", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| Error::Settings(format!("{}: {e}", path.display())))
}

/// A channel that connects when it is used, and again after a loss. Files of certificates are read once here, so that a
/// wrong path is known at start, and again for every connection.
pub(super) fn channel(endpoint: &Endpoint, options: &EtcdOptions, clock: &SharedClock) -> Result<Channel, Error> {
    let dialer = Arc::new(Dialer {
        endpoint: endpoint.clone(),
        clock: clock.clone(),
        timeout: options.dial_timeout,
        ca: options.ca.clone(),
        identity: options.cert.clone().zip(options.key.clone()),
    });
    if matches!(endpoint.address, Address::Tcp { tls: true, .. }) {
        dialer.tls_config()?;
    }
    let refuse = |e: &dyn std::fmt::Display| Error::Settings(format!("endpoint {:?}: {e}", endpoint.name));
    let builder = TonicEndpoint::from_shared(endpoint.origin())
        .map_err(|e| refuse(&e))?
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    Ok(builder.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.dial().await }
    })))
}
