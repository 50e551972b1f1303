//! On which nodes pods of a DaemonSet belong, which are to be made and which deleted, and the status.

use kedge_meta::StringMap;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::node::taints::{NO_EXECUTE, NO_SCHEDULE, tolerates};
use crate::objects::{DaemonSet, DaemonSetStatus, Node, Pod, Toleration};
use crate::workload::node_affinity::{Affinity, fits, only_node};

/// The label of pods that names their revision.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// What of a template decides about nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    node_name: String,
    node_selector: StringMap,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

/// What pods of DaemonSets tolerate on top of what they ask for: key, effect.
pub const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
/// The same, for pods on the node's own network.
pub const TOLERATED_ON_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

impl Placement {
    /// Reads the `spec` of a template.
    pub fn new(spec: &serde_json::Value) -> Self {
        let mut placement = Self::deserialize(spec).unwrap_or_default();
        let host = placement.host_network.then_some(TOLERATED_ON_HOST_NETWORK);
        let more = TOLERATED.into_iter().chain(host).map(|(key, effect)| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: effect.into(),
            ..Toleration::default()
        });
        placement.tolerations.extend(more);
        placement
    }

    /// Whether a pod should run on the node, and whether one that does may go on.
    pub fn on(&self, node: &Node) -> (bool, bool) {
        let named = self.node_name.is_empty() || self.node_name == node.metadata.name;
        if !named || !fits(&self.node_selector, self.affinity.as_ref(), node) {
            return (false, false);
        }
        let refused = |effect: &str| {
            let mut taints = node.spec.taints.iter().filter(|t| t.effect == effect);
            taints.any(|taint| !self.tolerations.iter().any(|t| tolerates(t, taint)))
        };
        let stays = !refused(NO_EXECUTE);
        (stays && !refused(NO_SCHEDULE), stays)
    }
}

/// The node that a pod is on or is meant for.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let assigned = Some(pod.spec.node_name.as_str()).filter(|n| !n.is_empty());
    assigned.or_else(|| only_node(pod.spec.affinity.as_deref()))
}

/// Everything that is decided by.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub placement: &'a Placement,
    pub nodes: &'a [Arc<Node>],
    /// By node, oldest first; without those that have ended and are being deleted.
    pub pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    /// Of the current template.
    pub hash: &'a str,
    pub now: Timestamp,
}

/// Pods by node, as [`View`] wants them.
pub fn by_node(pods: Vec<Arc<Pod>>) -> HashMap<String, Vec<Arc<Pod>>> {
    let mut out: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
    for pod in pods.into_iter().filter(|p| !(p.is_terminal() && p.metadata.is_deleting())) {
        if let Some(node) = node_of(&pod) {
            out.entry(node.to_owned()).or_default().push(pod);
        }
    }
    for pods in out.values_mut() {
        pods.sort_by_cached_key(|p| {
            (p.spec.node_name.is_empty(), p.metadata.creation_timestamp.clone(), p.metadata.name.clone())
        });
    }
    out
}

/// A new and an old pod.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// What to do.
#[derive(Debug, Default)]
pub struct Changes {
    /// Names of nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
}

impl View<'_> {
    fn max(&self, surge: bool) -> i64 {
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let value = rolling.and_then(|r| if surge { r.max_surge.as_ref() } else { r.max_unavailable.as_ref() });
        value.map_or(0, |v| v.scaled(self.desired(), true))
    }

    fn surges(&self) -> bool {
        self.is_rolling() && self.max(true) > 0
    }

    fn is_rolling(&self) -> bool {
        self.set.spec.update_strategy.kind != "OnDelete"
    }

    fn desired(&self) -> i64 {
        to_i64(self.nodes.iter().filter(|n| self.placement.on(n).0).count())
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.metadata.labels.get(HASH_LABEL).is_some_and(|h| h == self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    /// Brings every node to the number of pods it should have. Ended pods are among those to delete.
    pub fn manage(&self) -> Changes {
        let mut changes = Changes::default();
        for node in self.nodes {
            let (run, stay) = self.placement.on(node);
            let Some(pods) = self.pods.get(&node.metadata.name) else {
                changes.create.extend(run.then(|| node.metadata.name.clone()));
                continue;
            };
            let alive = pods.iter().filter(|p| !p.metadata.is_deleting()).cloned();
            if !stay {
                changes.delete.extend(alive);
                continue;
            }
            let (ended, running): (Vec<_>, Vec<_>) = alive.partition(|p| p.is_terminal());
            changes.delete.extend(ended);
            if !self.surges() {
                changes.delete.extend(running.into_iter().skip(1));
            } else if running.is_empty() {
                changes.create.extend(run.then(|| node.metadata.name.clone()));
            } else {
                self.two_on_node(running, &mut changes);
            }
        }
        // Pods on nodes that are gone are left to the collection of pods.
        changes
    }

    /// With surge, an old and a new pod may be there until the new one is available or the old one is not ready.
    fn two_on_node(&self, running: Vec<Arc<Pod>>, changes: &mut Changes) {
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_new(p));
        changes.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).cloned());
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!old.is_ready() || self.is_available(new))
        {
            changes.delete.push(old.clone());
        }
    }

    /// The new and the old pod of a node; none when there are several of one sort, which [`View::manage`] clears up.
    fn pair(&self, pods: &[Arc<Pod>]) -> Option<Pair> {
        let alive = pods.iter().filter(|p| !p.metadata.is_deleting()).cloned();
        let (new, old): (Vec<_>, Vec<_>) = alive.partition(|p| self.is_new(p));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.first().cloned(), old.first().cloned()))
    }

    /// One step of the update to the current template.
    pub fn update(&self) -> Changes {
        match () {
            () if !self.is_rolling() => Changes::default(),
            () if self.surges() => self.update_by_surge(),
            () => self.update_by_replacement(),
        }
    }

    fn nodes_with_pods(&self) -> impl Iterator<Item = (&Arc<Node>, &[Arc<Pod>])> {
        let with = |n| Some((n, self.pods.get(&Node::name(n)).map_or(&[][..], Vec::as_slice)));
        self.nodes.iter().filter_map(with).filter(|(n, pods)| !pods.is_empty() || self.placement.on(n).0)
    }

    fn update_by_replacement(&self) -> Changes {
        let allowed = self.max(false).max(1);
        let mut unavailable = 0;
        let (mut delete, mut candidates) = (Vec::new(), Vec::new());
        for (_, pods) in self.nodes_with_pods() {
            match self.pair(pods) {
                Some((Some(new), None)) => unavailable += i64::from(!self.is_available(&new)),
                Some((None, Some(old))) if self.is_available(&old) => candidates.push(old),
                Some((None, Some(old))) => {
                    // It is no loss.
                    delete.push(old);
                    unavailable += 1;
                }
                _ => unavailable += 1,
            }
        }
        candidates.truncate(usize::try_from(allowed - unavailable).unwrap_or_default());
        delete.extend(candidates);
        Changes { create: Vec::new(), delete }
    }

    fn update_by_surge(&self) -> Changes {
        let mut changes = Changes::default();
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
        for (node, pods) in self.nodes_with_pods() {
            let Some((new, old)) = self.pair(pods) else {
                surging += 1;
                continue;
            };
            available += i64::from(old.as_ref().or(new.as_ref()).is_some_and(|p| self.is_available(p)));
            let Some(old) = old else { continue };
            let run = self.placement.on(node).0;
            match new {
                Some(new) if self.is_available(&new) => changes.delete.push(old),
                Some(_) => surging += 1,
                None if !self.is_available(&old) && run => changes.create.push(Node::name(node)),
                None if !self.is_available(&old) => changes.delete.push(old),
                None if run => candidates.push(Node::name(node)),
                None => leaving.push(old),
            }
        }
        leaving.truncate(usize::try_from(available - self.desired()).unwrap_or_default());
        changes.delete.extend(leaving);
        candidates.truncate(usize::try_from(self.max(true) - surging).unwrap_or_default());
        changes.create.extend(candidates);
        changes
    }

    /// The numbers of the status.
    pub fn status(&self) -> DaemonSetStatus {
        let mut s = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.set.status.collision_count,
            ..DaemonSetStatus::default()
        };
        for node in self.nodes {
            let pods = self.pods.get(&node.metadata.name).map(Vec::as_slice).unwrap_or_default();
            match (self.placement.on(node).0, pods.first()) {
                (true, None) => s.desired_number_scheduled += 1,
                (true, Some(pod)) => {
                    s.desired_number_scheduled += 1;
                    s.current_number_scheduled += 1;
                    s.number_ready += i64::from(pod.is_ready());
                    s.number_available += i64::from(self.is_available(pod));
                    s.updated_number_scheduled += i64::from(self.is_new(pod));
                }
                (false, Some(_)) => s.number_misscheduled += 1,
                (false, None) => {}
            }
        }
        s.number_unavailable = s.desired_number_scheduled - s.number_available;
        s
    }
}

impl Node {
    fn name(node: &Arc<Self>) -> String {
        node.metadata.name.clone()
    }
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, taints: Value) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap())
    }

    fn pod(name: &str, node: &str, hash: &str, ready: bool) -> Arc<Pod> {
        let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {HASH_LABEL: hash}},
                "spec": {"nodeName": node}, "status": {"phase": "Running", "conditions": ready},
            }))
            .unwrap(),
        )
    }

    fn with_view<T>(rolling: Value, nodes: &[Arc<Node>], pods: Vec<Arc<Pod>>, f: impl Fn(&View<'_>) -> T) -> T {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
        let set: DaemonSet = serde_json::from_value(json!({"spec": {"updateStrategy": strategy}})).unwrap();
        let (placement, pods) = (Placement::new(&json!({})), by_node(pods));
        let now = Timestamp::UNIX_EPOCH;
        f(&View { set: &set, placement: &placement, nodes, pods: &pods, hash: "new", now })
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| p.metadata.name.as_str()).collect()
    }

    #[test]
    fn each_fitting_node_gets_one() {
        let nodes = [
            node("a", json!([])),
            node("b", json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])),
            node("c", json!([{"key": "own", "effect": "NoSchedule"}])),
            node("d", json!([{"key": "own", "effect": "NoExecute"}])),
        ];
        let pods = vec![
            pod("1", "b", "new", true),
            pod("2", "b", "new", true),
            pod("3", "c", "new", true),
            pod("4", "d", "new", true),
        ];
        let changes = with_view(json!({}), &nodes, pods, |v| v.manage());
        assert_eq!(changes.create, ["a"]);
        assert_eq!(names(&changes.delete), ["2", "4"], "a second one, and one that is not tolerated; c stays");
    }

    #[test]
    fn replacement_respects_the_number_that_may_be_missing() {
        let nodes: Vec<_> = ["a", "b", "c"].map(|n| node(n, json!([]))).into();
        let old = |n: &str, ready| pod(n, n, "old", ready);
        let update = |pods| with_view(json!({"maxUnavailable": 1}), &nodes, pods, |v| v.update()).delete;
        assert_eq!(names(&update(vec![old("a", true), old("b", true), old("c", true)])), ["a"]);
        assert_eq!(names(&update(vec![old("a", true), old("b", false), old("c", true)])), ["b"]);
        assert!(update(vec![old("a", true), pod("n", "b", "new", false), old("c", true)]).is_empty());
    }

    #[test]
    fn surge_makes_the_new_pod_first() {
        let nodes: Vec<_> = ["a", "b"].map(|n| node(n, json!([]))).into();
        let surge = json!({"maxSurge": 1, "maxUnavailable": 0});
        let pods = vec![pod("1", "a", "old", true), pod("2", "b", "old", true)];
        let changes = with_view(surge.clone(), &nodes, pods.clone(), |v| v.update());
        assert_eq!((changes.create.len(), changes.delete.len()), (1, 0));
        let both = [pods, vec![pod("3", "a", "new", true)]].concat();
        assert_eq!(names(&with_view(surge, &nodes, both, |v| v.manage()).delete), ["1"]);
    }

    #[test]
    fn status_counts_nodes() {
        let nodes =
            [node("a", json!([])), node("b", json!([])), node("c", json!([{"key": "x", "effect": "NoSchedule"}]))];
        let pods = vec![pod("1", "a", "new", true), pod("3", "c", "old", true)];
        let s = with_view(json!({}), &nodes, pods, |v| v.status());
        assert_eq!((s.desired_number_scheduled, s.current_number_scheduled, s.number_misscheduled), (2, 1, 1));
        assert_eq!(
            (s.number_ready, s.number_available, s.number_unavailable, s.updated_number_scheduled),
            (1, 1, 1, 1)
        );
    }
}
