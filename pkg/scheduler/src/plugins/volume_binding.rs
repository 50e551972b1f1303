//! Refuses nodes that a pod's volumes do not reach, and finds or provisions volumes for claims that wait for a consumer.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_meta::StringMap;

use crate::api::{Capacity, Claim, ClaimPhase, Pod, PodVolume, StorageClass, Volume, volume_reaches};
use crate::cache::{Cache, NodeInfo};
use crate::framework::{Code, Event, Incoming, NodeFilter, Plugin, PreFilter, Reason, Rejection, View};
use crate::listers::Listers;

const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const VOLUME_GONE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";
/// Provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The plugin.
pub struct VolumeBinding;

/// A pod's claims by what is to be done about them.
struct Claims<'a> {
    bound: Vec<Arc<Claim>>,
    /// Unbound, and to be bound for the node that is chosen; the smallest first.
    waiting: Vec<Waiting>,
    cache: &'a Cache,
    listers: &'a Listers,
}

/// A claim that is to be bound, and what comes into question.
struct Waiting {
    claim: Arc<Claim>,
    class: Arc<StorageClass>,
    /// Volumes that are meant for it.
    meant: Vec<Arc<Volume>>,
    /// Others that suit it, the smallest first.
    free: Vec<Arc<Volume>>,
    /// Where its driver has room for it, if the driver says so at all.
    room: Option<Vec<Arc<Capacity>>>,
}

/// Why the claims of a pod cannot be had on a node.
#[derive(Default)]
struct Conflicts {
    unreachable: bool,
    unbindable: bool,
    full: bool,
    lost: bool,
}

impl Conflicts {
    fn reasons(&self) -> Vec<Reason> {
        let all = [
            (self.unreachable, NODE_CONFLICT),
            (self.unbindable, NO_VOLUME),
            (self.full, NO_ROOM),
            (self.lost, VOLUME_GONE),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why.into()).collect()
    }
}

/// What is to be done about the claims of a pod on the chosen node.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Bind these claims to these volumes.
    pub bind: Vec<(Arc<Claim>, Arc<Volume>)>,
    /// Have volumes made for these.
    pub provision: Vec<Arc<Claim>>,
}

impl Decision {
    /// Everything is bound already.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// Decides about the claims of a pod for a node that has passed the filter.
///
/// # Errors
/// If the node would not pass any more.
pub fn decide(pod: &Pod, node: &NodeInfo, cache: &Cache, listers: &Listers) -> Result<Decision, Rejection> {
    if pod.volumes.is_empty() {
        return Ok(Decision::default());
    }
    Claims::of(pod, View { cache, listers })?.decide(node)
}

/// A claim of the pod, if it exists and may be used.
fn claim(pod: &Pod, volume: &PodVolume, listers: &Listers) -> Result<Arc<Claim>, Rejection> {
    let meta = &pod.metadata;
    let name = &volume.claim;
    let reject = |why: String| Err(Rejection::unresolvable(why));
    let Some(claim) = listers.claims.get(&meta.namespace, name) else {
        return reject(if volume.ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
        } else {
            format!("persistentvolumeclaim \"{name}\" not found")
        });
    };
    if claim.phase == ClaimPhase::Lost {
        let volume = &claim.volume_name;
        return reject(format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""));
    }
    if claim.metadata.is_deleting() {
        return reject(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    if volume.ephemeral && !claim.metadata.is_controlled_by(&meta.uid) {
        let (namespace, pod) = (&meta.namespace, &meta.name);
        return reject(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"));
    }
    Ok(claim)
}

impl<'a> Claims<'a> {
    fn of(pod: &Pod, view: View<'a>) -> Result<Self, Rejection> {
        let View { cache, listers } = view;
        let mut claims = Self { bound: Vec::new(), waiting: Vec::new(), cache, listers };
        for volume in &pod.volumes {
            let claim = claim(pod, volume, listers)?;
            if claim.is_bound() {
                claims.bound.push(claim);
                continue;
            }
            let class = listers.storage_classes.get("", &claim.storage_class);
            match class.filter(|class| class.waits_for_consumer() && claim.volume_name.is_empty()) {
                Some(class) => claims.waiting.push(Waiting::new(claim, class, view)),
                None => return Err(Rejection::unresolvable(UNBOUND)),
            }
        }
        claims.waiting.sort_by_key(|waiting| waiting.claim.storage);
        Ok(claims)
    }

    fn decide(&self, node: &NodeInfo) -> Result<Decision, Rejection> {
        let mut conflicts = Conflicts::default();
        self.check_bound(node, &mut conflicts);
        let decision = self.decide_waiting(node, &mut conflicts);
        match conflicts.reasons() {
            reasons if reasons.is_empty() => Ok(decision),
            reasons => Err(Rejection { code: Code::UnschedulableAndUnresolvable, reasons }),
        }
    }

    fn check_bound(&self, node: &NodeInfo, conflicts: &mut Conflicts) {
        for claim in &self.bound {
            match self.listers.volumes.get("", &claim.volume_name) {
                Some(volume) if volume_reaches(&volume, node.node.name(), &node.node.metadata.labels) => {}
                Some(_) => return conflicts.unreachable = true,
                None => return conflicts.lost = true,
            }
        }
    }

    fn decide_waiting(&self, node: &NodeInfo, conflicts: &mut Conflicts) -> Decision {
        let (name, labels) = (node.node.name(), &node.node.metadata.labels);
        let mut decision = Decision::default();
        if self.waiting.iter().any(|waiting| waiting.claim.selected_node().is_some_and(|selected| selected != name)) {
            conflicts.unbindable = true;
            return decision;
        }
        let mut taken = BTreeSet::new();
        let mut unmatched = Vec::new();
        for waiting in &self.waiting {
            let chosen = waiting.claim.selected_node().is_none().then(|| waiting.volume_for(node, &taken, self.cache));
            match chosen.flatten() {
                Some(volume) => {
                    taken.insert(volume.metadata.name.clone());
                    decision.bind.push((waiting.claim.clone(), volume));
                }
                None => unmatched.push(waiting),
            }
        }
        for waiting in unmatched {
            let class = &waiting.class;
            if matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) || !class.allows(labels) {
                conflicts.unbindable = true;
                return decision;
            }
            if !waiting.has_room(labels) {
                conflicts.full = true;
                return decision;
            }
            decision.provision.push(waiting.claim.clone());
        }
        decision
    }
}

/// Whether a volume is what a claim asks for, apart from class, labels and where it is.
fn suits(volume: &Volume, claim: &Claim) -> bool {
    let mode = |mode: &str| if mode.is_empty() { "Filesystem" } else { mode }.to_owned();
    volume.storage >= claim.storage
        && mode(&volume.volume_mode) == mode(&claim.volume_mode)
        && volume.attributes_class == claim.attributes_class
        && !volume.metadata.is_deleting()
}

impl Waiting {
    fn new(claim: Arc<Claim>, class: Arc<StorageClass>, view: View<'_>) -> Self {
        let listers = view.listers;
        let mut meant = listers.volume_index.meant(&claim.metadata.key());
        meant.retain(|volume| {
            let of_claim = volume.claim.as_ref().is_some_and(|of| of.uid.is_empty() || of.uid == claim.metadata.uid);
            of_claim && volume.storage_class == claim.storage_class && suits(volume, &claim)
        });
        let mut free = listers.volume_index.free(&claim.storage_class, claim.storage);
        free.retain(|volume| {
            volume.available
                && suits(volume, &claim)
                && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
                && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.metadata.labels))
        });
        let tells = listers.csi_drivers.get("", &class.provisioner).is_some_and(|driver| driver.tells_capacity());
        let room = tells.then(|| {
            let mut all = listers.capacities.list();
            all.retain(|capacity| {
                capacity.storage_class == class.metadata.name
                    && capacity.limit.is_some_and(|limit| limit >= claim.storage)
            });
            all
        });
        Self { claim, class, meant, free, room }
    }

    /// One that is meant for the claim, which then has to reach the node, else the smallest that does.
    fn volume_for(&self, node: &NodeInfo, taken: &BTreeSet<String>, cache: &Cache) -> Option<Arc<Volume>> {
        let reaches = |volume: &Arc<Volume>| volume_reaches(volume, node.node.name(), &node.node.metadata.labels);
        if let Some(meant) = self.meant.first() {
            return Some(meant.clone()).filter(reaches);
        }
        let is_free = |volume: &&Arc<Volume>| {
            let name = &volume.metadata.name;
            !taken.contains(name) && !cache.volume_reserved(name) && reaches(volume)
        };
        self.free.iter().find(is_free).cloned()
    }

    /// Whether the driver has room for it, as far as it says.
    fn has_room(&self, labels: &StringMap) -> bool {
        let reachable = |capacity: &Arc<Capacity>| capacity.nodes.as_ref().is_some_and(|nodes| nodes.matches(labels));
        self.room.as_ref().is_none_or(|room| room.iter().any(reachable))
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::Claim, Event::Volume, Event::StorageClass, Event::NodeAdd, Event::NodeLabel, Event::Capacity]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        if incoming.pod.volumes.is_empty() {
            return PreFilter::Skip;
        }
        match Claims::of(incoming.pod, view) {
            Ok(claims) => PreFilter::Check(Box::new(claims)),
            Err(rejection) => PreFilter::Reject(rejection),
        }
    }
}

impl NodeFilter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.decide(node).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plugins::testing::filter_with;
    use crate::testing::{cache, node, with_spec};
    use serde_json::{Value, json};

    fn user() -> Arc<Pod> {
        with_spec("p", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}))
    }

    fn claim(spec: Value, annotations: Value) -> Value {
        let meta = json!({"name": "c", "namespace": "default", "uid": "c", "annotations": annotations});
        json!({"metadata": meta, "spec": spec})
    }

    fn volume(name: &str, gib: u32, node: &str) -> Value {
        let expression = json!({"key": "host", "operator": "In", "values": [node]});
        let required = json!({"nodeSelectorTerms": [{"matchExpressions": [expression]}]});
        json!({"metadata": {"name": name}, "spec": {
            "capacity": {"storage": format!("{gib}Gi")}, "storageClassName": "late",
            "nodeAffinity": {"required": required}}, "status": {"phase": "Available"}})
    }

    fn class(provisioner: &str, mode: &str) -> Value {
        json!({"metadata": {"name": "late"}, "provisioner": provisioner, "volumeBindingMode": mode})
    }

    fn late() -> Value {
        json!({"storageClassName": "late", "resources": {"requests": {"storage": "5Gi"}}})
    }

    fn verdicts(listers: &Listers) -> Vec<Result<(), String>> {
        let nodes = ["a", "b"].map(|n| node(n, json!({"host": n})));
        filter_with(&VolumeBinding, &user(), nodes, [], listers)
    }

    fn refused(why: &str) -> Result<(), String> {
        Err(why.to_owned())
    }

    #[test]
    fn a_missing_or_unbound_claim_refuses_all_nodes() {
        let none = Listers::default();
        assert_eq!(verdicts(&none)[0], refused("persistentvolumeclaim \"c\" not found"));
        let early = |claims| Listers::default().with_storage(claims, vec![], vec![class("x", "Immediate")]);
        assert_eq!(verdicts(&early(vec![claim(late(), json!({}))]))[0], refused(UNBOUND));
    }

    #[test]
    fn a_bound_volume_draws_the_pod_to_where_it_is() {
        let bound = claim(json!({"volumeName": "v"}), json!({"pv.kubernetes.io/bind-completed": "yes"}));
        let with = |volumes| Listers::default().with_storage(vec![bound.clone()], volumes, vec![]);
        assert_eq!(verdicts(&with(vec![volume("v", 5, "b")])), [refused(NODE_CONFLICT), Ok(())]);
        assert_eq!(verdicts(&with(vec![])), [refused(VOLUME_GONE), refused(VOLUME_GONE)]);
    }

    #[test]
    fn a_waiting_claim_takes_the_smallest_volume_that_reaches_the_node_or_has_one_made() {
        let volumes = vec![volume("small", 1, "a"), volume("large", 50, "a"), volume("fit", 5, "a")];
        let with = |provisioner| {
            let claims = vec![claim(late(), json!({}))];
            Listers::default().with_storage(claims, volumes.clone(), vec![class(provisioner, "WaitForFirstConsumer")])
        };
        assert_eq!(verdicts(&with(NO_PROVISIONER)), [Ok(()), refused(NO_VOLUME)]);
        let listers = with("local-path");
        assert_eq!(verdicts(&listers), [Ok(()), Ok(())]);
        let cache = cache(["a", "b"].map(|n| node(n, json!({"host": n}))), []);
        let at = |index| decide(&user(), cache.info(index), &cache, &listers).unwrap();
        assert_eq!(at(0).bind[0].1.metadata.name, "fit");
        assert!(at(1).bind.is_empty() && at(1).provision.len() == 1);
    }

    #[test]
    fn a_volume_that_is_meant_for_the_claim_is_the_only_one() {
        let mut meant = volume("meant", 50, "b");
        meant["spec"]["claimRef"] = json!({"namespace": "default", "name": "c"});
        let mut others = volume("others", 6, "a");
        others["spec"]["claimRef"] = json!({"namespace": "default", "name": "c", "uid": "another"});
        let with = |volumes| {
            let classes = vec![class(NO_PROVISIONER, "WaitForFirstConsumer")];
            Listers::default().with_storage(vec![claim(late(), json!({}))], volumes, classes)
        };
        let fit = volume("fit", 5, "a");
        assert_eq!(verdicts(&with(vec![meant.clone(), fit.clone(), others])), [refused(NO_VOLUME), Ok(())]);
        meant["spec"]["volumeMode"] = json!("Block");
        assert_eq!(verdicts(&with(vec![meant, fit])), [Ok(()), refused(NO_VOLUME)]);
    }

    #[test]
    fn attributes_and_phases_have_to_fit() {
        let verdict = |wanted: Value, change: fn(&mut Value)| {
            let mut spec = late();
            spec["volumeAttributesClassName"] = wanted;
            let mut volume = volume("v", 5, "a");
            change(&mut volume);
            let classes = vec![class(NO_PROVISIONER, "WaitForFirstConsumer")];
            let listers = Listers::default().with_storage(vec![claim(spec, json!({}))], vec![volume], classes);
            verdicts(&listers)[0].is_ok()
        };
        assert!(verdict(json!(""), |_| {}) && !verdict(json!("gold"), |_| {}));
        assert!(verdict(json!("gold"), |v| v["spec"]["volumeAttributesClassName"] = json!("gold")));
        assert!(!verdict(json!(""), |v| v["status"]["phase"] = json!("Released")));
    }

    #[test]
    fn a_driver_that_tells_how_much_is_left_is_believed() {
        let capacity = |node: &str, limit: &str| {
            json!({"metadata": {"name": node, "namespace": "d"}, "storageClassName": "late", "capacity": limit,
                "nodeTopology": {"matchLabels": {"host": node}}})
        };
        let with = |tells: bool, capacities| {
            let driver = json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": tells}});
            let classes = vec![class("d", "WaitForFirstConsumer")];
            let listers = Listers::default().with_storage(vec![claim(late(), json!({}))], vec![], classes);
            verdicts(&listers.with_drivers(vec![driver], vec![], vec![]).with_capacities(capacities))
        };
        let both = vec![capacity("a", "4Gi"), capacity("b", "5Gi")];
        assert_eq!(with(true, both.clone()), [refused(NO_ROOM), Ok(())]);
        assert_eq!(with(false, both), [Ok(()), Ok(())]);
        assert_eq!(with(true, vec![]), [refused(NO_ROOM), refused(NO_ROOM)]);
        let mut largest = capacity("a", "100Gi");
        largest["maximumVolumeSize"] = json!("1Gi");
        assert_eq!(with(true, vec![largest])[0], refused(NO_ROOM));
    }

    #[test]
    fn a_claim_keeps_the_node_that_was_selected_for_it() {
        let selected = claim(late(), json!({"volume.kubernetes.io/selected-node": "b"}));
        let classes = vec![class("local-path", "WaitForFirstConsumer")];
        let listers = Listers::default().with_storage(vec![selected], vec![], classes);
        assert_eq!(verdicts(&listers), [refused(NO_VOLUME), Ok(())]);
    }
}
