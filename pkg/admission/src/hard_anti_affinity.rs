//! LimitPodHardAntiAffinityTopology: pods keep others off a node, and not off more than that.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};

use crate::{Plugin, forbidden, writes};

const NODE: &str = "kubernetes.io/hostname";

pub(crate) struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        writes(attributes, "", "pods")
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let path = ["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
        let keys = attributes.object.list(&path).iter().map(|term| term.text(&["topologyKey"]));
        match keys.into_iter().find(|key| *key != NODE) {
            Some(key) => Err(forbidden(
                attributes,
                &format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {NODE} is allowed"
                ),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::json;

    #[tokio::test]
    async fn only_nodes_can_be_kept_free() {
        let (registry, _) = testing::registry().await;
        let user = testing::user();
        for (key, code) in [(NODE, None), ("topology.kubernetes.io/zone", Some(403))] {
            let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
            let terms = json!([{"topologyKey": key}]);
            attributes.object = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}});
            let said = LimitPodHardAntiAffinityTopology.validate(&registry, &attributes).await;
            assert_eq!(said.err().map(|status| status.code), code);
        }
    }
}
