//! TLS with a webhook.

use std::io;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::{AlertDescription, ClientConfig as TlsConfig, Error, InvalidMessage};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsConnector;

use crate::error::Failure;
use crate::trust::{AnyCertificate, Trust};

/// Who this server says it is, to those who want to know; it may say something else for later connections.
pub type Identity = Arc<dyn ResolvesClientCert>;

/// Whom a server must be certified by.
pub(crate) enum Trusted {
    Roots(Vec<CertificateDer<'static>>),
    Anybody,
}

/// Speaks TLS with those who are trusted. HTTP/2 is offered to what runs on this host only, as upstream does: connections to
/// a service are to be spread over those who serve it.
///
/// # Errors
/// Those of the cryptography.
pub(crate) fn connector(trusted: Trusted, http2: bool, identity: Option<&Identity>) -> Result<TlsConnector, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trusted {
        Trusted::Roots(roots) => Arc::new(Trust::new(roots, provider.clone())),
        Trusted::Anybody => Arc::new(AnyCertificate::new(provider.clone())),
    };
    let config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => config.with_client_cert_resolver(identity.clone()),
    };
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What Go says of a handshake that failed.
pub(crate) fn words(err: &io::Error) -> Failure {
    let tls = err.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    Failure::Handshake(match tls {
        Some(Error::General(text)) if text.starts_with("x509: ") => {
            format!("tls: failed to verify certificate: {text}")
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure)) => {
            "remote error: tls: handshake failure".to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::InternalError)) => "remote error: tls: internal error".to_owned(),
        Some(Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(other) => format!("tls: {other}"),
        None => return ended(err),
    })
}

/// What Go says of a connection that ends before its time.
pub(crate) fn ended(err: &io::Error) -> Failure {
    match err.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Eof,
        io::ErrorKind::ConnectionReset => Failure::Handshake("read: connection reset by peer".to_owned()),
        _ => Failure::Handshake(err.to_string()),
    }
}
