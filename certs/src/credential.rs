//! What TLS shows of who one is, replaced while it is used.
//!
//! Invariant: what is shown is always one certificate with its own key; connections that are open keep what they began with.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::leaf::Leaf;

/// A certificate with its authorities and its key, for servers and for clients.
#[derive(Debug)]
pub struct Credential(RwLock<Arc<CertifiedKey>>);

/// A certificate or key that TLS cannot use.
#[derive(Debug, thiserror::Error)]
pub enum UnusableLeaf {
    #[error("it cannot be read: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("it cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Credential {
    /// Shows a leaf.
    ///
    /// # Errors
    /// When it cannot be used, or the key is another one's.
    pub fn new(leaf: &Leaf) -> Result<Self, UnusableLeaf> {
        Ok(Self(RwLock::new(certified(leaf)?)))
    }

    /// Shows another leaf from now on.
    ///
    /// # Errors
    /// As [`Credential::new`]; then the one before is still shown.
    pub fn replace(&self, leaf: &Leaf) -> Result<(), UnusableLeaf> {
        let new = certified(leaf)?;
        *self.0.write() = new;
        Ok(())
    }
}

fn certified(leaf: &Leaf) -> Result<Arc<CertifiedKey>, UnusableLeaf> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for Credential {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ResolvesClientCert for Credential {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_a_pair_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let pki = crate::Pki::open(dir.path(), now).unwrap();
        let (one, two) = (pki.client("a", "a", None, now).unwrap(), pki.client("b", "b", None, now).unwrap());
        let credential = Credential::new(&one).unwrap();
        let shown = || credential.0.read().cert[0].clone();
        let first = shown();
        let mixed = Leaf { certificate: two.certificate.clone(), key: one.key.clone() };
        assert!(credential.replace(&mixed).is_err());
        assert_eq!(shown(), first, "the one before");
        credential.replace(&two).unwrap();
        assert_ne!(shown(), first);
        assert!(!format!("{credential:?}").contains("PRIVATE"));
    }
}
