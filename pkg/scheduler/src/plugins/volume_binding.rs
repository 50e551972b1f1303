//! Refuses nodes that a pod's volumes do not reach, and finds or provisions volumes for claims that wait for a consumer.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{Claim, ClaimPhase, Pod, PodVolume, StorageClass, Volume, volume_reaches};
use crate::cache::{Cache, NodeInfo};
use crate::framework::{Event, Incoming, NodeFilter, Plugin, PreFilter, Rejection, View};
use crate::listers::Listers;

const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const VOLUME_GONE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";
/// Provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The plugin.
pub struct VolumeBinding;

/// A pod's claims by what is to be done about them.
struct Claims<'a> {
    bound: Vec<Arc<Claim>>,
    /// Unbound, and to be bound for the node that is chosen.
    waiting: Vec<(Arc<Claim>, Arc<StorageClass>)>,
    volumes: Vec<Arc<Volume>>,
    cache: &'a Cache,
    listers: &'a Listers,
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

    /// The claims that get a volume.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.bind.iter().map(|(claim, _)| claim).chain(&self.provision)
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
        let mut claims = Self { bound: Vec::new(), waiting: Vec::new(), volumes: Vec::new(), cache, listers };
        for volume in &pod.volumes {
            let claim = claim(pod, volume, listers)?;
            if claim.is_bound() {
                claims.bound.push(claim);
                continue;
            }
            let class = match claim.storage_class.as_str() {
                "" => None,
                name => Some(listers.storage_classes.get("", name).ok_or_else(|| {
                    Rejection::unresolvable(format!("storageclass.storage.k8s.io \"{name}\" not found"))
                })?),
            };
            match class.filter(|class| class.waits_for_consumer() && claim.volume_name.is_empty()) {
                Some(class) => claims.waiting.push((claim, class)),
                None => return Err(Rejection::unresolvable(UNBOUND)),
            }
        }
        if !claims.waiting.is_empty() {
            claims.volumes = listers.volumes.list();
            // The smallest volume that is large enough is taken.
            claims.volumes.sort_by_key(|v| v.storage);
        }
        Ok(claims)
    }

    fn decide(&self, node: &NodeInfo) -> Result<Decision, Rejection> {
        let (name, labels) = (node.node.name(), &node.node.metadata.labels);
        for claim in &self.bound {
            let volume = self.listers.volumes.get("", &claim.volume_name);
            let volume = volume.ok_or_else(|| Rejection::unresolvable(VOLUME_GONE))?;
            if !volume_reaches(&volume, name, labels) {
                return Err(Rejection::unresolvable(NODE_CONFLICT));
            }
        }
        let mut decision = Decision::default();
        let mut taken = BTreeSet::new();
        for (claim, class) in &self.waiting {
            let selected = claim.selected_node();
            if selected.is_some_and(|selected| selected != name) {
                return Err(Rejection::unresolvable(NO_VOLUME));
            }
            let free = |v: &&Arc<Volume>| {
                !taken.contains(&v.metadata.name) && self.suits(v, claim) && volume_reaches(v, name, labels)
            };
            if let Some(volume) = self.volumes.iter().filter(|_| selected.is_none()).find(free) {
                taken.insert(volume.metadata.name.clone());
                decision.bind.push((claim.clone(), volume.clone()));
            } else if matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) || !class.allows(labels) {
                return Err(Rejection::unresolvable(NO_VOLUME));
            } else {
                decision.provision.push(claim.clone());
            }
        }
        Ok(decision)
    }

    /// Whether a volume can be bound to a claim, apart from the node.
    fn suits(&self, volume: &Volume, claim: &Claim) -> bool {
        let mode = |mode: &str| if mode.is_empty() { "Filesystem" } else { mode }.to_owned();
        let meant = |uid: &str, name: &str| uid.is_empty() || uid == claim.metadata.uid || name.is_empty();
        let unclaimed = volume.claim.as_ref().is_none_or(|c| {
            c.namespace == claim.metadata.namespace && c.name == claim.metadata.name && meant(&c.uid, &c.name)
        });
        unclaimed
            && (volume.available || volume.claim.is_some())
            && !volume.metadata.is_deleting()
            && !self.cache.volume_reserved(&volume.metadata.name)
            && volume.storage_class == claim.storage_class
            && volume.storage >= claim.storage
            && mode(&volume.volume_mode) == mode(&claim.volume_mode)
            && claim.access_modes.iter().all(|m| volume.access_modes.contains(m))
            && claim.selector.as_ref().is_none_or(|s| s.matches(&volume.metadata.labels))
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::Claim, Event::Volume, Event::StorageClass, Event::NodeAdd, Event::NodeLabel]
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
    fn a_claim_keeps_the_node_that_was_selected_for_it() {
        let selected = claim(late(), json!({"volume.kubernetes.io/selected-node": "b"}));
        let classes = vec![class("local-path", "WaitForFirstConsumer")];
        let listers = Listers::default().with_storage(vec![selected], vec![], classes);
        assert_eq!(verdicts(&listers), [refused(NO_VOLUME), Ok(())]);
    }
}
