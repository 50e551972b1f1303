//! Refuses nodes on which a driver has as many volumes as it can have there.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Pod;
use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};
use crate::listers::Listers;

const REASON: &str = "node(s) exceed max volume count";

/// The plugin.
pub struct NodeVolumeLimits;

/// A volume of a driver: by its handle, or by the claim that it will be made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Handle {
    Volume(String),
    Claim(String),
}

type Volumes = BTreeSet<(String, Handle)>;

struct Filter<'a> {
    wanted: Volumes,
    listers: &'a Listers,
}

/// The volumes of drivers that a pod uses.
fn volumes_of(pod: &Pod, listers: &Listers) -> Volumes {
    let namespace = &pod.metadata.namespace;
    let of = |name: &String| {
        let claim = listers.claims.get(namespace, name)?;
        let volume = Some(claim.volume_name.as_str()).filter(|name| !name.is_empty());
        match volume.and_then(|name| listers.volumes.get("", name)) {
            Some(volume) => {
                let csi = volume.csi.as_ref().filter(|csi| !csi.driver.is_empty() && !csi.volume_handle.is_empty())?;
                Some((csi.driver.clone(), Handle::Volume(csi.volume_handle.clone())))
            }
            // It is yet to be made, or to be seen.
            None => {
                let class = listers.storage_classes.get("", &claim.storage_class)?;
                Some((class.provisioner.clone(), Handle::Claim(format!("{namespace}/{name}"))))
            }
        }
    };
    pod.volumes.iter().filter_map(|volume| of(&volume.claim)).filter(|(driver, _)| !driver.is_empty()).collect()
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::CsiNode, Event::PodDelete, Event::Claim, Event::AttachmentDelete]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        let wanted = volumes_of(incoming.pod, view.listers);
        if wanted.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(Filter { wanted, listers: view.listers }))
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let name = node.node.name();
        let Some(drivers) = self.listers.csi_nodes.get("", name) else { return Ok(()) };
        let limits = drivers.limits();
        if limits.is_empty() {
            return Ok(());
        }
        // What pods there use, and what is attached although no pod uses it (any more).
        let mut there: Volumes = node.pods.iter().flat_map(|pod| volumes_of(pod, self.listers)).collect();
        for attachment in self.listers.attachment_index.on(name) {
            let volume = self.listers.volumes.get("", &attachment.volume);
            if let Some(csi) = volume.and_then(|volume| volume.csi.clone()) {
                there.insert((attachment.driver.clone(), Handle::Volume(csi.volume_handle)));
            }
        }
        let count = |volumes: &mut dyn Iterator<Item = &(String, Handle)>| {
            let mut counts: BTreeMap<String, i64> = BTreeMap::new();
            volumes.for_each(|(driver, _)| *counts.entry(driver.clone()).or_default() += 1);
            counts
        };
        let counted = count(&mut there.iter());
        let added = count(&mut self.wanted.difference(&there));
        let exceeds = |driver: &str, more: i64| {
            limits.get(driver).is_some_and(|limit| counted.get(driver).copied().unwrap_or_default() + more > *limit)
        };
        if added.iter().any(|(driver, more)| exceeds(driver, *more)) {
            return Err(Rejection::unschedulable(REASON));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::filter_with;
    use crate::testing::{node, with_spec};
    use serde_json::{Value, json};

    fn claim(name: &str, volume: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"volumeName": volume, "storageClassName": "made"}})
    }

    fn volume(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "d", "volumeHandle": format!("h-{name}")}}})
    }

    fn user(name: &str, node: &str, claims: &[&str]) -> std::sync::Arc<Pod> {
        let volumes: Vec<Value> =
            claims.iter().map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}})).collect();
        with_spec(name, json!({"nodeName": node, "volumes": volumes}))
    }

    #[test]
    fn a_driver_has_only_so_many_volumes_on_a_node() {
        let claims = vec![claim("a", "va"), claim("b", "vb"), claim("c", ""), claim("x", "vx")];
        let plain = json!({"metadata": {"name": "vx"}, "spec": {"hostPath": {"path": "/x"}}});
        let class = json!({"metadata": {"name": "made"}, "provisioner": "d"});
        let of = |limit: Value, attached: Vec<Value>| {
            let drivers = json!([{"name": "d", "allocatable": {"count": limit}}, {"name": "other"}]);
            let csi_node = json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}});
            let volumes = vec![volume("va"), volume("vb"), volume("vc"), plain.clone()];
            let listers = Listers::default().with_storage(claims.clone(), volumes, vec![class.clone()]);
            listers.with_drivers(vec![], vec![csi_node], attached)
        };
        let verdict = |listers: &Listers, wanted: &[&str], there: &[&str]| {
            let pods = there.iter().map(|claim| user(claim, "n", &[claim]));
            filter_with(&NodeVolumeLimits, &user("p", "", wanted), [node("n", json!({}))], pods, listers).remove(0)
        };
        let no = || Err(REASON.to_owned());
        let two = of(json!(2), vec![]);
        assert_eq!(verdict(&two, &["b"], &["a"]), Ok(()));
        assert_eq!(verdict(&two, &["a", "b"], &["a"]), Ok(()), "one volume counts once");
        assert_eq!(verdict(&two, &["b", "c"], &["a"]), no(), "also one that is yet to be made");
        assert_eq!(verdict(&two, &["x"], &["a", "b"]), Ok(()), "others do not count");
        let attached = |volume: &str| {
            let source = json!({"persistentVolumeName": volume});
            let spec = json!({"attacher": "d", "nodeName": "n", "source": source});
            json!({"metadata": {"name": format!("csi-{volume}")}, "spec": spec})
        };
        assert_eq!(verdict(&of(json!(2), vec![attached("vc")]), &["b"], &["a"]), no());
        assert_eq!(
            verdict(&of(json!(2), vec![attached("va")]), &["b"], &["a"]),
            Ok(()),
            "a pod and its attachment are one"
        );
        assert_eq!(verdict(&of(Value::Null, vec![]), &["a", "b", "c"], &[]), Ok(()));
    }
}
