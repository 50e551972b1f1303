//! All who decide what users may do, as a configuration has them; it may be replaced while the server runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kedge_base::SharedClock;
use kedge_base::exposition::Exposition;
use kedge_meta::UserInfo;
use kedge_meta::field::Path;
use parking_lot::RwLock;

use crate::authorization::{AuthorizationConfiguration, AuthorizerConfiguration, WebhookConfiguration};
use crate::authorizer::{Authorizer, Deciding, Decision, Request, Rules, Union};
use crate::node::NodeAuthorizer;
use crate::rbac::{PolicyRule, RbacAuthorizer};
use crate::reloads::Reloads;
use crate::together;
use crate::webhook::{AuthorizationMeters, Behaviour, Connect, Decisions, Version, WebhookAuthorizer};

/// What authorizers are made of.
pub struct Ground {
    /// None where the server was started without.
    pub nodes: Option<Arc<NodeAuthorizer>>,
    pub rbac: Option<Arc<RbacAuthorizer>>,
    pub connect: Arc<dyn Connect>,
    pub clock: SharedClock,
    /// How often the configuration was replaced.
    pub reloads: Arc<Reloads>,
}

/// Asks those of the configuration in their order. Members of `system:masters` are not asked about.
pub struct Authorizers {
    ground: Ground,
    meters: Arc<AuthorizationMeters>,
    current: RwLock<Arc<Union>>,
}

/// One of them, whose decisions are counted.
struct Counted {
    authorizer: Arc<dyn Authorizer>,
    decisions: Arc<Decisions>,
}

/// Allows everything.
struct AlwaysAllow;

/// Allows nothing.
struct AlwaysDeny;

// === impl Authorizers ===

impl Authorizers {
    /// Those of a configuration.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn new(ground: Ground, config: &AuthorizationConfiguration) -> Result<Self, String> {
        let meters = Arc::default();
        let current = RwLock::new(Arc::new(made(&ground, &meters, config)?));
        Ok(Self { ground, meters, current })
    }

    /// From now on those of another one. Requests that are being decided end as they began.
    ///
    /// # Errors
    /// When one of them cannot be made; all stay as they are.
    pub fn replace(&self, config: &AuthorizationConfiguration) -> Result<(), String> {
        let made = Arc::new(made(&self.ground, &self.meters, config)?);
        *self.current.write() = made;
        Ok(())
    }

    fn current(&self) -> Arc<Union> {
        self.current.read().clone()
    }
}

fn made(
    ground: &Ground,
    meters: &Arc<AuthorizationMeters>,
    config: &AuthorizationConfiguration,
) -> Result<Union, String> {
    let one = |one: &AuthorizerConfiguration| -> Result<Arc<dyn Authorizer>, String> {
        let AuthorizerConfiguration { kind, name, webhook } = one;
        let late = || format!("authorizer type {kind} is not allowed if it was not enabled at initial server startup");
        let authorizer: Arc<dyn Authorizer> = match (kind.as_str(), webhook) {
            ("Node", _) => ground.nodes.clone().ok_or_else(late)?,
            ("RBAC", _) => ground.rbac.clone().ok_or_else(late)?,
            ("AlwaysAllow", _) => Arc::new(AlwaysAllow),
            ("AlwaysDeny", _) => Arc::new(AlwaysDeny),
            ("Webhook", Some(webhook)) => Arc::new(asking(ground, meters, name, webhook)?),
            _ => return Err(format!("unknown authorization mode {kind} specified")),
        };
        Ok(Arc::new(Counted { authorizer, decisions: meters.decisions(kind, name) }))
    };
    config.authorizers.iter().map(one).collect::<Result<_, _>>().map(Union::new)
}

/// The authorizer that asks a webhook.
fn asking(
    ground: &Ground,
    meters: &Arc<AuthorizationMeters>,
    name: &str,
    config: &WebhookConfiguration,
) -> Result<WebhookAuthorizer, String> {
    let connection = &config.connection_info;
    let file = connection.file();
    let file =
        file.ok_or_else(|| format!("connectionInfo type {} is not allowed for kube-apiserver", connection.kind))?;
    let conditions = config.conditions(&Path::default()).map_err(|wrong| {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        together(&wrong).unwrap_or_default()
    })?;
    let version = &config.subject_access_review_version;
    let behaviour = Behaviour {
        name: name.to_owned(),
        version: Version::named(version).ok_or_else(|| {
            format!("unsupported webhook authorizer version {version:?}, supported versions are \"v1\", \"v1beta1\"")
        })?,
        timeout: config.timeout.duration(),
        authorized: kept(config.cache_authorized_requests, config.authorized_ttl.duration()),
        unauthorized: kept(config.cache_unauthorized_requests, config.unauthorized_ttl.duration()),
        denies_on_failure: config.failure_policy == "Deny",
        conditions,
    };
    Ok(WebhookAuthorizer::new(behaviour, ground.connect.connect(&file)?, meters, &ground.clock))
}

/// How long answers are kept.
fn kept(keeps: Option<bool>, time: std::time::Duration) -> std::time::Duration {
    if keeps.unwrap_or(true) { time } else { std::time::Duration::ZERO }
}

impl Authorizer for Authorizers {
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        let current = self.current();
        let known = current.authorize(request).now();
        match known {
            Some(decision) => decision.into(),
            // Begun anew, by those who are there now however long it takes.
            None => Deciding::later(async move { current.authorize(request).await }),
        }
    }

    fn rules_of(&self, user: &UserInfo, namespace: &str) -> Rules {
        self.current().rules_of(user, namespace)
    }

    fn show(&self, out: &mut Exposition) {
        self.meters.show(out);
        self.ground.reloads.show(out);
    }
}

// === impl Counted ===

impl Counted {
    fn count(decisions: &Decisions, decision: Decision) -> Decision {
        match &decision {
            Decision::Allow(_) => decisions.allowed.fetch_add(1, Ordering::Relaxed),
            Decision::Deny(_) | Decision::Failed { denied: true, .. } => {
                decisions.denied.fetch_add(1, Ordering::Relaxed)
            }
            // Others decide.
            Decision::NoOpinion(_) | Decision::Failed { .. } => 0,
        };
        decision
    }
}

impl Authorizer for Counted {
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        match self.authorizer.authorize(request) {
            Deciding::Now(decision) => Self::count(&self.decisions, decision).into(),
            Deciding::Later(decision) => Deciding::later(async move { Self::count(&self.decisions, decision.await) }),
        }
    }

    fn rules_of(&self, user: &UserInfo, namespace: &str) -> Rules {
        self.authorizer.rules_of(user, namespace)
    }
}

impl Authorizer for AlwaysAllow {
    fn authorize<'a>(&'a self, _: &'a Request<'a>) -> Deciding<'a> {
        Decision::Allow(String::new()).into()
    }

    fn rules_of(&self, _: &UserInfo, _: &str) -> Rules {
        let all = || vec!["*".to_owned()];
        let resources = PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() };
        let paths = PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() };
        Rules { rules: vec![resources, paths], ..Rules::default() }
    }
}

impl Authorizer for AlwaysDeny {
    fn authorize<'a>(&'a self, _: &'a Request<'a>) -> Deciding<'a> {
        Decision::NoOpinion("Everything is forbidden.".to_owned()).into()
    }
}

#[cfg(test)]
#[path = "authorizers_tests.rs"]
mod tests;
