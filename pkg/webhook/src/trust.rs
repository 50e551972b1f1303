//! Who is trusted to be a webhook.
//!
//! A certificate is looked at in Go's order: when it is valid, for whom, and who has certified it; what is wrong is said in
//! Go's words. As in Go, a certificate that is itself in the bundle is trusted, whatever it says of authorities.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use kedge_base::time::rfc3339;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::config::ConfigError;

/// Where systems keep whom they trust, as Go looks for it.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates of a bundle; those that cannot be read are left out, as long as there are others.
///
/// # Errors
/// When there is none.
pub(crate) fn bundle(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let (mut roots, mut why) = (Vec::new(), None);
    let mut blocks = 0;
    for block in CertificateDer::pem_slice_iter(pem) {
        blocks += 1;
        match block {
            Ok(der) => match X509Certificate::from_der(&der) {
                Ok(_) => roots.push(der),
                Err(err) => why = why.or(Some(format!("failed to parse certificate: {err}"))),
            },
            Err(pem::Error::NoItemsFound) => {}
            Err(_) => why = why.or(Some("unable to parse bytes as PEM block".to_owned())),
        }
    }
    if !roots.is_empty() {
        return Ok(roots);
    }
    let nothing =
        if blocks == 0 { "unable to parse bytes as PEM block" } else { "no valid certificate authority data seen" };
    Err(ConfigError::Roots(why.unwrap_or_else(|| nothing.to_owned())))
}

/// Whom the system trusts: nobody, where it does not say. Reads files.
pub(crate) fn system() -> Vec<CertificateDer<'static>> {
    let read = SYSTEM.iter().find_map(|path| std::fs::read(path).ok());
    read.and_then(|pem| bundle(&pem).ok()).unwrap_or_default()
}

/// Trusts a set of certificates.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: Vec<CertificateDer<'static>>,
    /// None where nobody is trusted.
    chains: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    pub(crate) fn new(roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build().ok();
        Self { roots, chains, provider }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (_, read) = X509Certificate::from_der(leaf).map_err(|err| said(&err.to_string()))?;
        check_time(&read, now)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        if verify_server_name(&parsed, name).is_err() {
            return Err(said(&misnamed(&read, name)));
        }
        if self.roots.iter().any(|root| root == leaf) {
            return Ok(ServerCertVerified::assertion());
        }
        let unknown = || said("certificate signed by unknown authority");
        let Some(chains) = &self.chains else { return Err(unknown()) };
        chains.verify_server_cert(leaf, intermediates, name, ocsp, now).map_err(|err| match err {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => unknown(),
            Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string().contains("EndEntity") => {
                unknown()
            }
            Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => said("certificate specifies an incompatible key usage"),
            Error::InvalidCertificate(other) => said(&other.to_string()),
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts a server whoever has certified it; that it has the key of its certificate is still made sure.
#[derive(Debug)]
pub struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    /// With the algorithms of a provider.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A failure in Go's words; see [`crate::tls::words`], which reads it again.
fn said(what: &str) -> Error {
    Error::General(format!("x509: {what}"))
}

fn check_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let text = |seconds| Timestamp::from_second(seconds).map(rfc3339).unwrap_or_default();
    let (side, limit) = match now {
        now if now < from => ("before", from),
        now if now > until => ("after", until),
        _ => return Ok(()),
    };
    let (now, limit) = (text(now), text(limit));
    Err(said(&format!("certificate has expired or is not yet valid: current time {now} is {side} {limit}")))
}

/// What Go says of a certificate that is for somebody else.
fn misnamed(certificate: &X509Certificate<'_>, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    let names = certificate.subject_alternative_name().ok().flatten();
    let Some(names) = names else {
        let common = certificate.subject().iter_common_name().next().and_then(|common| common.as_str().ok());
        if common == Some(&*name) {
            return "certificate relies on legacy Common Name field, use SANs instead".to_owned();
        }
        return nobody(&name, name.parse::<IpAddr>().is_ok());
    };
    let is_address = name.parse::<IpAddr>().is_ok();
    let valid: Vec<String> = names.value.general_names.iter().filter_map(|one| shown(one, is_address)).collect();
    if valid.is_empty() {
        return nobody(&name, is_address);
    }
    format!("certificate is valid for {}, not {name}", valid.join(", "))
}

fn nobody(name: &str, is_address: bool) -> String {
    if is_address {
        return format!("cannot validate certificate for {name} because it doesn't contain any IP SANs");
    }
    format!("certificate is not valid for any names, but wanted to match {name}")
}

/// An address, or a name.
fn shown(name: &GeneralName<'_>, address: bool) -> Option<String> {
    match name {
        GeneralName::DNSName(name) if !address => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) if address => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
