//! Servers in front of this one, which have found out who asks: they are believed when they show a certificate of an authority that certifies nobody else.

use crate::authenticator::Unauthenticated;
use crate::shown::Shown;
use crate::x509::CertificateAuthenticator;

/// Who may say who asks.
pub struct FrontProxy {
    certificates: CertificateAuthenticator,
    /// Their common names; anyone of the authority, if there are none.
    allowed: Vec<String>,
}

impl FrontProxy {
    /// Whom the authorities in `pem` certify under one of these names.
    ///
    /// # Errors
    /// When there is no authority in it.
    pub fn new(pem: &str, allowed: &[&str]) -> Result<Self, Unauthenticated> {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        Ok(Self { certificates: CertificateAuthenticator::new(pem)?, allowed })
    }

    /// Whether a client is one of them.
    pub(crate) fn is_shown(&self, shown: &Shown, now: i64) -> bool {
        let known = self.certificates.authenticate(shown, now);
        known.is_ok_and(|user| self.allowed.is_empty() || self.allowed.contains(&user.name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn only_the_allowed_names_of_the_authority_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let pki = kedge_certs::Pki::open(dir.path(), now).unwrap();
        let chain = |leaf: kedge_certs::Leaf| {
            Shown::new(CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>().unwrap())
        };
        let front = |allowed: &[&str]| FrontProxy::new(&pki.request_header_ca.certificate, allowed).unwrap();
        let own = chain(pki.front_proxy(now).unwrap());
        let other = chain(pki.client("x", kedge_certs::FRONT_PROXY, None, now).unwrap());
        assert!(front(&[kedge_certs::FRONT_PROXY]).is_shown(&own, 1_800_000_000));
        assert!(front(&[]).is_shown(&own, 1_800_000_000));
        assert!(!front(&["somebody"]).is_shown(&own, 1_800_000_000));
        assert!(!front(&[]).is_shown(&other, 1_800_000_000), "of the authority of clients");
        assert!(!front(&[]).is_shown(&own, 1_900_000_000), "it has run out");
        assert!(!front(&[]).is_shown(&Shown::default(), 1_800_000_000));
    }
}
