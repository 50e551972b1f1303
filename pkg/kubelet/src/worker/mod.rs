//! The workers: one task a pod, from the moment the pod is bound to this node until nothing of it is left.
//!
//! A worker alone acts on its pod, so that nothing here needs a lock across pods. It is told that something changed,
//! never what, and reads pod and runtime again before it decides.

mod admit;
mod cleanup;
mod credentials;
mod duration;
mod environment;
mod fail;
mod gc;
mod image_gc;
mod image_name;
mod images;
mod kill;
mod ordering;
mod own_files;
mod pod_worker;
mod resize;
mod sandbox;
mod start;
mod storage;
mod sync_pod;
mod undisturbed;

use std::collections::HashMap;
use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_client::Change;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::debug;

pub(crate) use gc::{collect_all, start as start_gc};
pub(crate) use image_gc::{ImageGc, free_images, start as start_image_gc};
pub(crate) use images::Images;
pub(crate) use storage::start as start_storage_limits;
pub(crate) use undisturbed::Undisturbed;

use admit::Failure;

use crate::kubelet::Kubelet;
use crate::pod::RawPod;

/// Upstream's grace of pods that store too much, in seconds.
const EVICTION_GRACE: i64 = 1;

/// Why a pod has to go, and the seconds it has for that.
#[derive(Clone)]
struct Eviction {
    failure: Failure,
    grace: i64,
    /// Whether the whole node was short, so that it is a disruption that was none of the pod's own making.
    of_node: bool,
}

/// What a worker knows of its pod.
pub(crate) struct Slot {
    pub(crate) uid: String,
    pod: Mutex<Arc<RawPod>>,
    wake: Arc<Notify>,
    /// `Some(grace)` when the pod is to end, with the seconds it has for that; only ever becomes shorter.
    terminate: watch::Sender<Option<i64>>,
    /// Why the pod has to go, if it has.
    evicted: Mutex<Option<Eviction>>,
    /// The object is gone from the API.
    gone: watch::Sender<bool>,
    /// Nothing of the pod is left here.
    done: watch::Sender<bool>,
}

impl Slot {
    fn new(pod: Arc<RawPod>) -> Slot {
        Slot {
            uid: pod.metadata.uid.clone(),
            pod: Mutex::new(pod),
            wake: Arc::new(Notify::new()),
            terminate: watch::Sender::new(None),
            evicted: Mutex::default(),
            gone: watch::Sender::new(false),
            done: watch::Sender::new(false),
        }
    }

    pub(crate) fn pod(&self) -> Arc<RawPod> {
        self.pod.lock().clone()
    }

    /// Whether this is another static pod of the same name, behind which nobody waits yet.
    fn is_namesake(&self, pod: &RawPod) -> bool {
        let own = self.pod();
        own.is_static() && own.metadata.uid != pod.metadata.uid && own.metadata.key() == pod.metadata.key()
    }

    /// Asks for the end of the pod; the shortest grace period asked for counts.
    pub(crate) fn terminate(&self, grace: i64) {
        self.terminate.send_if_modified(|now| {
            let shorter = now.is_none_or(|have| grace < have);
            if shorter {
                *now = Some(grace);
            }
            shorter
        });
        self.wake.notify_one();
    }
}

/// All workers of this node.
pub(crate) struct Workers {
    kubelet: Arc<Kubelet>,
    tasks: TaskGroup,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Workers {
    /// Starts to follow the pods of the API.
    pub(crate) fn start(kubelet: Arc<Kubelet>, tasks: &TaskGroup) -> Arc<Workers> {
        let workers = Arc::new(Workers { kubelet: kubelet.clone(), tasks: tasks.clone(), slots: Mutex::default() });
        let follower = Arc::downgrade(&workers);
        kubelet.pods.on_api_change(move |change: &Change<RawPod>| {
            if let Some(workers) = follower.upgrade() {
                workers.on_change(change);
            }
        });
        workers
    }

    /// Whether a pod has a worker, which then alone cleans up after it.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.slots.lock().contains_key(uid)
    }

    /// Ends a pod because of what it uses.
    fn evict(&self, uid: &str, failure: Failure) {
        self.end_for(uid, Eviction { failure, grace: EVICTION_GRACE, of_node: false });
    }

    /// Ends a pod because the node is short of something, within so many seconds.
    pub(crate) fn evict_for(&self, uid: &str, message: String, grace: i64) {
        let failure = Failure { reason: "Evicted".into(), message };
        self.end_for(uid, Eviction { failure, grace, of_node: true });
    }

    fn end_for(&self, uid: &str, eviction: Eviction) {
        let slots = self.slots.lock();
        // One that ends already ends as it was to.
        let Some(slot) = slots.get(uid).filter(|slot| slot.terminate.borrow().is_none()) else { return };
        let grace = eviction.grace;
        slot.evicted.lock().get_or_insert(eviction);
        // Whatever is under way is given up.
        slot.terminate(grace);
    }

    /// Whether a pod is on its way out already.
    pub(crate) fn is_ending(&self, uid: &str) -> bool {
        let slots = self.slots.lock();
        slots.get(uid).is_none_or(|slot| slot.evicted.lock().is_some() || slot.terminate.borrow().is_some())
    }

    fn on_change(self: &Arc<Self>, change: &Change<RawPod>) {
        let now = change.new.as_ref().map(|p| p.metadata.uid.as_str());
        if let Some(old) = &change.old
            && now != Some(old.metadata.uid.as_str())
            && !self.mirrored(old)
        {
            self.removed(old);
        }
        if let Some(pod) = &change.new
            && !self.mirrored(pod)
        {
            self.updated(pod);
        }
    }

    /// What happens to an image of a static pod is news to who keeps the images and writes their status, and to nobody else.
    fn mirrored(&self, pod: &RawPod) -> bool {
        let Some(uid) = pod.mirror_of() else { return false };
        self.kubelet.statuses.recheck(uid);
        self.kubelet.mirrors.add(pod.metadata.key());
        true
    }

    /// Takes in what files say of one static pod.
    pub(crate) fn on_static(self: &Arc<Self>, change: &Change<RawPod>) {
        self.on_change(change);
        self.kubelet.mirrors.add(change.key());
    }

    fn updated(self: &Arc<Self>, pod: &Arc<RawPod>) {
        let uid = &pod.metadata.uid;
        let mut slots = self.slots.lock();
        let slot = match slots.get(uid) {
            Some(slot) => {
                let old = std::mem::replace(&mut *slot.pod.lock(), pod.clone());
                if pod.is_news_after(&old) {
                    slot.wake.notify_one();
                }
                slot.clone()
            }
            None => {
                let slot = Arc::new(Slot::new(pod.clone()));
                let before = slots.values().find(|other| pod.is_static() && other.is_namesake(pod)).cloned();
                slots.insert(uid.clone(), slot.clone());
                self.spawn(slot.clone(), before);
                slot
            }
        };
        drop(slots);
        if pod.metadata.is_deleting() {
            // Without a grace period in the metadata the pod's own counts, which the worker knows.
            slot.terminate(pod.metadata.deletion_grace_period_seconds.unwrap_or(i64::MAX));
        }
        self.kubelet.statuses.recheck(uid);
    }

    fn removed(&self, pod: &RawPod) {
        let uid = &pod.metadata.uid;
        self.kubelet.statuses.recheck(uid);
        let Some(slot) = self.slots.lock().get(uid).cloned() else { return };
        debug!(pod = %pod.metadata.key(), uid, "pod is gone from the API");
        slot.gone.send_replace(true);
        slot.terminate(pod.metadata.deletion_grace_period_seconds.unwrap_or(i64::MAX));
    }

    /// The image of a static pod may go now; and the file may be back, as it was, since it went.
    fn after_static(self: &Arc<Self>, slot: &Slot) {
        let pod = slot.pod();
        if !pod.is_static() {
            return;
        }
        let key = pod.metadata.key();
        if let Some(again) = self.kubelet.pods.of_file(&key).filter(|again| again.metadata.uid == slot.uid) {
            self.updated(&again);
        }
        self.kubelet.mirrors.add(key);
    }

    /// `before`: the static pod of the same name that a file told of until now. It ends before the new one begins: both would have the
    /// same ports and directories of the node.
    fn spawn(self: &Arc<Self>, slot: Arc<Slot>, before: Option<Arc<Slot>>) {
        self.kubelet.wakeups.add(&slot.uid, slot.wake.clone());
        let workers = self.clone();
        // After a panic the pod is looked at anew: whether it is to run or to end is in the slot and in the API, how far
        // it has come is in the runtime. The slot stays taken, so that there never are two workers.
        self.tasks.spawn_worker("pod-worker", move || {
            let (workers, slot, before) = (workers.clone(), slot.clone(), before.clone());
            async move {
                if let Some(before) = before {
                    // It says so in any case, and holds the sender as long as it is waited for.
                    let _ = before.done.subscribe().wait_for(|done| *done).await;
                }
                pod_worker::run(workers.kubelet.clone(), slot.clone()).await;
                workers.kubelet.wakeups.remove(&slot.uid);
                workers.kubelet.calls.forget(&slot.uid);
                workers.slots.lock().remove(&slot.uid);
                slot.done.send_replace(true);
                workers.after_static(&slot);
            }
        });
    }
}
