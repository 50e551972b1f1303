//! The API server's state.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response};
use kedge_auth::jwt::AnonymousConfig;
use kedge_auth::{Authenticator, Authorizer, Shown, TokenSigner, UsedSecret};
use kedge_base::{SharedClock, Shutdown, TaskGroup};
use kedge_meta::{Status, UserInfo};
use kedge_registry::subresources::token;
use kedge_registry::{Admission, Registry};
use kedge_webhook::Caller;
use tokio::sync::watch;

use crate::access_meters::AccessMeters;
use crate::auditing::Auditing;
use crate::backends::{KubeletAccess, Usages};
use crate::body::Body;
use crate::failures::Failures;
use crate::fairness::Fairness;
use crate::indicators::Indicators;
use crate::limits::{InFlight, Limits};
use crate::meters::Requests;
use crate::readiness::Readiness;

/// What `kubectl version` shows: the Kubernetes version that is implemented, and ours.
pub(crate) const GIT_VERSION: &str = concat!("v1.36.2+kedge", env!("CARGO_PKG_VERSION"));

/// Paths beside the Kubernetes API: the server's own administration. A request has passed the whole chain before.
#[async_trait]
pub trait OwnPaths: Send + Sync {
    /// What the path begins with, such as `/kedge/v1/`.
    fn prefix(&self) -> &str;

    /// Answers a request on a path with that prefix.
    async fn handle(&self, method: &Method, path: &str, body: Bytes) -> Result<Response<Body>, Status>;
}

/// Who notes on a secret when its token was last used.
#[async_trait]
pub trait UsedTokens: Send + Sync {
    /// Notes the use, as well as it can; a request waits for that.
    async fn note(&self, secret: UsedSecret);
}

/// What an API server is made of.
pub struct Config {
    pub registry: Arc<Registry>,
    pub admission: Arc<dyn Admission>,
    pub authenticator: Authenticator,
    /// Whether somebody may ask who is nobody, and for what.
    pub anonymous: AnonymousConfig,
    pub authorizer: Arc<dyn Authorizer>,
    /// How kubelets are reached; none when there are none.
    pub kubelets: Option<KubeletAccess>,
    /// How servers that serve other group versions are reached; none when there are none.
    pub others: Option<Arc<Caller>>,
    pub clock: SharedClock,
    /// For what outlives its request.
    pub tasks: TaskGroup,
    pub readiness: Readiness,
    pub in_flight: InFlight,
    /// What is recorded of requests; none for nothing.
    pub audit: Option<Arc<Auditing>>,
    /// Such as `10.0.0.5:6443`: what `/api` tells clients.
    pub advertised: String,
    /// What the server was started with, by the names of its flags; no secrets.
    pub flags: Vec<(String, String)>,
    /// The server's own administration.
    pub own: Option<Arc<dyn OwnPaths>>,
    /// None where that is not noted.
    pub used_tokens: Option<Arc<dyn UsedTokens>>,
    /// For how long tokens of service accounts are given.
    pub token_limits: token::Limits,
}

/// An API server. Share it behind an `Arc`.
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) authenticator: Authenticator,
    pub(crate) anonymous: AnonymousConfig,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) kubelets: Option<KubeletAccess>,
    pub(crate) others: Option<Arc<Caller>>,
    /// What nodes use.
    pub(crate) usages: Usages,
    pub(crate) clock: SharedClock,
    pub(crate) tasks: TaskGroup,
    pub(crate) shutdown: Shutdown,
    pub(crate) readiness: Readiness,
    pub(crate) limits: Limits,
    /// Whether priority and fairness says whose turn it is.
    pub(crate) shares: bool,
    pub(crate) fairness: Fairness,
    pub(crate) audit: Option<Arc<Auditing>>,
    pub(crate) failures: Failures,
    pub(crate) access: AccessMeters,
    pub(crate) indicators: Indicators,
    pub(crate) requests: Requests,
    pub(crate) advertised: String,
    pub(crate) flags: Vec<(String, String)>,
    pub(crate) own: Option<Arc<dyn OwnPaths>>,
    pub(crate) used_tokens: Option<Arc<dyn UsedTokens>>,
    pub(crate) token_limits: token::Limits,
}

impl ApiServer {
    /// From its parts.
    pub fn new(config: Config) -> Arc<Self> {
        let InFlight { read_only, mutating, .. } = config.in_flight;
        let fairness = Fairness::new(&config.registry, read_only + mutating, &config.clock);
        Arc::new(Self {
            registry: config.registry,
            admission: config.admission,
            authenticator: config.authenticator,
            anonymous: config.anonymous,
            authorizer: config.authorizer,
            kubelets: config.kubelets,
            others: config.others,
            usages: Usages::new(config.clock.clone()),
            fairness,
            audit: config.audit,
            failures: Failures::default(),
            access: AccessMeters::default(),
            indicators: Indicators::default(),
            requests: Requests::new(config.clock.clone()),
            clock: config.clock,
            shutdown: config.tasks.shutdown().clone(),
            tasks: config.tasks,
            readiness: config.readiness,
            limits: Limits::new(config.in_flight),
            shares: config.in_flight.fairness,
            advertised: config.advertised,
            flags: config.flags,
            own: config.own,
            used_tokens: config.used_tokens,
            token_limits: config.token_limits,
        })
    }

    /// Tells when kinds have come or gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }

    /// Who signs the tokens of service accounts.
    pub fn token_signer(&self) -> &Arc<TokenSigner> {
        self.authenticator.tokens()
    }

    /// Notes on a secret that its token was used.
    pub(crate) async fn note_use(&self, secret: Option<UsedSecret>) {
        if let (Some(secret), Some(used)) = (secret, &self.used_tokens) {
            used.note(secret).await;
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_second()
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// What the client showed, and who that was found to be.
    pub certificates: Arc<Shown>,
    /// For components of this process: who they are.
    pub trusted: Option<Arc<UserInfo>>,
    /// The address of a remote client.
    pub address: Option<std::net::SocketAddr>,
}
