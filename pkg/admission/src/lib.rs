//! Layer 3: admission, one plugin a file, in upstream's order.
//!
//! Invariants: mutating plugins run before validating ones; a plugin is asked only about requests that it says it has to do
//! with, and costs the others nothing but that question; it reads the cluster from the registry's caches. Only plugins that
//! write (quotas) or ask others (webhooks) wait.

mod always;
mod always_pull_images;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject_restriction;
mod chain;
mod claim_resize;
mod classes;
mod configuration;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod deny_service_external_ips;
mod event_rate_limit;
mod expressions;
mod extended_resource_toleration;
mod hard_anti_affinity;
mod image_policy;
mod limit_ranger;
mod matching;
mod names;
mod namespace_auto_provision;
mod namespace_exists;
mod namespace_lifecycle;
mod node_declared_features;
mod node_restriction;
mod node_slices;
mod owner_references;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_toleration_restriction;
mod pod_topology_labels;
mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod signers;
mod storage_protection;
mod taint_nodes_by_condition;
#[cfg(test)]
mod testing;
mod tolerations;
mod webhook;

pub use chain::{Chain, Selection, UnknownPlugin};
pub use configuration::AdmissionConfiguration;
pub use image_policy::{ImagePolicySettings, ImageReviewer, Unreviewed};
pub use webhook::ServiceEndpoints;

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::{GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry, convert};
use kedge_storage::Matcher;
use serde_json::Value;

/// A plugin. Nothing is asked of it unless it says that a request is its business.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name, by which it is turned on and off.
    fn name(&self) -> &'static str;

    /// Whether it may change or refuse the object of this request.
    fn mutates(&self, _attributes: &Attributes<'_>) -> bool {
        false
    }

    /// Whether it may refuse what is about to be stored.
    fn validates(&self, _attributes: &Attributes<'_>) -> bool {
        false
    }

    /// May change the object.
    ///
    /// # Errors
    /// The refusal.
    async fn admit(&self, _registry: &Arc<Registry>, _attributes: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object as it will be stored.
    ///
    /// # Errors
    /// The refusal.
    async fn validate(&self, _registry: &Arc<Registry>, _attributes: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// A refusal of this request.
pub(crate) fn forbidden(attributes: &Attributes<'_>, why: &str) -> Status {
    let resource = GroupResource::new(&attributes.resource.group, &attributes.resource.plural);
    let generated = attributes.object.text(&["metadata", "generateName"]);
    let names = [attributes.name, attributes.object.name(), generated, "Unknown"];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    Status::forbidden(&resource, name, why)
}

/// Whether the request is about this resource itself.
pub(crate) fn is(attributes: &Attributes<'_>, group: &str, plural: &str) -> bool {
    is_sub(attributes, group, plural, "")
}

/// Whether the request is about this subresource of a resource.
pub(crate) fn is_sub(attributes: &Attributes<'_>, group: &str, plural: &str, subresource: &str) -> bool {
    let resource = attributes.resource;
    resource.group == group && resource.plural == plural && attributes.subresource == subresource
}

/// An object of a built-in kind, from the cache.
///
/// # Errors
/// When the store fails.
pub(crate) fn read(
    registry: &Registry,
    (group, plural): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Status> {
    let Some(served) = registry.builtin(group, "v1", plural).filter(|_| !name.is_empty()) else { return Ok(None) };
    let object = served.store.get(&served.key(namespace, name)).map_err(store_failure)?;
    object.map(|object| convert::read(served, &object)).transpose()
}

/// All objects of a built-in kind in a namespace, from the cache.
///
/// # Errors
/// When the store fails.
pub(crate) fn list(registry: &Registry, (group, plural): (&str, &str), namespace: &str) -> Result<Vec<Value>, Status> {
    let Some(served) = registry.builtin(group, "v1", plural) else { return Ok(Vec::new()) };
    let listing = served.store.list(&served.scope(namespace), &Matcher::default(), 0).map_err(store_failure)?;
    listing.objects.iter().map(|(_, object)| convert::read(served, object)).collect()
}

/// Whether a request creates or changes this resource itself.
pub(crate) fn writes(attributes: &Attributes<'_>, group: &str, plural: &str) -> bool {
    matches!(attributes.operation, Operation::Create | Operation::Update) && is(attributes, group, plural)
}

/// Whether a request creates this resource.
pub(crate) fn creates(attributes: &Attributes<'_>, group: &str, plural: &str) -> bool {
    attributes.operation == Operation::Create && is(attributes, group, plural)
}

/// Several complaints as upstream lists them: one as it is, more in brackets, each once.
pub(crate) fn aggregate(complaints: &[String]) -> Option<String> {
    let mut each: Vec<&str> = Vec::new();
    complaints.iter().for_each(|complaint| {
        if !each.contains(&complaint.as_str()) {
            each.push(complaint);
        }
    });
    match each.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}
