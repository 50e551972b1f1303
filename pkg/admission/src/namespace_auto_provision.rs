//! NamespaceAutoProvision: the first thing in a namespace makes that, instead of being refused for want of it.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use kedge_auth::MASTERS;
use kedge_meta::{Reason, Status, UserInfo};
use kedge_registry::verbs::{self, Later, Writer, store_failure};
use kedge_registry::{Admission, Attributes, Notes, Operation, Registry, WriteOptions, stored_namespace};
use serde_json::json;

use crate::{Plugin, forbidden};

/// The chain that the plugin is part of, once it is there: namespaces pass it like everything else.
pub(crate) type Own = Arc<OnceLock<Weak<dyn Admission>>>;

pub(crate) struct NamespaceAutoProvision(Own);

impl NamespaceAutoProvision {
    pub(crate) fn new(own: &Own) -> Self {
        Self(own.clone())
    }

    async fn provision(&self, registry: &Registry, name: &str) -> Result<(), Status> {
        let served = registry.builtin("", "v1", "namespaces").ok_or_else(Status::unknown_path)?;
        let chain = self.0.get().and_then(Weak::upgrade);
        let chain = chain.ok_or_else(|| Status::unavailable("the server is shutting down"))?;
        // As upstream: not whoever asks for what is to be in it.
        let user = UserInfo::new("system:apiserver", &[MASTERS]);
        let request = verbs::Request {
            registry,
            served,
            admission: &*chain,
            user: &user,
            namespace: "",
            name,
            subresource: "",
            dry_run: false,
            options: WriteOptions::default(),
            writer: Writer::Manager("kube-apiserver".into()),
            later: Later::default(),
            notes: Notes::default(),
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match Box::pin(verbs::create(&request, namespace)).await {
            Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    }
}

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        let is_namespace = attributes.resource.group.is_empty() && attributes.resource.kind == "Namespace";
        let creates = attributes.operation == Operation::Create && !attributes.reinvocation.is_second();
        creates && !attributes.dry_run && !attributes.namespace.is_empty() && !is_namespace
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let name = attributes.namespace;
        if stored_namespace(registry, name)?.is_some() {
            return Ok(());
        }
        // Another server may just have made it.
        registry.fresh().await.map_err(store_failure)?;
        if stored_namespace(registry, name)?.is_some() {
            return Ok(());
        }
        self.provision(registry, name).await.map_err(|status| match status.reason {
            Reason::Forbidden => status,
            _ => forbidden(attributes, &status.message),
        })
    }
}
