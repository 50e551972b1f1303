//! Refuses nodes while a `ReadWriteOncePod` claim of the pod is in use by another pod.

use std::collections::BTreeSet;

use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str =
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// The plugin.
pub struct VolumeRestrictions;

struct Filter;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodDelete, Event::Claim, Event::NodeAdd]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        let namespace = &incoming.pod.metadata.namespace;
        let mut claims = BTreeSet::new();
        // One of the pod's own is nobody else's.
        for volume in incoming.pod.volumes.iter().filter(|volume| !volume.ephemeral) {
            let name = volume.claim.as_str();
            let Some(claim) = view.listers.claims.get(namespace, name) else {
                let why = format!("persistentvolumeclaim {name:?} not found");
                return PreFilter::Reject(Rejection::unresolvable(why));
            };
            if claim.access_modes.iter().any(|mode| mode == "ReadWriteOncePod") {
                claims.insert(name);
            }
        }
        if claims.is_empty() {
            return PreFilter::Skip;
        }
        let mut others = view.cache.nodes().flat_map(|n| &n.pods).filter(|p| &p.metadata.namespace == namespace);
        if others.any(|p| p.volumes.iter().any(|v| claims.contains(v.claim.as_str()))) {
            PreFilter::Check(Box::new(Filter))
        } else {
            PreFilter::Skip
        }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, _node: &NodeInfo) -> Result<(), Rejection> {
        Err(Rejection::unschedulable(REASON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listers::Listers;
    use crate::plugins::testing::filter_with;
    use crate::testing::{node, with_spec};
    use serde_json::json;

    #[test]
    fn a_claim_for_one_pod_serves_no_second() {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let pod = with_spec("p", json!({"volumes": volumes}));
        let other = with_spec("o", json!({"volumes": volumes, "nodeName": "n"}));
        let meta = json!({"name": "c", "namespace": "default"});
        let verdict = |mode: &str| {
            let claim = json!({"metadata": meta, "spec": {"accessModes": [mode]}});
            let listers = Listers::default().with_storage(vec![claim], vec![], vec![]);
            filter_with(&VolumeRestrictions, &pod, [node("n", json!({}))], [other.clone()], &listers)
        };
        assert_eq!(verdict("ReadWriteOncePod"), [Err(REASON.to_owned())]);
        assert_eq!(verdict("ReadWriteOnce"), [Ok(())]);
        let none = filter_with(&VolumeRestrictions, &pod, [node("n", json!({}))], [], &Listers::default());
        assert_eq!(none, [Err("persistentvolumeclaim \"c\" not found".to_owned())]);
    }
}
