//! Refuses nodes outside the zone or region that a bound volume's labels name.

use std::collections::BTreeSet;

use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};

const REASON: &str = "node(s) had no available volume zone";
/// The labels that place a volume, and the newer name of those that are old.
const KEYS: [(&str, Option<&str>); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", Some("topology.kubernetes.io/zone")),
    ("failure-domain.beta.kubernetes.io/region", Some("topology.kubernetes.io/region")),
    ("topology.kubernetes.io/zone", None),
    ("topology.kubernetes.io/region", None),
];

/// The plugin.
pub struct VolumeZone;

struct Placement {
    key: &'static str,
    newer: Option<&'static str>,
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
        for volume in incoming.pod.volumes.iter().filter(|volume| !volume.ephemeral) {
            let claim = view.listers.claims.get(&incoming.pod.metadata.namespace, &volume.claim);
            let Some(name) = claim.map(|claim| claim.volume_name.clone()).filter(|name| !name.is_empty()) else {
                continue;
            };
            let Some(volume) = view.listers.volumes.get("", &name) else {
                let why = format!("persistentvolume {name:?} not found");
                return PreFilter::Reject(Rejection::unresolvable(why));
            };
            for (key, newer) in KEYS {
                if let Some(value) = volume.metadata.labels.get(key) {
                    // Volumes that are in several zones join their names by two underscores.
                    let values = value.split("__").map(str::to_owned).collect();
                    placements.push(Placement { key, newer, values });
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
        let value = |p: &Placement| node.label(p.key).or(p.newer.and_then(|newer| node.label(newer)));
        let inside = |p: &Placement| value(p).is_some_and(|value| p.values.contains(value));
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
        let (older, newer) = ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone");
        let claim = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeName": "v"}});
        let pod = with_spec("p", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
        let nodes = || {
            let labels = [json!({newer: "2"}), json!({older: "1"}), json!({newer: "3"}), json!({})];
            ["a", "b", "c", "d"].into_iter().zip(labels).map(|(name, labels)| node(name, labels)).collect::<Vec<_>>()
        };
        let said = |label: Option<&str>| {
            let volumes = label.map(|label| json!({"metadata": {"name": "v", "labels": {label: "1__2"}}}));
            let listers = Listers::default().with_storage(vec![claim.clone()], volumes.into_iter().collect(), vec![]);
            filter_with(&VolumeZone, &pod, nodes(), [], &listers)
        };
        let no = || Err(REASON.to_owned());
        assert_eq!(said(Some(newer)), [Ok(()), no(), no(), Ok(())]);
        // A label of the older name is also met by the newer one.
        assert_eq!(said(Some(older)), [Ok(()), Ok(()), no(), Ok(())]);
        assert_eq!(said(None)[0], Err("persistentvolume \"v\" not found".to_owned()));
    }
}
