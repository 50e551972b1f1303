//! Keeps the latest status of each pod and writes it to the API when it differs from what the API has.
//!
//! Workers never wait for the API: they leave a status here, and a few tasks write. When a pod is being deleted, has
//! finished on this node, and the API knows that it ended, its object is deleted for good here. What is written of a static pod is
//! written to its image, whenever there is one.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, DeleteOptions, Error, Patch, WorkQueue, run_workers};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{debug, warn};

use super::patch::status_patch;
use super::settle::{end_unseen, hold_back, is_terminal, settle};
use super::{conditions, find_condition};
use crate::pod::{PodExt, RawPod};
use crate::pods::Pods;

const WRITERS: usize = 4;

#[derive(Clone)]
struct Entry {
    key: ObjectKey,
    status: PodStatus,
    /// Containers may still run: then the end is not told yet.
    may_run: bool,
    /// Nothing of the pod is left on this node.
    finished: bool,
    /// A file told of it: its object in the API is another one each time it is made.
    is_static: bool,
    /// The object as our last write left it.
    written: Option<RawPod>,
}

/// The statuses of this node's pods.
pub(crate) struct StatusManager {
    client: Client,
    clock: SharedClock,
    pods: Pods,
    queue: WorkQueue<String>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl StatusManager {
    /// Starts the writing tasks.
    pub(crate) fn start(client: Client, clock: SharedClock, pods: Pods, tasks: &TaskGroup) -> Arc<StatusManager> {
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

    /// Whether nothing of a pod is left on this node, as far as anybody knows.
    pub(crate) fn has_finished(&self, uid: &str) -> bool {
        self.entries.lock().get(uid).is_some_and(|entry| entry.finished)
    }

    /// Whether nothing more is to be heard of a pod, since it has finished or is not known.
    pub(crate) fn is_finished(&self, uid: &str) -> bool {
        self.entries.lock().get(uid).is_none_or(|entry| entry.finished)
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
        let is_static = pod.is_static();
        entries.insert(uid.clone(), Entry { key, status, may_run, finished, is_static, written });
        drop(entries);
        self.queue.add(uid);
    }

    /// The object as far as it is known: of the watch, or of our last write if that is newer.
    fn known(&self, uid: &str, key: &ObjectKey, written: Option<RawPod>) -> Option<RawPod> {
        let watched = self.pods.in_api(key, uid);
        if watched.is_none() && self.pods.is_named_in_api(key) {
            return None;
        }
        let same = |written: &RawPod| watched.as_ref().is_none_or(|w| w.metadata.uid == written.metadata.uid);
        let written = written.filter(same);
        let version = |pod: &RawPod| pod.metadata.resource_version.parse::<u64>().unwrap_or_default();
        match (watched, written) {
            (Some(watched), Some(written)) if version(&written) > version(&watched) => Some(written),
            (Some(watched), _) => Some(RawPod::clone(&watched)),
            (None, written) => written,
        }
    }

    async fn write(&self, uid: &str) -> Result<(), Error> {
        let Some(Entry { key, status, may_run, finished, is_static, written }) = self.entries.lock().get(uid).cloned()
        else {
            return Ok(());
        };
        let Some(mut known) = self.known(uid, &key, written) else {
            self.without_object(uid, is_static);
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
        if let Some(patch) = status_patch(&known.metadata.uid, &have, &want) {
            match self.patch(&key, patch).await {
                Ok(Some(pod)) => known = pod,
                Ok(None) => {
                    self.without_object(uid, is_static);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if let Some(entry) = self.entries.lock().get_mut(uid) {
                entry.written = Some(known.clone());
            }
        }
        let ended = is_terminal(known.status().get("phase").and_then(Value::as_str));
        if known.metadata.is_deleting() && finished && ended && !is_static {
            self.delete(uid, &key).await?;
        }
        Ok(())
    }

    /// Nothing is written of a pod that is gone; a static one gets another image, whose coming is told.
    fn without_object(&self, uid: &str, is_static: bool) {
        if !is_static {
            self.forget(uid);
        } else if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.written = None;
        }
    }

    /// `None` when the pod is gone or another one has its name.
    async fn patch(&self, key: &ObjectKey, patch: Value) -> Result<Option<RawPod>, Error> {
        let patch = Patch::Strategic(patch);
        let (namespace, name) = (&key.namespace, &key.name);
        match self.client.patch(&resources::PODS, namespace, name, patch, Some("status")).await {
            Ok(pod) => Ok(Some(pod)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_conflict() && !self.pods.is_named_in_api(key) => Ok(None),
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
