//! StorageObjectInUseProtection: volumes, claims and classes of their attributes wait to be deleted until nobody uses them.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use serde_json::{Value, json};

use crate::{Plugin, creates};

pub(crate) struct StorageObjectInUseProtection;

/// What holds an object of this kind until its controller lets go of it.
fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    let of = |group: &str, plural: &str| creates(attributes, group, plural);
    if of("", "persistentvolumes") {
        Some("kubernetes.io/pv-protection")
    } else if of("", "persistentvolumeclaims") {
        Some("kubernetes.io/pvc-protection")
    } else if of("storage.k8s.io", "volumeattributesclasses") {
        Some("kubernetes.io/vac-protection")
    } else {
        None
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        finalizer(attributes).is_some()
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(name) = finalizer(attributes) else { return Ok(()) };
        let finalizers = attributes.object.entry("metadata").entry("finalizers").or_insert_with(|| json!([]));
        match finalizers {
            Value::Array(list) if list.iter().any(|finalizer| finalizer == name) => {}
            Value::Array(list) => list.push(name.into()),
            other => *other = json!([name]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;

    #[tokio::test]
    async fn each_kind_is_held_once() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        for (group, plural, finalizer) in [
            ("", "persistentvolumes", "kubernetes.io/pv-protection"),
            ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
            ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
        ] {
            let mut attributes = Attributes::new(Operation::Create, testing::resource(group, plural), &user);
            attributes.object = json!({"metadata": {"finalizers": ["a/b"]}});
            for _ in 0..2 {
                assert!(StorageObjectInUseProtection.mutates(&attributes));
                assert_eq!(StorageObjectInUseProtection.admit(&registry, &mut attributes).await, Ok(()));
            }
            assert_eq!(attributes.object["metadata"]["finalizers"], json!(["a/b", finalizer]));
            let update = Attributes::new(Operation::Update, testing::resource(group, plural), &user);
            assert!(!StorageObjectInUseProtection.mutates(&update));
        }
    }
}
