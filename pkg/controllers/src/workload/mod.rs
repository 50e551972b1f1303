//! What the controllers of workloads share: who owns which pods, how pods are made from templates, and how a lagging
//! cache is kept from making too many.

pub mod by_claim;
pub mod claim;
pub mod expectations;
pub mod history;
pub mod index;
pub mod node_affinity;
pub mod pod_control;
pub mod ranking;
pub mod template;

use kedge_meta::{ObjectMeta, ObjectReference, OwnerReference, Resource};

/// The owner reference by which `owner` manages an object.
pub fn controller_ref(resource: &Resource, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// For events about an object.
pub fn reference(resource: &Resource, object: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        uid: object.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The object of kind `resource` that manages this one, by name.
pub fn manager<'a>(resource: &Resource, object: &'a ObjectMeta) -> Option<&'a OwnerReference> {
    let group = |api_version: &str| api_version.split_once('/').map(|(g, _)| g.to_owned()).unwrap_or_default();
    object.controller().filter(|o| o.kind == resource.kind && group(&o.api_version) == resource.group)
}
