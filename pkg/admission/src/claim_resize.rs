//! PersistentVolumeClaimResize: claims grow only when they are bound, and their class lets them.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_meta::quantity::Quantity;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::default_storage_class::class_of;
use crate::{Plugin, forbidden, is, read};

pub(crate) struct PersistentVolumeClaimResize;

fn size(claim: &Value) -> Quantity {
    let text = claim.text(&["spec", "resources", "requests", "storage"]);
    Quantity::parse(text).unwrap_or(Quantity::ZERO)
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update
            && is(attributes, "", "persistentvolumeclaims")
            && attributes.old.is_some_and(|old| size(&attributes.object) > size(old))
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(old) = attributes.old else { return Ok(()) };
        if old.text(&["status", "phase"]) != "Bound" {
            return Err(forbidden(attributes, "Only bound persistent volume claims can be expanded"));
        }
        let (name, was) = (class_of(&attributes.object), class_of(old));
        let class = read(registry, ("storage.k8s.io", "storageclasses"), "", name)?.filter(|_| name == was);
        if class.is_some_and(|class| class.flag(&["allowVolumeExpansion"]) == Some(true)) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(forbidden(attributes, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn only_what_can_grow_grows() {
        let (registry, _) = testing::registry().await;
        for (name, allow) in [("soft", true), ("hard", false)] {
            let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                "provisioner": "p", "allowVolumeExpansion": allow});
            testing::put(&registry, class).await;
        }
        let claim = |class: &str, size: &str, phase: &str| {
            json!({"metadata": {"name": "c"}, "status": {"phase": phase}, "spec": {"storageClassName": class,
                "resources": {"requests": {"storage": size}}}})
        };
        let user = testing::user();
        let rigid = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        for (class, size, phase, why) in [
            ("soft", "2Gi", "Bound", ""),
            ("soft", "2Gi", "Pending", "Only bound persistent volume claims can be expanded"),
            ("hard", "2Gi", "Bound", rigid),
            ("none", "2Gi", "Bound", rigid),
            ("hard", "1Gi", "Bound", ""),
            ("hard", "512Mi", "Pending", ""),
        ] {
            let old = claim(class, "1Gi", phase);
            let claims = testing::resource("", "persistentvolumeclaims");
            let mut attributes = Attributes::new(Operation::Update, claims, &user);
            (attributes.object, attributes.old) = (claim(class, size, phase), Some(&old));
            let mut said = String::new();
            if PersistentVolumeClaimResize.validates(&attributes)
                && let Err(status) = PersistentVolumeClaimResize.validate(&registry, &attributes).await
            {
                said = status.message;
            }
            let wanted = format!("persistentvolumeclaims \"c\" is forbidden: {why}");
            assert_eq!(said, if why.is_empty() { String::new() } else { wanted }, "{class} {size} {phase}");
        }
    }
}
