//! From changes in the API to cache, queue and events.

use std::sync::Arc;

use kedge_client::Change;

use crate::api::{Node, Pod};
use crate::framework::Event;
use crate::scheduler::Scheduler;

/// What has changed between two versions of a node.
pub fn node_events(old: Option<&Node>, new: &Node) -> Vec<Event> {
    let Some(old) = old else { return vec![Event::NodeAdd] };
    let mut events = Vec::new();
    if old.allocatable != new.allocatable || old.max_pods != new.max_pods {
        events.push(Event::NodeAllocatable);
    }
    if old.metadata.labels != new.metadata.labels {
        events.push(Event::NodeLabel);
    }
    if old.taints != new.taints || old.unschedulable != new.unschedulable {
        events.push(Event::NodeTaint);
    }
    events
}

/// What has changed between two versions of a bound pod.
fn pod_events(old: &Pod, new: &Pod) -> Vec<Event> {
    let mut events = Vec::new();
    if old.node_name.is_empty() {
        return vec![Event::PodAdd];
    }
    if old.metadata.labels != new.metadata.labels || old.metadata.is_deleting() != new.metadata.is_deleting() {
        events.push(Event::PodLabel);
    }
    if old.requests != new.requests {
        events.push(Event::PodScaleDown);
    }
    events
}

impl Scheduler {
    /// Takes in a change of a node.
    pub fn node_changed(&self, change: &Change<Node>) {
        match (&change.old, &change.new) {
            (old, Some(new)) => {
                self.state.lock().cache.set_node(new.clone());
                node_events(old.as_deref(), new).into_iter().for_each(|e| self.queue.event(e));
            }
            (Some(old), None) => self.state.lock().cache.remove_node(old.name()),
            (None, None) => {}
        }
    }

    /// Takes in a change of a pod.
    pub fn pod_changed(&self, change: &Change<Pod>) {
        match (&change.old, &change.new) {
            (_, Some(new)) if new.finished => self.pod_gone(new),
            (old, Some(new)) => {
                // A pod of the same name with another uid is another pod: the old one's end was not reported.
                let same = old.as_ref().filter(|o| o.uid() == new.uid());
                if let (Some(old), None) = (old, same) {
                    self.pod_gone(old);
                }
                if new.node_name.is_empty() {
                    self.pod_waits(same, new);
                } else {
                    self.pod_bound(same, new);
                }
            }
            (Some(old), None) => self.pod_gone(old),
            (None, None) => {}
        }
    }

    fn pod_waits(&self, old: Option<&Arc<Pod>>, pod: &Arc<Pod>) {
        if pod.scheduler_name != self.name {
            return;
        }
        {
            let mut state = self.state.lock();
            if state.cache.has_pod(pod.uid()) {
                // Assumed; an older version may still arrive.
                return;
            }
            // A version from before the nomination was written does not take it back.
            let was = old.map_or("", |o| o.nominated_node.as_str());
            if was != pod.nominated_node {
                state.cache.nominate(pod.clone(), &pod.nominated_node);
            }
        }
        self.queue.set(pod.clone());
    }

    fn pod_bound(&self, old: Option<&Arc<Pod>>, pod: &Arc<Pod>) {
        let known = {
            let mut state = self.state.lock();
            let known = state.cache.has_pod(pod.uid());
            state.cache.unnominate(pod.uid());
            state.cache.set_pod(pod.clone());
            known
        };
        self.queue.remove(pod.uid());
        match old.filter(|_| known) {
            Some(old) => pod_events(old, pod).into_iter().for_each(|e| self.queue.event(e)),
            None => self.queue.event(Event::PodAdd),
        }
    }

    fn pod_gone(&self, pod: &Arc<Pod>) {
        {
            let mut state = self.state.lock();
            state.cache.remove_pod(pod.uid());
            state.cache.unnominate(pod.uid());
        }
        self.queue.remove(pod.uid());
        self.changes.send_modify(|n| *n += 1);
        self.queue.event(Event::PodDelete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, node_with};
    use serde_json::json;

    #[test]
    fn heartbeats_are_no_events() {
        let old = node("n", json!({"a": "b"}));
        assert_eq!(node_events(None, &old), [Event::NodeAdd]);
        assert_eq!(node_events(Some(&old), &node("n", json!({"a": "b"}))), []);
        assert_eq!(node_events(Some(&old), &node("n", json!({}))), [Event::NodeLabel]);
        let cordoned = node_with("n", json!({"a": "b"}), json!({"unschedulable": true}));
        assert_eq!(node_events(Some(&cordoned), &old), [Event::NodeTaint]);
    }
}
