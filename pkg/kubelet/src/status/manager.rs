//! Keeps the latest status of each pod and writes it to the API when it differs from what the API has.
//!
//! Workers never wait for the API: they leave a status here, and a few tasks write. When a pod is being deleted, has
//! finished on this node, and the API knows that it ended, its object is deleted for good here.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, DeleteOptions, Error, Informer, Patch, WorkQueue, run_workers};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{debug, warn};

use super::patch::status_patch;
use super::{api_time, conditions, find_condition, text};
use crate::pod::{PodExt, RawPod};

/// All termination messages of a pod together, in bytes.
const MAX_MESSAGES: usize = 12 * 1024;
const WRITERS: usize = 4;

struct Entry {
    key: ObjectKey,
    status: PodStatus,
    /// Containers may still run: then the end is not told yet.
    may_run: bool,
    /// Nothing of the pod is left on this node.
    finished: bool,
    /// The object as our last write left it.
    written: Option<RawPod>,
}

/// The statuses of this node's pods.
pub(crate) struct StatusManager {
    client: Client,
    clock: SharedClock,
    pods: Informer<RawPod>,
    queue: WorkQueue<String>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl StatusManager {
    /// Starts the writing tasks.
    pub(crate) fn start(
        client: Client,
        clock: SharedClock,
        pods: Informer<RawPod>,
        tasks: &TaskGroup,
    ) -> Arc<StatusManager> {
        let queue = WorkQueue::new(clock.clone(), tasks);
        let entries = Mutex::default();
        let manager = Arc::new(StatusManager { client, clock, pods, queue: queue.clone(), entries });
        let writer = manager.clone();
        run_workers("pod-status", &queue, tasks, WRITERS, move |uid: String| {
            let writer = writer.clone();
            async move { writer.write(&uid).await }
        });
        manager
    }

    /// The status set last.
    pub(crate) fn get(&self, uid: &str) -> Option<PodStatus> {
        self.entries.lock().get(uid).map(|e| e.status.clone())
    }

    /// Sets a pod's status; times of transition are filled in.
    pub(crate) fn set(&self, pod: &Pod, status: PodStatus, may_run: bool) {
        self.update(pod, status, may_run, false);
    }

    /// Sets whether a running container is ready or has started, as its probes found, ahead of the next full status.
    pub(crate) fn set_probed(&self, pod: &Pod, id: &str, change: impl Fn(&mut ContainerStatus)) {
        let Some(mut status) = self.get(pod.uid()) else { return };
        let lists = [&mut status.container_statuses, &mut status.init_container_statuses];
        let all = lists.into_iter().flatten().flatten();
        let mut found = false;
        for container in all.filter(|c| c.container_id.as_deref() == Some(id)) {
            change(container);
            found = true;
        }
        if !found {
            return;
        }
        let init = status.init_container_statuses.iter().flatten();
        let statuses: Vec<ContainerStatus> = init.chain(status.container_statuses.iter().flatten()).cloned().collect();
        let phase = status.phase.clone().unwrap_or_default();
        let list = status.conditions.get_or_insert_default();
        let containers = conditions::containers_ready(pod, &statuses, &phase);
        let ready = conditions::ready(pod, &containers, list);
        for new in [containers, ready] {
            list.retain(|c| c.type_ != new.type_);
            list.push(new);
        }
        let may_run = self.entries.lock().get(pod.uid()).is_some_and(|e| e.may_run);
        self.update(pod, status, may_run, false);
    }

    /// Says that nothing of the pod is left: containers whose end was not seen are given one, and so is the pod.
    pub(crate) fn finish(&self, pod: &Pod) {
        let mut status = self.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
        let init = pod.init_containers().is_empty();
        let initialized = init || find_condition(&status, "Initialized").is_some_and(|c| c.status == "True");
        if initialized {
            status.container_statuses.iter_mut().flatten().for_each(end_unseen);
        }
        let started = status.init_container_statuses.iter_mut().flatten();
        started.filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some())).for_each(end_unseen);
        if !pod.is_static() && !is_terminal(status.phase.as_deref()) {
            status.phase = Some("Failed".into());
        }
        self.update(pod, status, false, true);
    }

    /// Looks again at what the API has, because it changed.
    pub(crate) fn recheck(&self, uid: &str) {
        if self.entries.lock().contains_key(uid) {
            self.queue.add(uid.to_string());
        }
    }

    /// Forgets a pod that is gone from the API.
    pub(crate) fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    fn update(&self, pod: &Pod, mut status: PodStatus, may_run: bool, finished: bool) {
        let uid = pod.uid().to_string();
        let mut entries = self.entries.lock();
        let old = entries.get(&uid);
        let old_status = old.map_or_else(|| pod.status(), |e| &e.status);
        settle(pod, &mut status, old_status, self.clock.now());
        let finished = finished || old.is_some_and(|e| e.finished);
        let same = old.is_some_and(|e| e.status == status && e.may_run == may_run && e.finished == finished);
        if same {
            return;
        }
        let written = entries.remove(&uid).and_then(|e| e.written);
        let key = ObjectKey::new(pod.namespace(), pod.name());
        entries.insert(uid.clone(), Entry { key, status, may_run, finished, written });
        drop(entries);
        self.queue.add(uid);
    }

    /// The object as far as it is known: of the watch, or of our last write if that is newer.
    fn known(&self, uid: &str, key: &ObjectKey, written: Option<RawPod>) -> Option<RawPod> {
        let watched = self.pods.get(&key.namespace, &key.name);
        if watched.as_ref().is_some_and(|p| p.metadata.uid != uid) {
            return None;
        }
        let version = |pod: &RawPod| pod.metadata.resource_version.parse::<u64>().unwrap_or_default();
        match (watched, written) {
            (Some(watched), Some(written)) if version(&written) > version(&watched) => Some(written),
            (Some(watched), _) => Some(RawPod::clone(&watched)),
            (None, written) => written,
        }
    }

    async fn write(&self, uid: &str) -> Result<(), Error> {
        let Some((key, status, may_run, finished, written)) = self
            .entries
            .lock()
            .get(uid)
            .map(|e| (e.key.clone(), e.status.clone(), e.may_run, e.finished, e.written.clone()))
        else {
            return Ok(());
        };
        let Some(mut known) = self.known(uid, &key, written) else {
            self.forget(uid);
            return Ok(());
        };
        let have = known.status();
        let mut want = match kedge_types::encode_pod_status(&status) {
            Ok(value) => value,
            Err(error) => {
                warn!(pod = %key, %error, "pod status cannot be written");
                return Ok(());
            }
        };
        hold_back(&have, &mut want, may_run);
        if let Some(patch) = status_patch(uid, &have, &want) {
            match self.patch(&key, patch).await {
                Ok(Some(pod)) => known = pod,
                Ok(None) => {
                    self.forget(uid);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if let Some(entry) = self.entries.lock().get_mut(uid) {
                entry.written = Some(known.clone());
            }
        }
        let ended = is_terminal(known.status().get("phase").and_then(Value::as_str));
        if known.metadata.is_deleting() && finished && ended {
            self.delete(uid, &key).await?;
        }
        Ok(())
    }

    /// `None` when the pod is gone or another one has its name.
    async fn patch(&self, key: &ObjectKey, patch: Value) -> Result<Option<RawPod>, Error> {
        let patch = Patch::Strategic(patch);
        let (namespace, name) = (&key.namespace, &key.name);
        match self.client.patch(&resources::PODS, namespace, name, patch, Some("status")).await {
            Ok(pod) => Ok(Some(pod)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_conflict() && self.pods.get(namespace, name).is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, uid: &str, key: &ObjectKey) -> Result<(), Error> {
        let options = DeleteOptions::now(uid);
        let gone = self.client.delete(&resources::PODS, &key.namespace, &key.name, &options).await;
        match gone {
            Ok(()) => debug!(pod = %key, uid, "pod is terminated and removed from the API"),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        self.forget(uid);
        Ok(())
    }
}

fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// While containers may still run, the end of the pod is kept back: others would count its resources as free.
fn hold_back(have: &Value, want: &mut Value, may_run: bool) {
    let phase = |v: &Value| v.get("phase").and_then(Value::as_str).map(str::to_string);
    if !may_run || !is_terminal(phase(want).as_deref()) || is_terminal(phase(have).as_deref()) {
        return;
    }
    let Some(want) = want.as_object_mut() else { return };
    for name in ["phase", "reason", "message"] {
        match have.get(name) {
            Some(value) => want.insert(name.to_string(), value.clone()),
            None => want.remove(name),
        };
    }
}

fn end_unseen(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    let terminated = ContainerStateTerminated {
        reason: text("ContainerStatusUnknown"),
        message: text("The container could not be located when the pod was terminated"),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    };
    status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
}

/// Takes over what must not change, and notes when conditions changed.
fn settle(pod: &Pod, status: &mut PodStatus, old: &PodStatus, now: Timestamp) {
    let now = api_time(now);
    for condition in status.conditions.iter_mut().flatten() {
        let same = find_condition(old, &condition.type_).filter(|o| o.status == condition.status);
        condition.last_transition_time = match same.and_then(|o| o.last_transition_time.clone()) {
            Some(time) => Some(time),
            None => Some(now.clone()),
        };
    }
    status.start_time = old.start_time.clone().or(Some(now));
    status.observed_generation = status.observed_generation.max(old.observed_generation);
    let count = PodExt::spec(pod).containers.len() + pod.init_containers().len() + pod.ephemeral_containers().len();
    let limit = MAX_MESSAGES / count.max(1);
    let lists =
        [&mut status.container_statuses, &mut status.init_container_statuses, &mut status.ephemeral_container_statuses];
    for status in lists.into_iter().flatten().flatten() {
        let states = [&mut status.state, &mut status.last_state];
        for terminated in states.into_iter().flatten().filter_map(|s| s.terminated.as_mut()) {
            terminated.message.iter_mut().for_each(|m| truncate(m, limit));
        }
    }
}

fn truncate(message: &mut String, limit: usize) {
    if message.len() > limit {
        let end = (0..=limit).rev().find(|i| message.is_char_boundary(*i)).unwrap_or_default();
        message.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use serde_json::json;

    #[test]
    fn the_end_is_held_back_while_containers_run() {
        let have = json!({"phase": "Running"});
        let mut want = json!({"phase": "Failed", "reason": "Evicted"});
        hold_back(&have, &mut want, true);
        assert_eq!(want, json!({"phase": "Running"}));
        let mut want = json!({"phase": "Failed"});
        hold_back(&have, &mut want, false);
        assert_eq!(want["phase"], "Failed");
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let old = json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let pod = pod_with(json!({}), json!({"containers": []}), old);
        let mut status = pod.status.clone().unwrap();
        status.conditions.as_mut().unwrap()[0].status = "False".into();
        status.start_time = None;
        let now: Timestamp = "2026-02-01T00:00:00.5Z".parse().unwrap();
        settle(&pod, &mut status, pod.status(), now);
        let times: Vec<String> =
            status.conditions.unwrap().into_iter().map(|c| c.last_transition_time.unwrap().0.to_string()).collect();
        assert_eq!(times, ["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"]);
        assert_eq!(status.start_time.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
    }
}
