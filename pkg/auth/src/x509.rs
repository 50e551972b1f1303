//! Client certificates: common name is the user, organizations are the groups.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kedge_meta::UserInfo;
use rustls::DistinguishedName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Error};

use crate::authenticator::{Unauthenticated, authenticated};
use crate::shown::{Found, Shown};

/// Checks certificates against the cluster's client authority.
pub struct CertificateAuthenticator {
    verifier: Arc<dyn ClientCertVerifier>,
    /// By which verdicts are known; authorities that are read anew get another.
    number: u64,
}

impl CertificateAuthenticator {
    /// Trusts the authorities in `pem`.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn new(pem: &str) -> Result<Self, Unauthenticated> {
        let bad = |e: &dyn std::fmt::Display| Unauthenticated::Certificate(e.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { verifier: builder.build().map_err(|e| bad(&e))?, number })
    }

    /// The user that what a client showed stands for.
    pub(crate) fn authenticate(&self, shown: &Shown, now: i64) -> Result<UserInfo, Unauthenticated> {
        shown.judged(self.number, now, |chain| self.find(chain, now))
    }

    fn find(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<Found, Unauthenticated> {
        let bad = |text: String| Unauthenticated::Certificate(text);
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(bad("there is none".into())) };
        let seconds = u64::try_from(now).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.verifier.verify_client_cert(leaf, intermediates, now).map_err(|e| bad(e.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| bad(e.to_string()))?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next().and_then(|a| a.as_str().ok()).unwrap_or_default();
        if name.is_empty() {
            return Err(bad("its subject has no common name".into()));
        }
        let groups = subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect();
        let mut user = authenticated(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() });
        user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![credential_id(leaf)]);
        let valid = validity(chain).map_err(|e| bad(e.to_string()))?;
        Ok(Found { user, valid })
    }
}

/// When all certificates of a chain are valid, also those that it might do without.
fn validity(chain: &[CertificateDer<'_>]) -> Result<RangeInclusive<i64>, x509_parser::nom::Err<X509Error>> {
    let (mut from, mut until) = (i64::MIN, i64::MAX);
    for certificate in chain {
        let (_, parsed) = X509Certificate::from_der(certificate)?;
        from = from.max(parsed.validity().not_before.timestamp());
        until = until.min(parsed.validity().not_after.timestamp());
    }
    Ok(from..=until)
}

/// What names a certificate in audits and in requests for certificates.
fn credential_id(leaf: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X509SHA256={hex}")
}

/// Lets every client certificate through the handshake whose key the client holds. Whose certificate it is, is judged
/// a layer above, so that a wrong one gets an answer and not a broken connection.
#[derive(Debug)]
pub struct AnyClientCertificate {
    provider: Arc<CryptoProvider>,
    issuers: Vec<DistinguishedName>,
}

impl AnyClientCertificate {
    /// With the signature algorithms of a provider. Clients with several certificates are told the issuers that are known, and
    /// choose by that: browsers ask their user only about those.
    pub fn new(provider: Arc<CryptoProvider>, issuers: Vec<DistinguishedName>) -> Self {
        Self { provider, issuers }
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.issuers
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_certificates_of_the_client_authority_count() {
        let dir = tempfile::tempdir().unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let pki = kedge_certs::Pki::open(dir.path(), now).unwrap();
        let ours = pki.client("admin", "system:admin", Some("system:masters"), now).unwrap();
        let authenticator = CertificateAuthenticator::new(&pki.client_ca.certificate).unwrap();
        let chain = CertificateDer::pem_slice_iter(ours.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let chain = Shown::new(chain);
        let user = authenticator.authenticate(&chain, 1_800_000_000).unwrap();
        assert_eq!((user.name.as_str(), user.in_group("system:masters")), ("system:admin", true));
        let id = &user.extra["authentication.kubernetes.io/credential-id"];
        let digest = id[0].strip_prefix("X509SHA256=").unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{digest}");
        assert_eq!(authenticator.authenticate(&chain, 1_800_000_001).unwrap(), user, "as it was found before");
        assert!(authenticator.authenticate(&chain, 1_900_000_000).is_err(), "it has run out");
        let stranger = CertificateAuthenticator::new(&pki.server_ca.certificate).unwrap();
        assert!(stranger.authenticate(&chain, 1_800_000_000).is_err());
    }
}
