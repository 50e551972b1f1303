//! The API server of this process, and its certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kedge_admission::{AdmissionConfiguration, Chain, ImagePolicySettings, Selection, ServiceEndpoints};
use kedge_apiserver::{ApiServer, Config, KubeletAccess, OwnPaths, Readiness, serve};
use kedge_auth::{
    Authenticator, BoundStores, CertificateAuthenticator, Connect as _, FrontProxy, NodeAuthorizer, NodeRelations,
    PublicKey, RbacAuthorizer, TokenError, TokenSigner,
};
use kedge_base::net::DirectDialer;
use kedge_base::{SharedClock, TaskGroup};
use kedge_certs::{Credential, LeafRequest, Pki, Usage};
use kedge_client::ClusterAccess;
use kedge_registry::Registry;
use kedge_registry::subresources::token::Limits;
use kedge_storage::{ResourceStore, Storage};
use kedge_webhook::{Caller, Settings};
use rustls::ServerConfig as TlsConfig;
use tracing::warn;

use crate::auditing::auditing;
use crate::authorization::{Own, authorizers};
use crate::config::{ServerConfig, TokenSettings};
use crate::error::Error;
use crate::image_policy::Reviewer;
use crate::issuers::{AuthenticationConfig, believed};
use crate::renewal::Renewal;
use crate::reviewers::Kubeconfigs;
use crate::secret_tokens::NotedUses;

fn store(storage: &Storage, prefix: &str) -> Result<ResourceStore, Error> {
    storage.resource(prefix).ok_or_else(|| Error::Authentication(format!("the store has no {prefix}")))
}

/// What an API server is put together from.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a ServerConfig,
    pub(crate) pki: &'a Pki,
    pub(crate) renewal: &'a Renewal,
    pub(crate) storage: &'a Storage,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) webhooks: &'a Arc<Caller>,
    pub(crate) others: &'a Arc<Caller>,
    pub(crate) clock: &'a SharedClock,
    pub(crate) tasks: &'a TaskGroup,
    pub(crate) readiness: Readiness,
    pub(crate) own: Arc<dyn OwnPaths>,
}

/// Who calls webhooks.
pub(crate) fn webhooks(registry: &Arc<Registry>, tasks: &TaskGroup, clock: &SharedClock) -> Arc<Caller> {
    Arc::new(Caller::new(Settings {
        services: Arc::new(ServiceEndpoints(registry.clone())),
        dialer: Arc::new(DirectDialer),
        tasks: tasks.child("webhook connections"),
        clock: clock.clone(),
    }))
}

/// Who reaches servers that serve other group versions, and says to them who it is.
pub(crate) fn others(
    identity: &Arc<Credential>,
    registry: &Arc<Registry>,
    tasks: &TaskGroup,
    clock: &SharedClock,
) -> Arc<Caller> {
    let caller = Caller::new(Settings {
        services: Arc::new(ServiceEndpoints(registry.clone())),
        dialer: Arc::new(DirectDialer),
        tasks: tasks.child("connections to other API servers"),
        clock: clock.clone(),
    });
    Arc::new(caller.with_identity(identity.clone()))
}

/// The API server: who may come in, what they may do, and where it is kept.
pub(crate) fn api_server(parts: Parts<'_>) -> Result<Arc<ApiServer>, Error> {
    let Parts { config, pki, renewal, storage, registry, webhooks, others, clock, tasks, readiness, own: paths } =
        parts;
    let rbac = Arc::new(RbacAuthorizer::new(
        store(storage, "roles")?,
        store(storage, "rolebindings")?,
        store(storage, "clusterroles")?,
        store(storage, "clusterrolebindings")?,
    ));
    let nodes = Arc::new(NodeAuthorizer::new(NodeRelations {
        pods: store(storage, "pods")?,
        volumes: store(storage, "persistentvolumes")?,
        attachments: store(storage, "volumeattachments")?,
        slices: store(storage, "resourceslices")?,
    }));
    let failed = |e: &dyn std::fmt::Display| Error::Authentication(e.to_string());
    let signer = token_signer(config, pki, storage)?;
    let certificates = CertificateAuthenticator::new(&pki.client_ca.certificate).map_err(|e| failed(&e))?;
    let front = FrontProxy::new(&pki.request_header_ca.certificate, &[kedge_certs::FRONT_PROXY]);
    let front = front.map_err(|e| failed(&e))?;
    let masters = Some(kedge_auth::MASTERS);
    let identity = renewal.credential(pki.client_leaf("client-kube-apiserver", "system:kube-apiserver", masters))?;
    let access = ClusterAccess {
        certificate_authority: pki.server_ca.certificate.clone().into_bytes(),
        ..ClusterAccess::default()
    };
    let mut kubelet_tls = access.tls_config_as(identity).map_err(|e| Error::Tls(e.to_string()))?;
    // Upgrades need HTTP/1.1.
    kubelet_tls.alpn_protocols.clear();
    let kubelets = KubeletAccess::new(Arc::new(kubelet_tls), tasks.child("kubelet connections"));
    let kubelets = kubelets.map_err(|e| Error::Tls(e.to_string()))?;
    let server_id = config.server_id();
    let believed = believed(&authentication(config), (signer.issuers(), &server_id), (clock, tasks))?;
    let authenticator = Authenticator::new(certificates, Arc::new(signer)).with_front_proxy(front);
    let authenticator = authenticator.with_tokens(believed.tokens).with_webhook(believed.webhook);
    let own = Own { nodes, rbac: rbac.clone(), server: server_id };
    let authorizer = authorizers(&config.authorization, own, (clock, tasks))?;
    let used_tokens = NotedUses::new(clock.clone());
    let selection = admission(config, (clock, tasks))?;
    let server = ApiServer::new(Config {
        admission: Arc::new(Chain::with(registry.clone(), rbac, &authorizer, webhooks, &selection)?),
        registry: registry.clone(),
        own: Some(paths),
        authenticator: authenticator.with_reloads(believed.reloads),
        anonymous: believed.anonymous,
        authorizer,
        kubelets: Some(kubelets),
        others: Some(others.clone()),
        clock: clock.clone(),
        tasks: tasks.child("answers"),
        readiness,
        in_flight: config.in_flight,
        audit: auditing(&config.audit, tasks, clock)?,
        advertised: SocketAddr::new(config.advertise_address, config.https_port).to_string(),
        flags: config.shown(),
        used_tokens: Some(used_tokens.clone()),
        token_limits: Limits { extended: config.tokens.extended, longest: config.tokens.longest },
    });
    used_tokens.through(&server);
    Ok(server)
}

/// Who is believed. Where everybody may do everything nobody does so without a name, as upstream.
fn authentication(config: &ServerConfig) -> AuthenticationConfig {
    let mut authentication = config.authentication.clone();
    if authentication.anonymous && config.authorization.always_allows() {
        warn!("anonymous-auth is not allowed with the AlwaysAllow authorizer, and is off; use a different authorizer");
        authentication.anonymous = false;
    }
    authentication
}

/// Who signs the tokens of service accounts, and knows them again.
fn token_signer(config: &ServerConfig, pki: &Pki, storage: &Storage) -> Result<TokenSigner, Error> {
    let TokenSettings { issuers, key_files, signing_key_file, audiences, .. } = &config.tokens;
    let bound = BoundStores {
        pods: store(storage, "pods")?,
        secrets: store(storage, "secrets")?,
        nodes: store(storage, "minions")?,
    };
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| Error::File { action: "read", path: path.clone(), source })
    };
    let own = &pki.service_account_key;
    let signing = signing_key_file.as_ref().map(read).transpose()?;
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let signer = TokenSigner::new(signing.as_ref().unwrap_or(own), &issuer, store(storage, "serviceaccounts")?, bound);
    let named = |path: Option<&PathBuf>, err: TokenError| {
        let path = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
        Error::Authentication(format!("{path}{err}"))
    };
    let mut signer = signer.map_err(|err| named(signing_key_file.as_ref(), err))?;
    if key_files.is_empty() {
        // Tokens of before another key came to sign.
        signer = signer.with_keys(PublicKey::all_of(own).map_err(|err| named(None, err))?);
    }
    for path in key_files {
        signer = signer.with_keys(PublicKey::all_of(&read(path)?).map_err(|err| named(Some(path), err))?);
    }
    if !issuers.is_empty() {
        signer = signer.of_issuers(issuers.clone());
    }
    Ok(if audiences.is_empty() { signer } else { signer.for_audiences(audiences.clone()) })
}

/// Which admission plugins are on, and what is said to them.
fn admission(config: &ServerConfig, (clock, tasks): (&SharedClock, &TaskGroup)) -> Result<Selection, Error> {
    let mut selection = config.admission.clone();
    let Some(path) = &config.admission_config else { return Ok(selection) };
    let read = |path: &Path| -> Result<serde_json::Value, String> {
        let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        serde_yaml::from_str(&text).map_err(|why| format!("{}: {why}", path.display()))
    };
    let configuration = read(path).and_then(|file| AdmissionConfiguration::new(&file, path, read));
    let bad = |why: String| Error::Setting(format!("admission-control-config-file {}: {why}", path.display()));
    selection.configuration = configuration.map_err(bad)?;
    if selection.enables("ImagePolicyWebhook")
        && let Some(settings) = ImagePolicySettings::of(&selection.configuration).map_err(bad)?
    {
        let reviewer = Kubeconfigs::new(clock, tasks).connect(&settings.kubeconfig);
        let reviewer = reviewer.map_err(|why| bad(format!("kubeConfigFile {why}")))?;
        selection.reviewer = Some(Arc::new(Reviewer(reviewer)));
    }
    Ok(selection)
}

/// The serving certificate with all names and addresses of this server.
pub(crate) fn serving(config: &ServerConfig, pki: &Pki, renewal: &Renewal) -> Result<Arc<Credential>, Error> {
    let domain = &config.cluster_domain;
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.push(config.node_name.clone());
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned(), config.advertise_address.to_string()]);
    names.extend(config.api_service_ip().map(|ip| ip.to_string()));
    if !config.bind_address.is_unspecified() {
        names.push(config.bind_address.to_string());
    }
    names.extend(config.tls_sans.iter().cloned());
    names.sort();
    names.dedup();
    let request = LeafRequest { common_name: "kube-apiserver".into(), organization: None, names, usage: Usage::Server };
    renewal.credential(pki.serving_leaf("serving-kube-apiserver", request))
}

/// How TLS is spoken on the port.
pub(crate) fn tls(certificate: Arc<Credential>, pki: &Pki) -> Result<Arc<TlsConfig>, Error> {
    // Both those who ask and those who ask for others are told that they are known.
    let known = format!("{}{}", pki.client_ca.certificate, pki.request_header_ca.certificate);
    let tls = serve::tls_config(certificate, &known).map_err(|e| Error::Tls(e.to_string()))?;
    Ok(Arc::new(tls))
}
