//! Who decides what users may do: authorizers of the flags, or of a file that is read anew while the server runs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_auth::{
    AuthorizationConfiguration, Authorizer, Authorizers, ConnectionInfo, Ground, Nanos, NodeAuthorizer, RbacAuthorizer,
    Reloads, WebhookConfiguration,
};
use kedge_base::{SharedClock, TaskGroup, blocking};
use tokio::sync::Mutex;
use tracing::{error, info};

use crate::error::Error;
use crate::reloading::{self, Reload, read_now, tree};
use crate::reviewers::Kubeconfigs;

/// What upstream has for a webhook of the flags.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of authorization.
#[derive(Debug, Clone)]
pub struct AuthorizationConfig {
    /// An `AuthorizationConfiguration`; then the rest is not said.
    pub file: Option<PathBuf>,
    /// Types of authorizers, in the order in which they are asked.
    pub modes: Vec<String>,
    /// A kubeconfig of the webhook that is asked in the mode `Webhook`.
    pub webhook: Option<PathBuf>,
    /// The version of the reviews that it is sent.
    pub version: String,
    /// How long its answers are kept.
    pub authorized: Duration,
    pub unauthorized: Duration,
}

impl Default for AuthorizationConfig {
    /// As when nothing is said: nodes, and roles.
    fn default() -> Self {
        Self {
            file: None,
            modes: ["Node", "RBAC"].map(str::to_owned).to_vec(),
            webhook: None,
            version: "v1beta1".to_owned(),
            authorized: Duration::from_secs(300),
            unauthorized: Duration::from_secs(30),
        }
    }
}

impl AuthorizationConfig {
    /// Whether the flags let everybody do everything.
    pub(crate) fn always_allows(&self) -> bool {
        self.file.is_none() && self.modes.iter().any(|mode| mode == "AlwaysAllow")
    }

    /// The same as a file would have it.
    fn of_flags(&self) -> AuthorizationConfiguration {
        let webhook = WebhookConfiguration {
            authorized_ttl: Nanos::of(self.authorized),
            cache_authorized_requests: Some(!self.authorized.is_zero()),
            unauthorized_ttl: Nanos::of(self.unauthorized),
            cache_unauthorized_requests: Some(!self.unauthorized.is_zero()),
            timeout: Nanos::of(TIMEOUT),
            failure_policy: "NoOpinion".to_owned(),
            subject_access_review_version: self.version.clone(),
            connection_info: self.webhook.as_deref().map(ConnectionInfo::kubeconfig).unwrap_or_default(),
            ..WebhookConfiguration::default()
        };
        AuthorizationConfiguration::of_modes(&self.modes, &webhook)
    }
}

/// Authorizers that this server has of its own.
pub(crate) struct Own {
    pub(crate) nodes: Arc<NodeAuthorizer>,
    pub(crate) rbac: Arc<RbacAuthorizer>,
    /// What this server is called among others.
    pub(crate) server: String,
}

/// All authorizers, as they are set. A file of theirs is followed from now on.
pub(crate) fn authorizers(
    config: &AuthorizationConfig,
    own: Own,
    (clock, tasks): (&SharedClock, &TaskGroup),
) -> Result<Arc<dyn Authorizer>, Error> {
    let bad = |why: String| match &config.file {
        Some(path) => Error::Setting(format!("authorization-config {}: {why}", path.display())),
        None => Error::Setting(format!("authorization-mode {}: {why}", config.modes.join(","))),
    };
    let reloads = Arc::new(Reloads::new("authorization", &own.server));
    let (data, initial) = match &config.file {
        None => (Vec::new(), config.of_flags()),
        Some(path) => {
            let data = read_now(path).map_err(bad)?;
            let read = configuration(&data, &BTreeSet::new()).map_err(bad)?;
            reloads.in_force(&data);
            (data, read)
        }
    };
    let types = initial.own_types();
    let ground = Ground {
        nodes: Some(own.nodes).filter(|_| types.contains("Node")),
        rbac: Some(own.rbac).filter(|_| types.contains("RBAC")),
        connect: Arc::new(Kubeconfigs::new(clock, tasks)),
        clock: clock.clone(),
        reloads: reloads.clone(),
    };
    let authorizers = Arc::new(Authorizers::new(ground, &initial).map_err(bad)?);
    if let Some(path) = &config.file {
        let last = Mutex::new((data, initial));
        let reload = Reloading { authorizers: authorizers.clone(), types, last, reloads, clock: clock.clone() };
        reloading::follow("authorization config", path, Arc::new(reload), (clock, tasks));
    }
    Ok(authorizers)
}

fn configuration(data: &[u8], required: &BTreeSet<String>) -> Result<AuthorizationConfiguration, String> {
    let tree = tree(data).map_err(|why| format!("failed to load AuthorizationConfiguration from file: {why}"))?;
    AuthorizationConfiguration::read(tree, required)
}

/// Takes the file in again.
struct Reloading {
    authorizers: Arc<Authorizers>,
    /// Those that must stay.
    types: BTreeSet<String>,
    /// What was read last, and what it said when it could be read last.
    last: Mutex<(Vec<u8>, AuthorizationConfiguration)>,
    reloads: Arc<Reloads>,
    clock: SharedClock,
}

#[async_trait]
impl Reload for Reloading {
    async fn take(&self, data: Result<Vec<u8>, String>) {
        let (last_data, last) = &mut *self.last.lock().await;
        let reloaded = async {
            let data = data?;
            if data == *last_data {
                return Ok(false);
            }
            last_data.clone_from(&data);
            let types = self.types.clone();
            // It looks at the files that it names.
            let read = blocking::unbounded("read the authorization config", move || configuration(&data, &types));
            let read = read.await.map_err(|why| why.to_string())??;
            if read == *last {
                return Ok(false);
            }
            *last = read;
            self.authorizers.replace(last).map(|()| true)
        };
        match reloaded.await {
            Ok(false) => {}
            Ok(true) => {
                self.reloads.succeeded(last_data, self.clock.now());
                info!("reloaded authorization config");
            }
            Err(why) => {
                self.reloads.failed(self.clock.now());
                error!(error = why, "reloading authorization config");
            }
        }
    }
}
