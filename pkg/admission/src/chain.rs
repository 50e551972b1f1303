//! All plugins, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::RbacAuthorizer;
use kedge_meta::Status;
use kedge_registry::{Admission, Attributes, Registry};

use crate::Plugin;
use crate::default_toleration_seconds::DefaultTolerationSeconds;
use crate::namespace_lifecycle::NamespaceLifecycle;
use crate::node_restriction::NodeRestriction;
use crate::priority::Priority;
use crate::rbac_escalation::RbacEscalation;
use crate::service_account::ServiceAccount;
use crate::taint_nodes_by_condition::TaintNodesByCondition;

/// The admission chain.
pub struct Chain {
    registry: Arc<Registry>,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// The plugins that are on by default.
    pub fn new(registry: Arc<Registry>, rbac: Arc<RbacAuthorizer>) -> Self {
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(NamespaceLifecycle),
            Box::new(ServiceAccount),
            Box::new(NodeRestriction::new(rbac.clone())),
            Box::new(TaintNodesByCondition),
            Box::new(Priority),
            Box::new(DefaultTolerationSeconds),
            Box::new(RbacEscalation::new(rbac)),
        ];
        Self { registry, plugins }
    }
}

#[async_trait]
impl Admission for Chain {
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|plugin| plugin.admit(&self.registry, attributes))
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|plugin| plugin.validate(&self.registry, attributes))
    }
}
