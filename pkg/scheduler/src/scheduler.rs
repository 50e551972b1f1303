//! The loop: take a pod from the queue, decide, assume, and bind in a task of its own.
//!
//! Invariants: decisions are made one after the other; at most [`BINDINGS`] writes are on their way; a pod taken from the
//! queue is given back or done with on every path.

use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup, random};
use kedge_client::{Client, EventRecorder, Informer, ListParams};
use kedge_meta::resources;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use crate::api::{Node, Pod};
use crate::bind::Writer;
use crate::cache::Cache;
use crate::fiterror::FitError;
use crate::framework::{Event, PluginSet, Profile};
use crate::listers::Listers;
use crate::queue::{Outcome, Queued, SchedulingQueue};
use crate::schedule::{Cursor, Failure, schedule};

/// Writes that may be on their way at the same time.
const BINDINGS: usize = 128;
/// Waits for any event that any plugin waits for.
const ANY_PLUGIN: PluginSet = PluginSet::MAX;

/// What a decision reads and leaves behind.
#[derive(Default)]
pub struct State {
    pub cache: Cache,
    pub cursor: Cursor,
}

/// The scheduler.
pub struct Scheduler {
    /// Pods that name another scheduler are left alone.
    pub name: String,
    pub state: Mutex<State>,
    pub queue: SchedulingQueue,
    pub listers: Listers,
    pub profile: Profile,
    pub writer: Arc<Writer>,
    pods: Informer<Pod>,
    tasks: TaskGroup,
    bindings: Arc<Semaphore>,
}

/// Starts informers and the loop.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup, name: &str) {
    let tasks = tasks.child("scheduler");
    let profile = Profile::default();
    // Finished pods occupy nothing and are most of the pods where jobs run.
    let unfinished = ListParams::fields("status.phase!=Succeeded,status.phase!=Failed");
    let scheduler = Arc::new(Scheduler {
        name: name.to_owned(),
        state: Mutex::new(State { cache: Cache::default(), cursor: Cursor::new(random::u64()) }),
        queue: SchedulingQueue::new(clock.clone(), profile.interests()),
        listers: Listers::start(client, &tasks),
        profile,
        writer: Arc::new(Writer {
            client: client.clone(),
            clock: clock.clone(),
            recorder: EventRecorder::new(client, clock.clone(), &tasks, name, ""),
        }),
        pods: Informer::start(client, &tasks, &resources::PODS, unfinished),
        tasks: tasks.clone(),
        bindings: Arc::new(Semaphore::new(BINDINGS)),
    });
    let nodes: Informer<Node> = Informer::start(client, &tasks, &resources::NODES, ListParams::default());
    tasks.spawn_until_shutdown("scheduling", scheduler.run(nodes));
}

impl Scheduler {
    async fn run(self: Arc<Self>, nodes: Informer<Node>) {
        self.listers.synced().await;
        nodes.synced().await;
        self.pods.synced().await;
        let this = self.clone();
        nodes.on_change(move |change| this.node_changed(change));
        let this = self.clone();
        self.pods.on_change(move |change| this.pod_changed(change));
        self.follow_listers();
        info!(nodes = nodes.len(), pods = self.pods.len(), "scheduling");
        loop {
            let Ok(permit) = self.bindings.clone().acquire_owned().await else { return };
            let queued = self.queue.pop().await;
            self.schedule_one(queued, permit);
            tokio::task::yield_now().await;
        }
    }

    fn follow_listers(self: &Arc<Self>) {
        let this = self.clone();
        self.listers.claims.on_change(move |_| this.queue.event(Event::Claim));
        let this = self.clone();
        self.listers.volumes.on_change(move |_| this.queue.event(Event::Volume));
        let this = self.clone();
        self.listers.storage_classes.on_change(move |_| this.queue.event(Event::StorageClass));
        let this = self.clone();
        self.listers.namespaces.on_change(move |_| this.queue.event(Event::Namespace));
    }

    fn schedule_one(self: &Arc<Self>, queued: Queued, permit: OwnedSemaphorePermit) {
        let pod = queued.pod.clone();
        if pod.metadata.is_deleting() {
            // Its deletion will end it; until then nothing is to be done.
            debug!(pod = %pod.metadata.key(), "not scheduling a pod that is being deleted");
            self.queue.done(pod.uid());
            return;
        }
        let decision = {
            let mut state = self.state.lock();
            let State { cache, cursor } = &mut *state;
            if cache.has_pod(pod.uid()) {
                self.queue.done(pod.uid());
                return;
            }
            let decision = schedule(&self.profile, cache, &self.listers, &pod, cursor);
            decision.map(|node| {
                cache.assume(pod.clone(), node);
                cache.info(node).node.name().to_owned()
            })
        };
        match decision {
            Ok(node) => {
                let this = self.clone();
                self.tasks.spawn("bind", async move {
                    this.bind(queued, &node).await;
                    drop(permit);
                });
            }
            Err(failure) => self.fail(&queued, failure, permit),
        }
    }

    async fn bind(&self, queued: Queued, node: &str) {
        let pod = &queued.pod;
        let Err(err) = self.writer.bind(pod, node).await else {
            self.queue.done(pod.uid());
            return;
        };
        let forgotten = self.state.lock().cache.forget(pod.uid());
        self.queue.event(Event::PodDelete);
        if err.is_not_found() || !forgotten {
            self.queue.done(pod.uid());
            return;
        }
        warn!(pod = %pod.metadata.key(), node, error = %err, "binding failed, trying again");
        let message = format!("binding rejected: {err}");
        if let Some(pod) = self.queue.retry(&queued, Outcome::Error) {
            self.writer.failed(&pod, "SchedulerError", &message, Some("")).await;
        }
    }

    /// Gives a pod back that fits nowhere, and says so.
    fn fail(self: &Arc<Self>, queued: &Queued, failure: Failure, permit: OwnedSemaphorePermit) {
        let message = failure.to_string();
        debug!(pod = %queued.pod.metadata.key(), reason = message, "unschedulable");
        let rejected_by = match &failure {
            Failure::Fit(error) => FitError::clone(error).rejected_by,
            Failure::NoNodes => ANY_PLUGIN,
            Failure::Assigned => {
                self.queue.done(queued.pod.uid());
                return;
            }
        };
        let Some(pod) = self.queue.retry(queued, Outcome::Rejected(rejected_by)) else { return };
        let writer = self.writer.clone();
        self.tasks.spawn("report", async move {
            writer.failed(&pod, "Unschedulable", &message, None).await;
            drop(permit);
        });
    }
}
