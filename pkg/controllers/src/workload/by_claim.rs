//! Pods by the claims that they name, so that nobody need look through all pods for those of one claim.
//!
//! Invariant: as that of [`super::index`]. Pods without claims take no room.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kedge_client::Informer;
use kedge_meta::ObjectKey;
use parking_lot::RwLock;

use crate::objects::Pod;

/// An index over the informer of pods; clones share it.
#[derive(Clone)]
pub struct PodsByClaim {
    pods: Informer<Pod>,
    /// Names of pods by claim, which is of their namespace.
    names: Arc<RwLock<HashMap<ObjectKey, BTreeSet<String>>>>,
}

impl PodsByClaim {
    /// Follows `pods`.
    pub fn new(pods: &Informer<Pod>) -> Self {
        let names: Arc<RwLock<HashMap<ObjectKey, BTreeSet<String>>>> = Arc::default();
        let index = names.clone();
        pods.on_change(move |change| {
            let claims = |pod: &Option<Arc<Pod>>| -> BTreeSet<String> { pod.iter().flat_map(|p| p.claims()).collect() };
            let (old, new) = (claims(&change.old), claims(&change.new));
            if old == new {
                return;
            }
            let (pod, mut index) = (change.key(), index.write());
            for claim in old.difference(&new) {
                let key = ObjectKey::new(&pod.namespace, claim);
                if let Some(names) = index.get_mut(&key) {
                    names.remove(&pod.name);
                    if names.is_empty() {
                        index.remove(&key);
                    }
                }
            }
            for claim in new.difference(&old) {
                index.entry(ObjectKey::new(&pod.namespace, claim)).or_default().insert(pod.name.clone());
            }
        });
        Self { pods: pods.clone(), names }
    }

    /// The pods that name a claim, ordered by name.
    pub fn of(&self, claim: &ObjectKey) -> Vec<Arc<Pod>> {
        let names: Vec<String> = self.names.read().get(claim).into_iter().flatten().cloned().collect();
        names.iter().filter_map(|name| self.pods.get(&claim.namespace, name)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::resources;
    use serde_json::json;

    #[test]
    fn pods_are_found_by_their_claims() {
        let pod = |name: &str, volumes: serde_json::Value| -> Pod {
            let metadata = json!({"name": name, "namespace": "n"});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"volumes": volumes}})).unwrap()
        };
        let mine = json!([{"name": "a", "persistentVolumeClaim": {"claimName": "mine"}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}}, {"name": "c", "emptyDir": {}}]);
        let pods = vec![pod("p", mine.clone()), pod("q", mine), pod("r", serde_json::Value::Null)];
        let index = PodsByClaim::new(&Informer::fixed(&resources::PODS, pods));
        let of = |claim: &str| -> Vec<String> {
            index.of(&ObjectKey::new("n", claim)).iter().map(|pod| pod.metadata.name.clone()).collect()
        };
        assert_eq!((of("mine"), of("p-b")), (vec!["p".to_owned(), "q".to_owned()], vec!["p".to_owned()]));
        assert!(of("c").is_empty() && of("b").is_empty());
        assert_eq!(index.names.read().len(), 3);
    }
}
