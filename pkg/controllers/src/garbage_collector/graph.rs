//! Who owns whom, by uid, and what a change of one object means for the others.
//!
//! Invariant: an object's absence from the graph proves nothing; only the API server says that an owner is gone.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kedge_base::Room as _;
use kedge_meta::{ObjectMeta, OwnerReference, Resource};
use serde::{Deserialize, Deserializer};

use crate::objects::{Meta, keyed};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An object with only what the collector reads.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    pub metadata: ObjectMeta,
}
keyed!(Tracked);

impl<'de> Deserialize<'de> for Tracked {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Meta { mut metadata } = Meta::deserialize(d)?;
        metadata.labels.clear();
        metadata.annotations.clear();
        metadata.creation_timestamp = None;
        metadata.generate_name = String::new();
        Ok(Self { metadata })
    }
}

impl Tracked {
    fn has(&self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().any(|f| f == finalizer)
    }

    /// Whether it waits for its dependents to be deleted.
    pub fn waits_for_deletion(&self) -> bool {
        self.metadata.is_deleting() && self.has(FOREGROUND)
    }

    /// Whether it waits for its dependents to be orphaned.
    pub fn waits_for_orphaning(&self) -> bool {
        self.metadata.is_deleting() && self.has(ORPHAN)
    }

    fn blocks(&self, owner: &str) -> bool {
        self.metadata.owner_references.iter().any(|o| o.uid == owner && o.block_owner_deletion == Some(true))
    }
}

/// Something to look into, by the uid of the object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Whether the object must go, or can.
    Delete(String),
    /// The dependents of the object must lose their reference to it.
    Orphan(String),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(uid) => write!(f, "delete {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// An object in the graph.
#[derive(Debug, Clone)]
pub struct Node {
    pub resource: Arc<Resource>,
    pub object: Arc<Tracked>,
}

/// All objects that can be deleted.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// By the uid of the owner, which need not be in the graph.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The object with this uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// What refers to the object with this uid as an owner.
    pub fn dependents(&self, owner: &str) -> Vec<Node> {
        let uids = self.dependents.get(owner).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid)).cloned().collect()
    }

    /// Whether dependents keep the owner from going.
    pub fn is_blocked(&self, owner: &str) -> bool {
        self.dependents(owner).iter().any(|d| d.object.blocks(owner))
    }

    /// Takes in a change; returns what has to be looked into.
    pub fn apply(&mut self, resource: &Arc<Resource>, old: Option<&Tracked>, new: Option<Arc<Tracked>>) -> Vec<Work> {
        let mut work = Vec::new();
        let replaced = old.is_some_and(|o| new.as_ref().is_none_or(|n| n.metadata.uid != o.metadata.uid));
        if let Some(old) = old.filter(|_| replaced) {
            self.remove(old, &mut work);
        }
        if let Some(new) = new {
            let old = old.filter(|_| !replaced);
            self.insert(resource, old, new, &mut work);
        }
        work
    }

    fn remove(&mut self, old: &Tracked, work: &mut Vec<Work>) {
        let uid = &old.metadata.uid;
        let Some(node) = self.nodes.remove(uid) else { return };
        self.nodes.tighten();
        for owner in &node.object.metadata.owner_references {
            self.unlink(&owner.uid, uid);
            self.recheck_owner(&owner.uid, work);
        }
        work.extend(self.dependents.get(uid).into_iter().flatten().map(|d| Work::Delete(d.clone())));
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
                self.dependents.tighten();
            }
        }
    }

    /// An owner that waits for its dependents may go when one of them is gone or no longer blocks it.
    fn recheck_owner(&self, owner: &str, work: &mut Vec<Work>) {
        if self.nodes.get(owner).is_some_and(|o| o.object.waits_for_deletion()) {
            work.push(Work::Delete(owner.to_owned()));
        }
    }

    fn insert(&mut self, resource: &Arc<Resource>, old: Option<&Tracked>, new: Arc<Tracked>, work: &mut Vec<Work>) {
        let uid = new.metadata.uid.clone();
        let refs = |t: &Tracked| t.metadata.owner_references.clone();
        let (before, after): (Vec<OwnerReference>, _) = (old.map(refs).unwrap_or_default(), refs(&new));
        let waited = (old.is_some_and(Tracked::waits_for_deletion), old.is_some_and(Tracked::waits_for_orphaning));
        let waits = (new.waits_for_deletion(), new.waits_for_orphaning());
        let known = self.nodes.insert(uid.clone(), Node { resource: resource.clone(), object: new }).is_some();
        if before != after || !known {
            for owner in before.iter().filter(|b| !after.iter().any(|a| a.uid == b.uid)) {
                self.unlink(&owner.uid, &uid);
            }
            for owner in &after {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            }
            before.iter().for_each(|owner| self.recheck_owner(&owner.uid, work));
            let doubtful = |o: &OwnerReference| self.nodes.get(&o.uid).is_none_or(|n| n.object.waits_for_deletion());
            if after.iter().any(doubtful) {
                work.push(Work::Delete(uid.clone()));
            }
        }
        if waits.1 && !waited.1 {
            work.push(Work::Orphan(uid.clone()));
        }
        if waits.0 && !waited.0 {
            work.extend(self.dependents.get(&uid).into_iter().flatten().map(|d| Work::Delete(d.clone())));
            work.push(Work::Delete(uid));
        }
    }

    /// Forgets all objects of a resource that is no longer served; nothing follows from that.
    pub fn forget(&mut self, resource: &Resource) {
        let gone: Vec<Node> = self.nodes.values().filter(|n| *n.resource == *resource).cloned().collect();
        for node in &gone {
            self.remove(&node.object, &mut Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::resources::{PODS, REPLICA_SETS};
    use serde_json::json;

    fn object(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Arc<Tracked> {
        let owners: Vec<_> = owners.iter().map(|o| json!({"uid": o, "blockOwnerDeletion": true})).collect();
        let mut value = json!({"metadata": {
            "uid": uid, "name": uid, "labels": {"not": "kept"}, "ownerReferences": owners, "finalizers": finalizers
        }});
        if deleting {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn of(resource: &Resource) -> Arc<Resource> {
        Arc::new(resource.clone())
    }

    fn delete(uid: &str) -> Work {
        Work::Delete(uid.into())
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        let (owner, pod) = (object("rs", &[], &[], false), object("pod", &["rs"], &[], false));
        assert!(pod.metadata.labels.is_empty());
        assert_eq!(graph.apply(&of(&REPLICA_SETS), None, Some(owner.clone())), []);
        assert_eq!(graph.apply(&of(&PODS), None, Some(pod)), []);
        assert_eq!(graph.apply(&of(&REPLICA_SETS), Some(&owner), None), [delete("pod")]);
    }

    #[test]
    fn an_unknown_owner_is_looked_for() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply(&of(&PODS), None, Some(object("pod", &["gone"], &[], false))), [delete("pod")]);
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        let (owner, pod) = (object("rs", &[], &[], false), object("pod", &["rs"], &[], false));
        graph.apply(&of(&REPLICA_SETS), None, Some(owner.clone()));
        graph.apply(&of(&PODS), None, Some(pod.clone()));
        let deleting = object("rs", &[], &[FOREGROUND], true);
        assert_eq!(graph.apply(&of(&REPLICA_SETS), Some(&owner), Some(deleting)), [delete("pod"), delete("rs")]);
        assert!(graph.is_blocked("rs"));
        assert_eq!(graph.apply(&of(&PODS), Some(&pod), None), [delete("rs")]);
        assert!(!graph.is_blocked("rs"));
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        let first = object("rs", &[], &[ORPHAN], true);
        assert_eq!(graph.apply(&of(&REPLICA_SETS), None, Some(first.clone())), [Work::Orphan("rs".into())]);
        assert_eq!(graph.apply(&of(&REPLICA_SETS), Some(&first), Some(first.clone())), []);
    }

    /// Those that the new version's list has are of that version then; what is left of the old one went in between.
    #[test]
    fn of_a_former_version_only_what_went_is_forgotten() {
        let mut g = Graph::default();
        let (old, new) = (of(&PODS), of(&REPLICA_SETS));
        for uid in ["stays", "went"] {
            g.apply(&old, None, Some(object(uid, &["owner"], &[], false)));
        }
        g.apply(&new, None, Some(object("stays", &["owner"], &[], false)));
        g.forget(&old);
        let left: Vec<String> = g.dependents("owner").iter().map(|n| n.object.metadata.uid.clone()).collect();
        assert_eq!(left, ["stays"]);
    }

    #[test]
    fn an_object_recreated_under_the_same_name_is_another_one() {
        let mut graph = Graph::default();
        let (owner, pod) = (object("old", &[], &[], false), object("pod", &["old"], &[], false));
        graph.apply(&of(&REPLICA_SETS), None, Some(owner.clone()));
        graph.apply(&of(&PODS), None, Some(pod));
        assert_eq!(
            graph.apply(&of(&REPLICA_SETS), Some(&owner), Some(object("new", &[], &[], false))),
            [delete("pod")]
        );
    }
}
