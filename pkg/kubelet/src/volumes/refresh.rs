//! Volumes of running pods, brought up to date beside their containers.
//!
//! Invariant: nothing of a pod waits for this: neither a restart nor the end of a container. For one pod one refresh runs at a time; what
//! fails is tried again, with growing pauses, as long as the pod is here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::{Backoff, SharedClock, TaskGroup};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{VolumeError, Volumes};
use crate::pod::PodExt;

/// Upstream's pauses between attempts at a mount.
const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(122);

/// What is wanted of the refresh of one pod.
struct Wanted {
    /// As it is now; `None` when the pod ends.
    pod: Option<Arc<Pod>>,
    /// Whether this has been seen.
    new: bool,
}

struct Slot {
    wanted: Mutex<Wanted>,
    changed: Notify,
    ended: Notify,
}

/// The refreshes of a node.
pub(crate) struct Refreshing {
    volumes: Arc<Volumes>,
    clock: SharedClock,
    tasks: TaskGroup,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Refreshing {
    pub(crate) fn new(volumes: Arc<Volumes>, clock: SharedClock, tasks: TaskGroup) -> Refreshing {
        Refreshing { volumes, clock, tasks, slots: Mutex::default() }
    }

    /// Has the volumes of a pod brought up to date, and `tell` say what went wrong. Returns at once.
    pub(crate) fn wake(self: &Arc<Self>, pod: &Arc<Pod>, tell: impl Fn(&Pod, &[VolumeError]) + Send + Sync + 'static) {
        let uid = pod.uid().to_owned();
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&uid) {
            *slot.wanted.lock() = Wanted { pod: Some(pod.clone()), new: true };
            slot.changed.notify_one();
            return;
        }
        let wanted = Mutex::new(Wanted { pod: Some(pod.clone()), new: true });
        let slot = Arc::new(Slot { wanted, changed: Notify::new(), ended: Notify::new() });
        slots.insert(uid.clone(), slot.clone());
        drop(slots);
        let this = self.clone();
        self.tasks.spawn_until_shutdown("volume-refresh", async move {
            // Also when it panics: the next wake begins anew.
            let _free = Free { refreshing: &this, uid: &uid, slot: &slot };
            this.run(&uid, &slot, tell).await;
        });
    }

    /// The pod ends: nothing is refreshed any more, and nobody waits for what is under way but whoever takes it back.
    pub(crate) fn end(&self, uid: &str) {
        if let Some(slot) = self.slots.lock().remove(uid) {
            slot.wanted.lock().pod = None;
            slot.ended.notify_one();
        }
    }

    /// Goes on until all is up to date.
    async fn run(&self, uid: &str, slot: &Arc<Slot>, tell: impl Fn(&Pod, &[VolumeError])) {
        let mut wait = Backoff::new(FIRST, LAST, 0);
        loop {
            let pod = {
                let mut wanted = slot.wanted.lock();
                wanted.new = false;
                wanted.pod.clone()
            };
            let Some(pod) = pod else { return };
            let done = tokio::select! {
                // First, so that nothing begins once the pod ends.
                biased;
                () = slot.ended.notified() => return,
                done = self.volumes.set_up(&pod) => done,
            };
            if let Err(errors) = done {
                tell(&pod, &errors);
                tokio::select! {
                    () = slot.ended.notified() => return,
                    () = self.clock.sleep(wait.next()) => {}
                    () = slot.changed.notified() => {}
                }
                continue;
            }
            // Under the lock of all slots: whoever wakes it finds it here, or makes a new one.
            let mut slots = self.slots.lock();
            let wanted = slot.wanted.lock();
            if !wanted.new || wanted.pod.is_none() {
                remove(&mut slots, uid, slot);
                return;
            }
        }
    }
}

/// Takes a slot away, unless there is another in its place.
fn remove(slots: &mut HashMap<String, Arc<Slot>>, uid: &str, slot: &Arc<Slot>) {
    if slots.get(uid).is_some_and(|current| Arc::ptr_eq(current, slot)) {
        slots.remove(uid);
    }
}

/// Frees the place of a refresh, however it ends.
struct Free<'a> {
    refreshing: &'a Refreshing,
    uid: &'a str,
    slot: &'a Arc<Slot>,
}

impl Drop for Free<'_> {
    fn drop(&mut self) {
        remove(&mut self.refreshing.slots.lock(), self.uid, self.slot);
    }
}
