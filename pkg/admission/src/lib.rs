//! Layer 3: admission, one plugin a file, in upstream's order.
//!
//! Invariants: mutating plugins run before validating ones; a plugin sees only resources it is about; it reads the
//! cluster from the registry's caches and never waits for the network.

mod chain;
mod default_toleration_seconds;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod rbac_escalation;
mod service_account;
mod taint_nodes_by_condition;

pub use chain::Chain;

use kedge_meta::Status;
use kedge_registry::{Attributes, Registry};

/// A plugin. Both halves default to letting everything through.
pub trait Plugin: Send + Sync {
    /// May change the object.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, _registry: &Registry, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object as it will be stored.
    ///
    /// # Errors
    /// The refusal.
    fn validate(&self, _registry: &Registry, _attributes: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// A refusal of this request.
pub(crate) fn forbidden(attributes: &Attributes<'_>, why: &str) -> Status {
    use kedge_registry::value::ValueExt as _;
    let resource = kedge_meta::GroupResource::new(&attributes.resource.group, &attributes.resource.plural);
    let name = if attributes.name.is_empty() { attributes.object.name() } else { attributes.name };
    Status::forbidden(&resource, name, why)
}

/// Whether the request is about this resource itself.
pub(crate) fn is(attributes: &Attributes<'_>, group: &str, plural: &str) -> bool {
    attributes.resource.group == group && attributes.resource.plural == plural && attributes.subresource.is_empty()
}
