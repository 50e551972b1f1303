//! What the scheduler writes: bindings, the condition `PodScheduled`, the nominated node, events.

use std::time::Duration;

use kedge_base::{SharedClock, time};
use kedge_client::{Client, DeleteOptions, Error, EventRecorder, EventType, Patch};
use kedge_meta::resources;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tracing::warn;

use crate::api::Pod;

/// Upstream's limit on the text of an event.
const MAX_NOTE: usize = 1024;

/// How often a write is repeated that met another one, or a server that is full.
const MAX_CONFLICTS: u32 = 5;
const MAX_BUSY: u32 = 10;

/// What to do about a failed write.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    Again,
    AgainAfter(Duration),
    GiveUp,
}

fn remedy(err: &Error, conflicts: u32, busy: u32) -> Remedy {
    match err.status() {
        Some(status) if status.code == 429 && busy < MAX_BUSY => {
            let seconds = status.details.as_ref().map_or(1, |d| d.retry_after_seconds);
            Remedy::AgainAfter(Duration::from_secs(u64::try_from(seconds).unwrap_or(1).clamp(1, 10)))
        }
        _ if err.is_conflict() && conflicts < MAX_CONFLICTS => Remedy::Again,
        _ => Remedy::GiveUp,
    }
}

/// Writes to the API.
pub struct Writer {
    pub client: Client,
    pub clock: SharedClock,
    pub recorder: EventRecorder,
}

/// The body of a binding.
pub fn binding(pod: &Pod, node: &str) -> Value {
    let meta = &pod.metadata;
    json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    })
}

/// The patch that says that a pod was not scheduled; `None` if the pod says so already.
///
/// `nominated` is the node the pod now waits for, empty for none; without it that stays as it is.
pub fn unscheduled(pod: &Pod, reason: &str, message: &str, nominated: Option<&str>, now: &str) -> Option<Value> {
    let old = pod.condition.as_ref();
    let mut status = serde_json::Map::new();
    if old.is_none_or(|c| c.status != "False" || c.reason != reason || c.message != message) {
        let mut condition = json!({ "type": "PodScheduled", "status": "False", "reason": reason, "message": message });
        if old.is_none_or(|c| c.status != "False") {
            condition["lastProbeTime"] = Value::Null;
            condition["lastTransitionTime"] = now.into();
        }
        if pod.metadata.generation > 0 {
            condition["observedGeneration"] = pod.metadata.generation.into();
        }
        status.insert("conditions".into(), json!([condition]));
    }
    if let Some(node) = nominated.filter(|n| *n != pod.nominated_node) {
        let node = if node.is_empty() { Value::Null } else { node.into() };
        status.insert("nominatedNodeName".into(), node);
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": pod.uid() }, "status": status }))
}

/// Cuts a text to what an event may hold.
fn note(message: &str) -> String {
    const SUFFIX: &str = " ...";
    if message.len() <= MAX_NOTE {
        return message.to_owned();
    }
    let end = (0..=MAX_NOTE - SUFFIX.len()).rev().find(|i| message.is_char_boundary(*i)).unwrap_or_default();
    format!("{}{SUFFIX}", &message[..end])
}

impl Writer {
    /// Repeats a write while that makes sense. `repeat_conflicts` says whether that includes one that met another write.
    async fn persist<T, F>(&self, repeat_conflicts: bool, write: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut conflicts, mut busy) = (if repeat_conflicts { 0 } else { MAX_CONFLICTS }, 0);
        loop {
            let err = match write().await {
                Ok(done) => return Ok(done),
                Err(err) => err,
            };
            match remedy(&err, conflicts, busy) {
                Remedy::Again => conflicts += 1,
                Remedy::AgainAfter(pause) => {
                    busy += 1;
                    self.clock.sleep(pause).await;
                }
                Remedy::GiveUp => return Err(err),
            }
        }
    }

    async fn write_status(&self, pod: &Pod, patch: &Value) -> Result<(), Error> {
        let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
        let write =
            || self.client.patch(&resources::PODS, namespace, name, Patch::Strategic(patch.clone()), Some("status"));
        let _: IgnoredAny = self.persist(true, write).await?;
        Ok(())
    }

    /// Binds a pod to a node and records that.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Error> {
        let meta = &pod.metadata;
        let body = binding(pod, node);
        let (namespace, name) = (&meta.namespace, &meta.name);
        let bind = || self.client.create_subresource(&resources::PODS, namespace, name, "binding", &body);
        // A conflict says that the pod is bound already.
        let _: IgnoredAny = self.persist(false, bind).await?;
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        self.recorder.event(&pod.reference(), EventType::Normal, "Scheduled", message);
        Ok(())
    }

    /// Records that scheduling has failed and why.
    pub async fn failed(&self, pod: &Pod, reason: &str, message: &str, nominated: Option<&str>) {
        self.recorder.event(&pod.reference(), EventType::Warning, "FailedScheduling", note(message));
        let now = time::rfc3339(self.clock.now());
        if let Some(patch) = unscheduled(pod, reason, message, nominated, &now) {
            self.patch_status(pod, patch).await;
        }
    }

    /// Ends a pod to make room for another one: says so in its status, then deletes it.
    ///
    /// # Errors
    /// As the API server answers; a victim that has ended already is none.
    pub async fn preempt(&self, preemptor: &Pod, victim: &Pod, node: &str, scheduler: &str) -> Result<(), Error> {
        let meta = &victim.metadata;
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": time::rfc3339(self.clock.now()),
        });
        let patch = json!({ "metadata": { "uid": meta.uid }, "status": { "conditions": [condition] } });
        let options = DeleteOptions::with_uid(&meta.uid);
        let delete = || self.client.delete(&resources::PODS, &meta.namespace, &meta.name, &options);
        let done = match self.write_status(victim, &patch).await {
            Ok(()) => self.persist(true, delete).await,
            Err(err) => Err(err),
        };
        match done {
            Err(err) if err.is_not_found() => return Ok(()),
            done => done?,
        }
        let message = format!("Preempted by pod {} on node {node}", preemptor.uid());
        self.recorder.event(&victim.reference(), EventType::Normal, "Preempted", message);
        Ok(())
    }

    /// A pod no longer waits for the node it was nominated to.
    pub async fn clear_nomination(&self, pod: &Pod) {
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "nominatedNodeName": null } });
        self.patch_status(pod, patch).await;
    }

    /// Patches a pod's status; what goes wrong is only logged, as the next attempt writes it again.
    pub async fn patch_status(&self, pod: &Pod, patch: Value) {
        match self.write_status(pod, &patch).await {
            Ok(()) => {}
            Err(err) if err.is_not_found() => {}
            Err(err) => warn!(pod = %pod.metadata.key(), error = %err, "pod status not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{pod, sized};

    #[test]
    fn the_binding_names_pod_uid_and_node() {
        let body = binding(&sized("p", "1"), "n");
        assert_eq!(body["metadata"], json!({"name": "p", "namespace": "default", "uid": "p"}));
        assert_eq!(body["target"], json!({"apiVersion": "v1", "kind": "Node", "name": "n"}));
    }

    #[test]
    fn the_condition_is_written_only_when_it_says_something_new() {
        let plain = sized("p", "1");
        let patch = unscheduled(&plain, "Unschedulable", "why", None, "now").unwrap();
        let condition = &patch["status"]["conditions"][0];
        assert_eq!((&condition["reason"], &condition["lastTransitionTime"]), (&json!("Unschedulable"), &json!("now")));
        let old = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why"});
        let meta = json!({"name": "p", "namespace": "n", "uid": "u"});
        let status = json!({"conditions": [old], "nominatedNodeName": "a"});
        let said = pod(json!({"metadata": meta, "status": status}));
        assert_eq!(unscheduled(&said, "Unschedulable", "why", Some("a"), "now"), None);
        let patch = unscheduled(&said, "Unschedulable", "other", Some(""), "now").unwrap();
        assert_eq!(patch["status"]["conditions"][0].get("lastTransitionTime"), None);
        assert_eq!(patch["status"]["nominatedNodeName"], Value::Null);
    }

    #[test]
    fn a_full_server_and_a_crossing_write_are_tried_again_but_not_for_ever() {
        let busy = Error::from(kedge_meta::Status::too_many_requests("later", 3));
        assert_eq!(remedy(&busy, 0, 0), Remedy::AgainAfter(Duration::from_secs(3)));
        assert_eq!(remedy(&busy, 0, MAX_BUSY), Remedy::GiveUp);
        let crossing = Error::from(kedge_meta::Status::stale(&resources::PODS.group_resource(), "p"));
        assert_eq!(remedy(&crossing, 0, 0), Remedy::Again);
        assert_eq!(remedy(&crossing, MAX_CONFLICTS, 0), Remedy::GiveUp);
        let gone = Error::from(kedge_meta::Status::not_found(&resources::PODS.group_resource(), "p"));
        assert_eq!(remedy(&gone, 0, 0), Remedy::GiveUp);
    }

    #[test]
    fn long_messages_are_cut_for_events() {
        let cut = note(&"x".repeat(2000));
        assert!(cut.len() == MAX_NOTE && cut.ends_with("x ..."));
    }
}
