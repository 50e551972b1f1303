//! Pods that no selector can tell apart, counted by node.
//!
//! Pods of one workload share namespace, labels and affinity. Selectors are therefore matched once for each class of such
//! pods and not for each pod, and counting the pods that match costs one step for each node that has some.
//! Invariant: a class exists exactly as long as a pod of it does; its counts are those of the cache's nodes.

use kedge_meta::StringMap;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::api::{Pod, PodAffinity};

/// A class of pods.
#[derive(Debug)]
pub struct Class {
    pub namespace: String,
    pub labels: StringMap,
    /// Being deleted: topology spreading does not count it.
    pub terminating: bool,
    pub affinity: Option<Arc<PodAffinity>>,
    /// How many there are, by index of the node.
    pub nodes: HashMap<usize, u32>,
    hash: u64,
}

/// All classes.
#[derive(Debug, Default)]
pub struct Classes {
    slots: Vec<Option<Class>>,
    free: Vec<usize>,
    by_hash: HashMap<u64, Vec<usize>>,
    by_namespace: HashMap<String, BTreeSet<usize>>,
    with_affinity: BTreeSet<usize>,
}

fn hash(pod: &Pod) -> u64 {
    let mut hasher = DefaultHasher::new();
    let meta = &pod.metadata;
    (&meta.namespace, &meta.labels, meta.is_deleting(), pod.affinity.is_some()).hash(&mut hasher);
    hasher.finish()
}

impl Class {
    fn holds(&self, pod: &Pod) -> bool {
        self.namespace == pod.metadata.namespace
            && self.labels == pod.metadata.labels
            && self.terminating == pod.metadata.is_deleting()
            && self.affinity == pod.affinity
    }
}

impl Classes {
    /// Counts a pod on a node.
    pub fn add(&mut self, pod: &Pod, node: usize) {
        let hash = hash(pod);
        let id = self.find(hash, pod).unwrap_or_else(|| self.create(hash, pod));
        if let Some(class) = &mut self.slots[id] {
            *class.nodes.entry(node).or_default() += 1;
        }
    }

    /// Takes back an [`add`](Self::add) of an equal pod.
    pub fn remove(&mut self, pod: &Pod, node: usize) {
        let Some(id) = self.find(hash(pod), pod) else { return };
        let Some(class) = &mut self.slots[id] else { return };
        if let Some(count) = class.nodes.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                class.nodes.remove(&node);
            }
        }
        if class.nodes.is_empty() {
            self.drop_class(id);
        }
    }

    /// The classes of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Class> + use<'a> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|id| self.slots[*id].as_ref())
    }

    /// All classes.
    pub fn all(&self) -> impl Iterator<Item = &Class> {
        self.slots.iter().flatten()
    }

    /// The classes whose pods have affinity or anti-affinity terms.
    pub fn with_affinity(&self) -> impl Iterator<Item = (&Class, &PodAffinity)> {
        let ids = self.with_affinity.iter();
        ids.filter_map(|id| self.slots[*id].as_ref()).filter_map(|c| Some((c, c.affinity.as_deref()?)))
    }

    fn find(&self, hash: u64, pod: &Pod) -> Option<usize> {
        let ids = self.by_hash.get(&hash)?;
        ids.iter().copied().find(|id| self.slots[*id].as_ref().is_some_and(|c| c.holds(pod)))
    }

    fn create(&mut self, hash: u64, pod: &Pod) -> usize {
        let class = Class {
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            terminating: pod.metadata.is_deleting(),
            affinity: pod.affinity.clone(),
            nodes: HashMap::new(),
            hash,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_hash.entry(hash).or_default().push(id);
        self.by_namespace.entry(class.namespace.clone()).or_default().insert(id);
        if class.affinity.is_some() {
            self.with_affinity.insert(id);
        }
        self.slots[id] = Some(class);
        id
    }

    fn drop_class(&mut self, id: usize) {
        let Some(class) = self.slots[id].take() else { return };
        if let Some(ids) = self.by_hash.get_mut(&class.hash) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_hash.remove(&class.hash);
            }
        }
        if let Some(ids) = self.by_namespace.get_mut(&class.namespace) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_namespace.remove(&class.namespace);
            }
        }
        self.with_affinity.remove(&id);
        self.free.push(id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn equal_pods_share_a_class_and_the_last_one_ends_it() {
        let labelled = |name: &str, app: &str| {
            pod(json!({"metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": app}}}))
        };
        let mut classes = Classes::default();
        classes.add(&labelled("1", "x"), 0);
        classes.add(&labelled("2", "x"), 0);
        classes.add(&labelled("3", "x"), 4);
        classes.add(&labelled("4", "y"), 4);
        assert_eq!(classes.in_namespace("a").count(), 2);
        assert_eq!(classes.in_namespace("b").count(), 0);
        let x = classes.in_namespace("a").find(|c| &c.labels["app"] == "x").unwrap();
        assert_eq!((x.nodes[&0], x.nodes[&4]), (2, 1));
        for name in ["1", "2"] {
            classes.remove(&labelled(name, "x"), 0);
        }
        classes.remove(&labelled("3", "x"), 4);
        assert_eq!(classes.all().count(), 1);
        classes.add(&labelled("5", "z"), 1);
        assert_eq!(classes.slots.len(), 2, "slots are used again");
    }
}
