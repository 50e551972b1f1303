//! The part of a kubeconfig file that says how to reach a cluster, and as whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use rustls::ConfigBuilder;
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// Server, trust and identity. Certificates and keys are PEM.
#[derive(Debug, Clone, Default)]
pub struct ClusterAccess {
    /// Such as `https://127.0.0.1:6443`.
    pub server: String,
    pub certificate_authority: Vec<u8>,
    pub client_certificate: Vec<u8>,
    pub client_key: Vec<u8>,
    pub token: Option<String>,
    /// Whether the server may show any certificate. Those who ask webhooks heed it; to the API itself nobody is connected so.
    pub insecure: bool,
}

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no kubeconfig")]
    Parse { path: PathBuf, source: serde_yaml::Error },
    #[error("{path}: {what}")]
    Missing { path: PathBuf, what: String },
    #[error("invalid {what}: {detail}")]
    Invalid { what: &'static str, detail: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(default)]
    certificate_authority_data: String,
    certificate_authority: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate_data: String,
    client_key_data: String,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    /// Nobody, where it is not said.
    #[serde(default)]
    user: String,
}

impl ClusterAccess {
    /// Reads the current context of a kubeconfig file.
    ///
    /// # Errors
    /// When the file or a file that it names cannot be read, or names something that is not in it.
    pub fn from_file(path: &Path) -> Result<Self, KubeconfigError> {
        Self::from_text(&read(path)?, path)
    }

    /// Reads the current context of what stands, or would stand, at `path`: files that it names are looked for from there.
    ///
    /// # Errors
    /// As [`ClusterAccess::from_file`].
    pub fn from_text(text: &[u8], path: &Path) -> Result<Self, KubeconfigError> {
        let file: File =
            serde_yaml::from_slice(text).map_err(|source| KubeconfigError::Parse { path: path.to_owned(), source })?;
        let missing = |what: &str| KubeconfigError::Missing { path: path.to_owned(), what: what.to_owned() };
        let context = pick(&file.contexts, &file.current_context).ok_or_else(|| missing("no current context"))?;
        let cluster =
            pick(&file.clusters, &context.cluster).ok_or_else(|| missing("the context's cluster is missing"))?;
        let user = match context.user.as_str() {
            "" => User::default(),
            name => pick(&file.users, name).cloned().ok_or_else(|| missing("the context's user is missing"))?,
        };
        let base = path.parent().unwrap_or(Path::new("."));
        Ok(Self {
            server: cluster.server.clone(),
            certificate_authority: data_or_file(
                &cluster.certificate_authority_data,
                cluster.certificate_authority.as_deref(),
                base,
            )?,
            client_certificate: data_or_file(&user.client_certificate_data, user.client_certificate.as_deref(), base)?,
            client_key: data_or_file(&user.client_key_data, user.client_key.as_deref(), base)?,
            token: user.token,
            insecure: cluster.insecure_skip_tls_verify,
        })
    }

    pub(crate) fn server_uri(&self) -> Result<Uri, KubeconfigError> {
        let invalid = |detail: String| KubeconfigError::Invalid { what: "server address", detail };
        let uri: Uri = self.server.parse().map_err(|e: http::uri::InvalidUri| invalid(e.to_string()))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid(format!("{} must begin with https://", self.server)));
        }
        Ok(uri)
    }

    /// The `Authorization` header of whoever has a token.
    ///
    /// # Errors
    /// When the token has characters that none has.
    pub fn bearer_header(&self) -> Result<Option<HeaderValue>, KubeconfigError> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| KubeconfigError::Invalid {
            what: "token",
            detail: "it has characters that no token has".into(),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The TLS side of this access; offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When a certificate or key cannot be used.
    pub fn tls_config(&self) -> Result<rustls::ClientConfig, KubeconfigError> {
        let builder = self.trusting()?;
        if self.client_certificate.is_empty() {
            return Ok(offering_http(builder.with_no_client_auth()));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.client_certificate).collect();
        let chain = chain.map_err(|e| invalid("client-certificate", &e))?;
        let key = PrivateKeyDer::from_pem_slice(&self.client_key).map_err(|e| invalid("client-key", &e))?;
        let config = builder.with_client_auth_cert(chain, key).map_err(|e| invalid("client-certificate", &e))?;
        Ok(offering_http(config))
    }

    /// The same with an identity that may change, instead of certificate and key.
    ///
    /// # Errors
    /// When the authority cannot be used.
    pub fn tls_config_as(&self, who: Arc<dyn ResolvesClientCert>) -> Result<rustls::ClientConfig, KubeconfigError> {
        Ok(offering_http(self.trusting()?.with_client_cert_resolver(who)))
    }

    fn trusting(&self) -> Result<ConfigBuilder<rustls::ClientConfig, WantsClientCert>, KubeconfigError> {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&self.certificate_authority) {
            let cert = cert.map_err(|e| invalid("certificate-authority", &e))?;
            roots.add(cert).map_err(|e| invalid("certificate-authority", &e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| invalid("TLS versions", &e))?;
        Ok(builder.with_root_certificates(roots))
    }
}

fn invalid(what: &'static str, why: &dyn std::fmt::Display) -> KubeconfigError {
    KubeconfigError::Invalid { what, detail: why.to_string() }
}

fn offering_http(mut config: rustls::ClientConfig) -> rustls::ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

fn pick<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|n| n.name == name).map(|n| &n.value)
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    std::fs::read(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })
}

fn data_or_file(data: &str, file: Option<&Path>, base: &Path) -> Result<Vec<u8>, KubeconfigError> {
    match (data.is_empty(), file) {
        (false, _) => {
            STANDARD.decode(data).map_err(|e| KubeconfigError::Invalid { what: "base64 data", detail: e.to_string() })
        }
        (true, Some(path)) => read(&base.join(path)),
        (true, None) => Ok(Vec::new()),
    }
}
