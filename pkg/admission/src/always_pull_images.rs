//! AlwaysPullImages: images are always pulled, so that nobody runs one that is on a node without the right to pull it.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_meta::field::{Error, Path};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::Value;

use crate::{Plugin, aggregate, forbidden, writes};

const ALWAYS: &str = "Always";
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(crate) struct AlwaysPullImages;

fn images(pod: &Value) -> Vec<&str> {
    let of = |field| pod.list(&["spec", field]).iter().map(|container| container.text(&["image"]));
    CONTAINERS.into_iter().flat_map(of).collect()
}

/// A change that brings no other image is let pass, whatever the pod has.
fn concerns(attributes: &Attributes<'_>) -> bool {
    let known = attributes.old.filter(|_| attributes.operation == Operation::Update).map(images);
    let new = images(&attributes.object);
    writes(attributes, "", "pods") && known.is_none_or(|known| new.iter().any(|image| !known.contains(image)))
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        concerns(attributes)
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        concerns(attributes)
    }

    async fn admit(&self, _: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let spec = attributes.object.entry("spec");
        for field in CONTAINERS {
            for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                container.set("imagePullPolicy", ALWAYS);
            }
        }
        for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
                image.set("pullPolicy", ALWAYS);
            }
        }
        Ok(())
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let mut wrong = Vec::new();
        let mut check = |path: Path, policy: &str| {
            if policy != ALWAYS {
                let error = Error::not_supported(&path, policy, &[ALWAYS]);
                wrong.push(forbidden(attributes, &error.to_string()).message);
            }
        };
        let spec = Path::new("spec");
        for field in CONTAINERS {
            for (at, container) in attributes.object.list(&["spec", field]).iter().enumerate() {
                check(spec.child(field).index(at).child("imagePullPolicy"), container.text(&["imagePullPolicy"]));
            }
        }
        for (at, volume) in attributes.object.list(&["spec", "volumes"]).iter().enumerate() {
            if volume.at(&["image"]).is_some_and(Value::is_object) {
                let path = spec.child("volumes").index(at).child("image").child("pullPolicy");
                check(path, volume.text(&["image", "pullPolicy"]));
            }
        }
        match aggregate(&wrong) {
            Some(why) => Err(Status { message: why, ..forbidden(attributes, "") }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn images_are_pulled_always_but_what_does_not_change_stays() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"image": "a", "imagePullPolicy": "Never"}], "initContainers": [{"image": "b"}],
            "volumes": [{"name": "v", "image": {"reference": "c"}}],
        }});
        let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
        attributes.object = pod.clone();
        let refused = AlwaysPullImages.validate(&registry, &attributes).await.unwrap_err();
        assert!(
            refused.message.contains(
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\""
            ),
            "{}",
            refused.message
        );
        assert!(AlwaysPullImages.mutates(&attributes));
        AlwaysPullImages.admit(&registry, &mut attributes).await.unwrap();
        let spec = &attributes.object["spec"];
        assert_eq!(
            (&spec["containers"][0]["imagePullPolicy"], &spec["initContainers"][0]["imagePullPolicy"]),
            (&json!("Always"), &json!("Always"))
        );
        assert_eq!(spec["volumes"][0]["image"]["pullPolicy"], "Always");
        AlwaysPullImages.validate(&registry, &attributes).await.unwrap();
        let mut update = Attributes::new(Operation::Update, testing::resource("", "pods"), &user);
        (update.old, update.object) = (Some(&pod), pod.clone());
        assert!(!AlwaysPullImages.mutates(&update) && !AlwaysPullImages.validates(&update));
        update.object["spec"]["containers"][0]["image"] = "new".into();
        assert!(AlwaysPullImages.mutates(&update));
    }
}
