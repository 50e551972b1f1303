//! Layer 0: the cluster's certificates, keys and kubeconfig files.
//!
//! Three certificate authorities (serving, clients, request headers) and one key for service account tokens, all ECDSA
//! P-256. Authorities and the token key never change by themselves; leaves are renewed when they run out or when their
//! names no longer fit.
//!
//! Invariants: private keys are 0600 and are on disk before anything uses them; a file is replaced atomically.

mod ca;
mod error;
mod files;
mod kubeconfig;
mod leaf;
mod request;
pub mod shared;
mod sign;

pub use ca::Authority;
pub use error::Error;
pub use files::write_atomically;
pub use kubeconfig::{Kubeconfig, Users};
pub use leaf::{Leaf, LeafRequest, Usage, ensure_leaf};
pub use request::{RequestError, SigningRequest, Subject};
pub use sign::{SignError, Usages};

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Years that an authority is valid.
const CA_DAYS: i64 = 3650;
/// Days that a leaf is valid.
const LEAF_DAYS: i64 = 365;
/// A leaf with fewer days left is renewed.
const RENEW_DAYS: i64 = 120;

/// The name by which extension API servers know the API server in front of them; its authority is `request_header_ca`.
pub const FRONT_PROXY: &str = "system:auth-proxy";

/// The authorities of a cluster and the key that signs service account tokens.
pub struct Pki {
    dir: PathBuf,
    pub server_ca: Arc<Authority>,
    pub client_ca: Arc<Authority>,
    pub request_header_ca: Arc<Authority>,
    /// PKCS#8 PEM, P-256.
    pub service_account_key: String,
}

impl Pki {
    /// Loads what is in `dir` and makes what is missing.
    ///
    /// # Errors
    /// When a file cannot be read, written or understood.
    pub fn open(dir: &Path, now: time::OffsetDateTime) -> Result<Self, Error> {
        files::create_private_dir(dir)?;
        let stamp = now.unix_timestamp();
        let authority = |file: &str, name: &str| {
            let name = format!("kedge-{name}-ca@{stamp}");
            Authority::ensure(dir, file, &name, now).map(Arc::new)
        };
        Ok(Self {
            server_ca: authority("server-ca", "server")?,
            client_ca: authority("client-ca", "client")?,
            request_header_ca: authority("request-header-ca", "request-header")?,
            service_account_key: ca::ensure_key(&dir.join("service.key"))?,
            dir: dir.to_owned(),
        })
    }

    /// A serving certificate under `file`.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn serving(&self, file: &str, request: &LeafRequest, now: time::OffsetDateTime) -> Result<Leaf, Error> {
        ensure_leaf(&self.dir, file, &self.server_ca, request, now)
    }

    /// The certificate of those who may read and write the store itself, under `etcd-client`: of an authority of its own,
    /// `etcd-client-ca`, so that no certificate of the API opens the store.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn store_client(&self, now: time::OffsetDateTime) -> Result<Leaf, Error> {
        let name = format!("kedge-etcd-client-ca@{}", now.unix_timestamp());
        let authority = Authority::ensure(&self.dir, "etcd-client-ca", &name, now)?;
        let request = LeafRequest {
            common_name: "kedge-etcd-client".to_owned(),
            organization: None,
            names: Vec::new(),
            usage: Usage::Client,
        };
        ensure_leaf(&self.dir, "etcd-client", &authority, &request, now)
    }

    /// The certificate by which extension API servers know the API server in front of them, under `client-auth-proxy`.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn front_proxy(&self, now: time::OffsetDateTime) -> Result<Leaf, Error> {
        let request = LeafRequest {
            common_name: FRONT_PROXY.to_owned(),
            organization: None,
            names: Vec::new(),
            usage: Usage::Client,
        };
        ensure_leaf(&self.dir, "client-auth-proxy", &self.request_header_ca, &request, now)
    }

    /// A client certificate under `file` for a user with groups; at most one group.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn client(
        &self,
        file: &str,
        user: &str,
        group: Option<&str>,
        now: time::OffsetDateTime,
    ) -> Result<Leaf, Error> {
        let request = LeafRequest {
            common_name: user.to_owned(),
            organization: group.map(str::to_owned),
            names: Vec::new(),
            usage: Usage::Client,
        };
        ensure_leaf(&self.dir, file, &self.client_ca, &request, now)
    }
}

/// When the first certificate of a text in PEM runs out, in seconds; none when it cannot be read.
pub fn not_after(pem: &[u8]) -> Option<i64> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(block.parse_x509().ok()?.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use time::{Duration, OffsetDateTime};

    fn request(names: &[&str]) -> LeafRequest {
        LeafRequest {
            common_name: "kube-apiserver".into(),
            organization: None,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            usage: Usage::Server,
        }
    }

    #[test]
    fn everything_is_stable_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let first = Pki::open(dir.path(), now).unwrap();
        let leaf = first.serving("serving", &request(&["localhost", "127.0.0.1"]), now).unwrap();
        let second = Pki::open(dir.path(), now + Duration::days(30)).unwrap();
        assert_eq!(first.server_ca.certificate, second.server_ca.certificate);
        assert_eq!(first.service_account_key, second.service_account_key);
        let same = second.serving("serving", &request(&["127.0.0.1", "localhost"]), now + Duration::days(30)).unwrap();
        assert_eq!(leaf.certificate, same.certificate);
        let mode = std::fs::metadata(dir.path().join("serving.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_leaf_is_renewed_near_its_end_and_when_its_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let pki = Pki::open(dir.path(), now).unwrap();
        let first = pki.serving("serving", &request(&["a"]), now).unwrap();
        let renamed = pki.serving("serving", &request(&["a", "10.0.0.1"]), now).unwrap();
        assert_ne!(first.certificate, renamed.certificate);
        let later = now + Duration::days(LEAF_DAYS - RENEW_DAYS + 1);
        let renewed = pki.serving("serving", &request(&["a", "10.0.0.1"]), later).unwrap();
        assert_ne!(renamed.certificate, renewed.certificate);
    }
}
