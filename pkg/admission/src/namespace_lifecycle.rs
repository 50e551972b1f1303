//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away; some never go.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::{GroupResource, Status, StatusCause};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry, stored_namespace};

use crate::{Plugin, forbidden};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) struct NamespaceLifecycle;

fn is_namespace(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group.is_empty() && attributes.resource.plural == "namespaces"
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Connect => false,
            Operation::Delete => is_namespace(attributes) && IMMORTAL.contains(&attributes.name),
            // Access reviews are also asked about namespaces that are not there.
            Operation::Create | Operation::Update => {
                let reviews = attributes.resource.group == "authorization.k8s.io";
                !attributes.namespace.is_empty() && !is_namespace(attributes) && !reviews
            }
        }
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            return Err(forbidden(attributes, "this namespace may not be deleted"));
        }
        let name = attributes.namespace;
        if stored_namespace(registry, name)?.is_none() {
            // Another server may just have made it.
            registry.fresh().await.map_err(store_failure)?;
            if stored_namespace(registry, name)?.is_none() {
                return Err(Status::not_found(&GroupResource::new("", "namespaces"), name));
            }
        }
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let terminating = attributes.namespace_object(registry)?.is_some_and(|namespace| {
            namespace.text(&["status", "phase"]) == "Terminating"
                || !namespace.text(&["metadata", "deletionTimestamp"]).is_empty()
        });
        if !terminating {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut status = forbidden(attributes, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }
}
