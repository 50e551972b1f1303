//! Where the API is served: a unix socket of this user, or TLS with client certificates. Never plain TCP.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, UnixListener};

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{0:?}: the etcd API is served on unix:///path or https://address:port")]
    Endpoint(String),
    #[error("https needs a certificate, its key, and the authority of the clients")]
    NoTls,
    #[error("{what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path}: {what}")]
    Tls { path: PathBuf, what: String },
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: std::io::Error },
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
pub struct ServingTls {
    /// The serving certificate, which may be another for later connections.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// A PEM file of authorities whose client certificates are let in.
    pub client_ca: PathBuf,
}

/// An open listener.
pub struct Listen(pub(crate) Listener);

pub(crate) enum Listener {
    Unix { listener: UnixListener, path: PathBuf },
    Tls { listener: TcpListener, config: Arc<ServerConfig> },
}

impl Listen {
    /// Opens `unix:///path` (mode 0600, replacing a socket that nobody serves) or `https://address:port`.
    ///
    /// # Errors
    /// [`ListenError`], also when another process serves the socket.
    pub async fn open(endpoint: &str, tls: Option<&ServingTls>) -> Result<Self, ListenError> {
        if let Some(path) = endpoint.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self(unix(Path::new(path)).await?));
        }
        let address = endpoint.strip_prefix("https://").and_then(|address| address.parse::<SocketAddr>().ok());
        let address = address.ok_or_else(|| ListenError::Endpoint(endpoint.to_owned()))?;
        let config = Arc::new(server_config(tls.ok_or(ListenError::NoTls)?)?);
        let bind = |source| ListenError::Bind { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        Ok(Self(Listener::Tls { listener, config }))
    }

    /// The TCP address, if it is one; with the port that was given for port 0.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Listener::Unix { .. } => None,
            Listener::Tls { listener, .. } => listener.local_addr().ok(),
        }
    }
}

async fn unix(path: &Path) -> Result<Listener, ListenError> {
    let bind = |source| ListenError::Bind { address: path.display().to_string(), source };
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(bind(std::io::Error::from(std::io::ErrorKind::AddrInUse)));
    }
    let file = |what| move |source| ListenError::File { what, path: path.to_owned(), source };
    // Only what an earlier server left is replaced: the path may be a mistake.
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(file("cannot listen on")(std::io::Error::other("something that is no socket is there"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("cannot look at")(error)),
    }
    // The socket gets its name only when its mode is set, so that nobody else can connect in between.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{:04x}", kedge_base::random::u64() as u16));
    let listener = UnixListener::bind(&hidden).map_err(bind)?;
    let named = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&hidden, path));
    if let Err(source) = named {
        // It would be left behind under a name that nobody knows.
        let _ = std::fs::remove_file(&hidden);
        return Err(file("cannot name")(source));
    }
    Ok(Listener::Unix { listener, path: path.to_owned() })
}

fn server_config(tls: &ServingTls) -> Result<ServerConfig, ListenError> {
    let refuse = |what: String| ListenError::Tls { path: tls.client_ca.clone(), what };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for cert in certificates(&tls.client_ca)? {
        roots.add(cert).map_err(|e| refuse(e.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| refuse(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| refuse(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(tls.certificate.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, ListenError> {
    std::fs::read(path).map_err(|source| ListenError::File { what: "cannot read", path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let refuse = |what: String| ListenError::Tls { path: path.to_owned(), what };
    match found {
        Ok(certs) if certs.is_empty() => Err(refuse("no certificate in it".into())),
        Ok(certs) => Ok(certs),
        Err(error) => Err(refuse(error.to_string())),
    }
}
