//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away; some never go.

use kedge_meta::{GroupResource, Status, StatusCause};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry};

use crate::{Plugin, forbidden};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn admit(&self, registry: &Registry, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let namespaces = attributes.resource.group.is_empty() && attributes.resource.plural == "namespaces";
        if namespaces && attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            return Err(forbidden(attributes, "this namespace may not be deleted"));
        }
        if attributes.namespace.is_empty() || namespaces {
            return Ok(());
        }
        // Access reviews are also asked about namespaces that are not there.
        if attributes.operation == Operation::Delete || attributes.resource.group == "authorization.k8s.io" {
            return Ok(());
        }
        let resource = GroupResource::new("", "namespaces");
        let namespaces = registry.builtin("", "v1", "namespaces");
        let namespace = namespaces.map(|n| n.store.get(attributes.namespace)).transpose().map_err(store_failure)?;
        let namespace = namespace.flatten();
        let Some(namespace) = namespace else { return Err(Status::not_found(&resource, attributes.namespace)) };
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let namespace = namespace.to_value().map_err(Status::internal)?;
        let terminating = namespace.text(&["status", "phase"]) == "Terminating"
            || !namespace.text(&["metadata", "deletionTimestamp"]).is_empty();
        if !terminating {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            attributes.namespace
        );
        let mut status = forbidden(attributes, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {} is being terminated", attributes.namespace),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }
}
