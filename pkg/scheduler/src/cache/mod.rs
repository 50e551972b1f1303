//! The nodes and what occupies them, including pods that are assumed to be bound because their binding is on its way.
//!
//! Invariants: a pod occupies at most one node; a node's sums are those of its pods; a pod whose node is not known (yet)
//! is kept under the node's name and counts as soon as the node appears. Assumed pods do not expire: each one is confirmed
//! by its update, forgotten when binding fails, or removed by its deletion, and all three are certain to come.

mod classes;
mod images;
mod labels;
mod nodeinfo;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use classes::{Class, Classes};
pub use images::{Image, Images};
pub use labels::{Domains, LabelId};
pub use nodeinfo::NodeInfo;

use labels::Interner;

use crate::api::{Node, Pod};

/// The state that scheduling decides upon.
#[derive(Debug, Default)]
pub struct Cache {
    /// Indices are stable as long as a node or a pod on it exists.
    infos: Vec<NodeInfo>,
    free: Vec<usize>,
    by_name: HashMap<String, usize>,
    /// The existing nodes, alternating between zones.
    order: Vec<usize>,
    pods: HashMap<String, Placed>,
    pub classes: Classes,
    pub images: Images,
    labels: Interner,
    nominated: HashMap<String, Nominated>,
    /// Volumes that are being bound to claims.
    reserved: BTreeSet<String>,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    node: usize,
    assumed: bool,
}

#[derive(Debug, Clone)]
struct Nominated {
    pod: Arc<Pod>,
    node: String,
}

impl Cache {
    /// The same nodes and pods with sums that are made anew, for when it is not known whether those here are right.
    pub fn rebuilt(&self) -> Self {
        let mut new = Self { nominated: self.nominated.clone(), reserved: self.reserved.clone(), ..Self::default() };
        self.infos.iter().filter(|info| info.exists).for_each(|info| new.set_node(info.node.clone()));
        for Placed { pod, node, assumed } in self.pods.values() {
            if *assumed {
                let node = new.slot(self.infos[*node].node.name());
                new.assume(pod.clone(), node);
            } else {
                new.set_pod(pod.clone());
            }
        }
        new
    }

    /// The existing nodes in the order in which they are tried.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The existing nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().map(|i| &self.infos[*i])
    }

    /// A node by index, as given by [`Cache::order`] and the classes.
    pub fn info(&self, index: usize) -> &NodeInfo {
        &self.infos[index]
    }

    /// One more than the largest index.
    pub fn index_bound(&self) -> usize {
        self.infos.len()
    }

    /// The index of an existing node.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied().filter(|i| self.infos[*i].exists)
    }

    /// Takes in a new or changed node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let index = self.slot(node.name());
        let info = &self.infos[index];
        let reorder = !info.exists || info.node.zone() != node.zone();
        self.replace_node(index, node, true);
        if reorder {
            self.reorder();
        }
    }

    fn replace_node(&mut self, index: usize, node: Arc<Node>, exists: bool) {
        let images = node.images.iter().map(|(name, size)| self.images.add(name, *size)).collect();
        let labels = &node.metadata.labels;
        let labels = labels.iter().map(|(k, v)| (self.labels.acquire(k), self.labels.acquire(v))).collect();
        let (images, labels) = self.infos[index].replace(node, exists, images, labels);
        images.into_iter().for_each(|id| self.images.remove(id));
        for (key, value) in labels {
            self.labels.release(key);
            self.labels.release(value);
        }
    }

    /// The number of a label key; `None` if no node has it.
    pub fn label_key(&self, key: &str) -> Option<LabelId> {
        self.labels.get(key)
    }

    /// Counters for the values of a label.
    pub fn domains(&self) -> Domains {
        Domains::new(self.labels.bound())
    }

    /// Removes a node; its pods stay until they are removed themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.find(name) else { return };
        self.replace_node(index, Arc::new(nodeinfo::nameless(name)), false);
        self.release(index);
        self.reorder();
    }

    /// Takes in a bound pod, new or changed; it confirms an assumed one.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        self.place(pod, None);
    }

    /// Counts a pod on a node before it is bound there.
    pub fn assume(&mut self, pod: Arc<Pod>, node: usize) {
        self.unnominate(pod.uid());
        self.place(pod, Some(node));
    }

    fn place(&mut self, pod: Arc<Pod>, assumed: Option<usize>) {
        self.remove_pod(pod.uid());
        let node = assumed.unwrap_or_else(|| self.slot(&pod.node_name));
        self.occupy(&pod, node);
        self.pods.insert(pod.uid().to_owned(), Placed { pod, node, assumed: assumed.is_some() });
    }

    /// Removes a pod that has ended; returns whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(placed) = self.pods.remove(uid) else { return false };
        self.vacate(&placed.pod, placed.node);
        self.release(placed.node);
        true
    }

    /// Takes back an [`assume`](Self::assume), unless the binding has been seen meanwhile.
    pub fn forget(&mut self, uid: &str) -> bool {
        self.is_assumed(uid) && self.remove_pod(uid)
    }

    /// Whether the pod is counted but not known to be bound.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|p| p.assumed)
    }

    /// Whether the pod is counted on a node.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Counts a pod on a node for a trial; [`vacate`](Self::vacate) must follow.
    pub fn occupy(&mut self, pod: &Arc<Pod>, node: usize) {
        self.infos[node].add(pod.clone());
        self.classes.add(pod, node);
    }

    /// Uncounts a pod for a trial, or after one; the pod itself stays known.
    pub fn vacate(&mut self, pod: &Pod, node: usize) {
        if self.infos[node].remove(pod.uid()).is_some() {
            self.classes.remove(pod, node);
        }
    }

    /// Notes that a pod waits for a node on which it has preempted others; an empty name ends that.
    pub fn nominate(&mut self, pod: Arc<Pod>, node: &str) {
        if node.is_empty() {
            self.unnominate(pod.uid());
        } else {
            self.nominated.insert(pod.uid().to_owned(), Nominated { pod, node: node.to_owned() });
        }
    }

    /// The pod no longer waits for a node.
    pub fn unnominate(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Whether no pod waits for any node, which is almost always so.
    pub fn none_nominated(&self) -> bool {
        self.nominated.is_empty()
    }

    /// The existing nodes that pods wait for.
    pub fn nominated_nodes(&self) -> BTreeSet<usize> {
        self.nominated.values().filter_map(|n| self.find(&n.node)).collect()
    }

    /// The pods that wait for a node.
    pub fn nominated_to(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.nominated.values().filter(move |n| n.node == node).map(|n| &n.pod)
    }

    /// Keeps a volume for the claim it is being bound to.
    pub fn reserve_volume(&mut self, name: &str) {
        self.reserved.insert(name.to_owned());
    }

    /// The binding has been seen, or has failed.
    pub fn release_volume(&mut self, name: &str) {
        self.reserved.remove(name);
    }

    /// Whether a volume is being bound to a claim.
    pub fn volume_reserved(&self, name: &str) -> bool {
        self.reserved.contains(name)
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let info = NodeInfo::missing(name);
        let index = match self.free.pop() {
            Some(index) => {
                self.infos[index] = info;
                index
            }
            None => {
                self.infos.push(info);
                self.infos.len() - 1
            }
        };
        self.by_name.insert(name.to_owned(), index);
        index
    }

    /// Gives the slot of a node back that neither exists nor has pods.
    fn release(&mut self, index: usize) {
        let info = &self.infos[index];
        if !info.exists && info.pods.is_empty() && self.by_name.remove(info.node.name()).is_some() {
            self.free.push(index);
        }
    }

    /// Lists the nodes by taking one of each zone in turn, so that pods spread over zones also when not all nodes are tried.
    fn reorder(&mut self) {
        let mut zones: Vec<(String, Vec<usize>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut indices: Vec<usize> = self.by_name.values().copied().filter(|i| self.infos[*i].exists).collect();
        indices.sort_unstable();
        for index in indices {
            let zone = self.infos[index].node.zone();
            let place = *places.entry(zone.clone()).or_insert_with(|| {
                zones.push((zone, Vec::new()));
                zones.len() - 1
            });
            zones[place].1.push(index);
        }
        let longest = zones.iter().map(|(_, z)| z.len()).max().unwrap_or_default();
        self.order = (0..longest).flat_map(|i| zones.iter().filter_map(move |(_, z)| z.get(i).copied())).collect();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{bound, node, sized};
    use serde_json::json;

    #[test]
    fn an_assumed_pod_is_confirmed_forgotten_or_removed() {
        let mut cache = Cache::default();
        cache.set_node(node("n", json!({})));
        let index = cache.find("n").unwrap();
        cache.assume(sized("p", "500m"), index);
        assert_eq!(cache.info(index).requested.milli_cpu, 500);
        assert!(cache.forget("p"));
        assert_eq!(cache.info(index).requested.milli_cpu, 0);
        cache.assume(sized("p", "500m"), index);
        cache.set_pod(bound("p", "n", "500m"));
        assert!(!cache.forget("p"), "a bound pod is not forgotten");
        assert_eq!((cache.info(index).pods.len(), cache.info(index).requested.milli_cpu), (1, 500));
        assert!(cache.remove_pod("p") && !cache.remove_pod("p"));
        assert_eq!(cache.classes.all().count(), 0);
    }

    #[test]
    fn pods_may_come_before_their_node_and_stay_after_it() {
        let mut cache = Cache::default();
        cache.set_pod(bound("p", "n", "1"));
        assert_eq!((cache.find("n"), cache.order().len()), (None, 0));
        cache.set_node(node("n", json!({})));
        let index = cache.find("n").unwrap();
        assert_eq!(cache.info(index).requested.milli_cpu, 1000);
        cache.remove_node("n");
        assert_eq!(cache.nodes().count(), 0);
        cache.remove_pod("p");
        cache.set_node(node("m", json!({})));
        assert_eq!(cache.find("m"), Some(index), "the slot is used again");
    }

    #[test]
    fn the_order_alternates_between_zones() {
        let mut cache = Cache::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")] {
            cache.set_node(node(name, json!({"topology.kubernetes.io/zone": zone})));
        }
        let names: Vec<_> = cache.nodes().map(|n| n.node.name().to_owned()).collect();
        assert_eq!(names, ["a1", "b1", "c1", "a2", "a3"]);
    }
}
