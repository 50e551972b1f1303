//! Layer 0: the cluster's certificates, keys and kubeconfig files.
//!
//! Three certificate authorities (serving, clients, request headers) and one key for service account tokens, all ECDSA
//! P-256. Authorities and the token key never change by themselves ([`rotation`] replaces them); leaves are renewed before they run out, and when their
//! names no longer fit.
//!
//! Invariants: private keys are 0600 and are on disk before anything uses them; a file is replaced atomically.

mod ca;
mod credential;
mod error;
mod files;
pub mod inventory;
mod kubeconfig;
mod leaf;
mod request;
pub mod rotation;
pub mod shared;
mod sign;
mod usages;

pub use ca::Authority;
pub use credential::{Credential, UnusableLeaf};
pub use error::Error;
pub use files::{digest, write_atomically};
pub use kubeconfig::{Kubeconfig, Users};
pub use leaf::{KeptLeaf, Leaf, LeafRequest, Usage};
pub use request::{RequestError, SigningRequest, Subject};
pub use sign::SignError;
pub use usages::Usages;

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Years that an authority is valid.
const CA_DAYS: i64 = 3650;
/// Days that a leaf is valid.
const LEAF_DAYS: i64 = 365;
/// A leaf with fewer days left is renewed.
pub const RENEW_DAYS: i64 = 120;

/// The name by which extension API servers know the API server in front of them; its authority is `request_header_ca`.
pub const FRONT_PROXY: &str = "system:auth-proxy";

/// The authorities of a cluster and the key that signs service account tokens.
pub struct Pki {
    dir: PathBuf,
    pub server_ca: Arc<Authority>,
    pub client_ca: Arc<Authority>,
    pub request_header_ca: Arc<Authority>,
    /// PKCS#8 PEM, P-256. The first one signs, the others are believed too.
    pub service_account_key: String,
    /// The digests of files that gave way to those that there are.
    replaced: Vec<String>,
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
            service_account_key: ca::ensure_key(&dir.join(shared::SERVICE_KEY))?,
            replaced: shared::replaced(dir)?,
            dir: dir.to_owned(),
        })
    }

    /// Whether a file with this digest is that of the authority of servers, or of one before it.
    pub fn knows_server_ca(&self, sha256: &str) -> bool {
        digest(&self.server_ca.certificate) == sha256 || self.replaced.iter().any(|line| line == sha256)
    }

    fn leaf(&self, file: &str, authority: &Arc<Authority>, request: LeafRequest) -> KeptLeaf {
        KeptLeaf { dir: self.dir.clone(), file: file.to_owned(), authority: authority.clone(), request }
    }

    /// A serving certificate under `file`.
    pub fn serving_leaf(&self, file: &str, request: LeafRequest) -> KeptLeaf {
        self.leaf(file, &self.server_ca, request)
    }

    /// The same, issued.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn serving(&self, file: &str, request: &LeafRequest, now: time::OffsetDateTime) -> Result<Leaf, Error> {
        self.serving_leaf(file, request.clone()).ensure(now)
    }

    /// The certificate of those who may read and write the store itself, under `etcd-client`: of an authority of its own,
    /// `etcd-client-ca`, so that no certificate of the API opens the store.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn store_client_leaf(&self, now: time::OffsetDateTime) -> Result<KeptLeaf, Error> {
        let name = format!("kedge-etcd-client-ca@{}", now.unix_timestamp());
        let authority = Arc::new(Authority::ensure(&self.dir, "etcd-client-ca", &name, now)?);
        Ok(self.leaf("etcd-client", &authority, client_request("kedge-etcd-client", None)))
    }

    /// The certificate by which extension API servers know the API server in front of them, under `client-auth-proxy`.
    pub fn front_proxy_leaf(&self) -> KeptLeaf {
        self.leaf("client-auth-proxy", &self.request_header_ca, client_request(FRONT_PROXY, None))
    }

    /// The same, issued.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn front_proxy(&self, now: time::OffsetDateTime) -> Result<Leaf, Error> {
        self.front_proxy_leaf().ensure(now)
    }

    /// A client certificate under `file` for a user with groups; at most one group.
    pub fn client_leaf(&self, file: &str, user: &str, group: Option<&str>) -> KeptLeaf {
        self.leaf(file, &self.client_ca, client_request(user, group))
    }

    /// The same, issued.
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
        self.client_leaf(file, user, group).ensure(now)
    }
}

fn client_request(user: &str, group: Option<&str>) -> LeafRequest {
    LeafRequest {
        common_name: user.to_owned(),
        organization: group.map(str::to_owned),
        names: Vec::new(),
        usage: Usage::Client,
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
        assert_eq!(renewed.renewed_at(), (later + Duration::days(LEAF_DAYS - RENEW_DAYS)).unix_timestamp());
    }

    /// A power cut between the two files once left what no server could start with.
    #[test]
    fn a_leaf_of_another_key_is_issued_anew() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let pki = Pki::open(dir.path(), now).unwrap();
        let (a, b) = (pki.client("a", "a", None, now).unwrap(), pki.client("b", "b", None, now).unwrap());
        std::fs::write(dir.path().join("a.key"), &b.key).unwrap();
        let repaired = pki.client("a", "a", None, now).unwrap();
        assert!(repaired.key != a.key && repaired.key != b.key);
        Credential::new(&repaired).unwrap();
        let by_a_slow_clock = pki.client("a", "a", None, now - Duration::days(9_000)).unwrap();
        assert_eq!(by_a_slow_clock.certificate, repaired.certificate);
    }
}
