//! NamespaceExists: what is in a namespace takes one that is there. NamespaceLifecycle asks for that, too, and for more.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::{GroupResource, Status};
use kedge_registry::{Attributes, Operation, Registry};

use crate::{Plugin, read};

pub(crate) struct NamespaceExists;

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let changes = matches!(attributes.operation, Operation::Create | Operation::Update | Operation::Delete);
        changes && attributes.resource.namespaced && !attributes.namespace.is_empty()
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        match read(registry, ("", "namespaces"), "", attributes.namespace)? {
            Some(_) => Ok(()),
            None => Err(Status::not_found(&GroupResource::new("", "namespaces"), attributes.namespace)),
        }
    }
}
