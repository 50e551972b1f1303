//! DefaultStorageClass: a claim that does not ask for a class gets the default one.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use serde_json::Value;

use crate::classes::default_class;
use crate::{Plugin, creates};

const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Where claims named their class before there was a field.
const BETA: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) struct DefaultStorageClass;

/// Whether a claim asks for a class; also for none at all, which is the empty name.
fn has_class(claim: &Value) -> bool {
    claim.at(&["metadata", "annotations", BETA]).is_some()
        || claim.at(&["spec", "storageClassName"]).is_some_and(|name| !name.is_null())
}

/// The class that a claim names.
pub(crate) fn class_of(claim: &Value) -> &str {
    match claim.at(&["metadata", "annotations", BETA]).and_then(Value::as_str) {
        Some(name) => name,
        None => claim.text(&["spec", "storageClassName"]),
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, "", "persistentvolumeclaims") && !has_class(&attributes.object)
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(class) = default_class(registry, ("storage.k8s.io", "storageclasses"), &MARKS)? {
            attributes.object.entry("spec").insert("storageClassName".into(), class.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::json;

    async fn class_given(claim: Value, classes: &[(&str, &str, &str)]) -> Value {
        let (registry, _) = testing::registry().await;
        for (name, mark, born) in classes {
            let metadata = json!({"name": name, "annotations": {*mark: "true"}, "creationTimestamp": born});
            let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata, "provisioner": "p"});
            testing::put(&registry, class).await;
        }
        let user = testing::user();
        let claims = testing::resource("", "persistentvolumeclaims");
        let mut attributes = Attributes::new(Operation::Create, claims, &user);
        attributes.object = claim;
        if DefaultStorageClass.mutates(&attributes) {
            assert_eq!(DefaultStorageClass.admit(&registry, &mut attributes).await, Ok(()));
        }
        attributes.object["spec"]["storageClassName"].clone()
    }

    #[tokio::test]
    async fn the_newest_default_is_taken_by_who_asks_for_none() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let classes = [("z", MARKS[0], old), ("b", MARKS[0], new), ("a", MARKS[1], new), ("other", "x", new)];
        assert_eq!(class_given(json!({"spec": {}}), &classes).await, "a");
        assert_eq!(class_given(json!({"spec": {"storageClassName": ""}}), &classes).await, "", "none is what it wants");
        let annotated = json!({"metadata": {"annotations": {(BETA): "old"}}, "spec": {}});
        assert_eq!(class_given(annotated, &classes).await, Value::Null);
        assert_eq!(class_given(json!({"spec": {}}), &classes[3..]).await, Value::Null);
    }
}
