//! Webhooks that are asked about users and images: where they are, whom to trust and who asks is in a kubeconfig.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use kedge_auth::{Connect, Remote, Reviewer};
use kedge_base::net::DirectDialer;
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::ClusterAccess;
use kedge_webhook::{Caller, ClientConfig, Services, Settings, Target, Unresolved};

/// As upstream's API server calls itself.
const AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver/v1.36.2");
/// What webhooks say of a user or an image is small.
const LARGEST: usize = 1 << 20;

/// Reaches those whom kubeconfigs name.
pub(crate) struct Kubeconfigs {
    clock: SharedClock,
    /// Connections live in these.
    tasks: TaskGroup,
}

/// A kubeconfig names a host, which is found as hosts are.
struct NoServices;

impl Services for NoServices {
    fn resolve(&self, namespace: &str, name: &str, _: u16) -> Result<String, Unresolved> {
        Err(Unresolved(format!("service {name:?} of namespace {namespace:?} is not reached from here")))
    }
}

impl Kubeconfigs {
    pub(crate) fn new(clock: &SharedClock, tasks: &TaskGroup) -> Self {
        Self { clock: clock.clone(), tasks: tasks.child("connections to reviewers") }
    }
}

impl Connect for Kubeconfigs {
    fn connect(&self, kubeconfig: &Path) -> Result<Arc<dyn Reviewer>, String> {
        let bad = |why: &dyn std::fmt::Display| format!("{}: {why}", kubeconfig.display());
        let access = ClusterAccess::from_file(kubeconfig).map_err(|why| crate::issuers::with_causes(&why))?;
        let identity = access.tls_config().map_err(|why| bad(&why))?.client_auth_cert_resolver;
        let bearer = access.bearer_header().map_err(|why| bad(&why))?;
        let config = ClientConfig {
            target: Target::Url(access.server),
            ca_bundle: access.certificate_authority,
            insecure: access.insecure,
        };
        config.check().map_err(|why| bad(&why))?;
        let caller = Caller::new(Settings {
            services: Arc::new(NoServices),
            dialer: Arc::new(DirectDialer),
            tasks: self.tasks.clone(),
            clock: self.clock.clone(),
        });
        let caller = caller.named(AGENT, LARGEST).with_identity(identity);
        let caller = match bearer {
            Some(bearer) => caller.with_bearer(bearer),
            None => caller,
        };
        Ok(Arc::new(Remote::new(caller, config)))
    }
}
