//! Refuses nodes outside the zone or region that a bound volume's labels name.

use std::collections::BTreeSet;

use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str = "node(s) had no available volume zone";
/// The labels that place a volume, and the older name of each.
const KEYS: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// The plugin.
pub struct VolumeZone;

struct Placement {
    key: &'static str,
    other: &'static str,
    values: BTreeSet<String>,
}

struct Filter(Vec<Placement>);

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::Claim, Event::Volume, Event::StorageClass, Event::NodeAdd, Event::NodeLabel]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        let mut placements = Vec::new();
        for volume in &incoming.pod.volumes {
            let claim = view.listers.claims.get(&incoming.pod.metadata.namespace, &volume.claim);
            let Some(volume) = claim.and_then(|c| view.listers.volumes.get("", &c.volume_name)) else { continue };
            for (key, other) in KEYS {
                if let Some(value) = volume.metadata.labels.get(key) {
                    // Volumes that are in several zones join their names by two underscores.
                    let values = value.split("__").map(str::to_owned).collect();
                    placements.push(Placement { key, other, values });
                }
            }
        }
        if placements.is_empty() { PreFilter::Skip } else { PreFilter::Check(Box::new(Filter(placements))) }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let node = &node.node;
        // A cluster without zones is not told apart by them.
        if KEYS.iter().all(|(key, _)| node.label(key).is_none()) {
            return Ok(());
        }
        let inside = |p: &Placement| node.label(p.key).or(node.label(p.other)).is_some_and(|v| p.values.contains(v));
        if self.0.iter().all(inside) { Ok(()) } else { Err(Rejection::unresolvable(REASON)) }
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
    fn the_volume_keeps_the_pod_in_its_zones() {
        let claim = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeName": "v"}});
        let volume = json!({"metadata": {"name": "v", "labels": {"topology.kubernetes.io/zone": "1__2"}}});
        let listers = Listers::default().with_storage(vec![claim], vec![volume], vec![]);
        let pod = with_spec("p", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
        let nodes = [
            node("a", json!({"topology.kubernetes.io/zone": "2"})),
            node("b", json!({"failure-domain.beta.kubernetes.io/zone": "1"})),
            node("c", json!({"topology.kubernetes.io/zone": "3"})),
            node("d", json!({})),
        ];
        let said = filter_with(&VolumeZone, &pod, nodes, [], &listers);
        assert_eq!(said, [Ok(()), Ok(()), Err(REASON.to_owned()), Ok(())]);
    }
}
