//! The loop: take a pod from the queue, decide, assume, and bind in a task of its own.
//!
//! Invariants: decisions are made one after the other; at most [`WRITES`] pods are being written about; a pod taken from
//! the queue is given back or done with on every path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_base::{Panicked, SharedClock, TaskGroup, random};
use kedge_client::{Client, EventRecorder, Informer, ListParams};
use kedge_meta::resources;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};

use crate::api::{Node, Pod, Volume, volume_reaches};
use crate::bind::Writer;
use crate::cache::Cache;
use crate::framework::{Event, PluginSet, Profile};
use crate::listers::Listers;
use crate::plugins::{VolumeDecision, decide_volumes};
use crate::preemption::{Candidate, Refusal, preempt};
use crate::queue::{Outcome, Queued, SchedulingQueue};
use crate::schedule::{Cursor, Failure, schedule};
use crate::volumes::{VolumeBinder, VolumeError};

/// Pods that may be written about at the same time: half of the writes that an API server serves at a time by default.
const WRITES: usize = 100;
const PASS: &str = "scheduling";
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
    /// Counts changes of claims and ends of pods, for those who wait for volumes.
    pub changes: watch::Sender<u64>,
    profile: Profile,
    writer: Arc<Writer>,
    pods: Informer<Pod>,
    tasks: TaskGroup,
    writes: Arc<Semaphore>,
    /// Whether the handlers of changes are in place; a loop that is started again finds them.
    follows: AtomicBool,
}

/// Where a pod shall go.
struct Chosen {
    node: String,
    volumes: VolumeDecision,
}

/// Why binding has failed, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("running PreBind plugin \"VolumeBinding\": {0}")]
    Volumes(#[from] VolumeError),
    #[error("running Bind plugin \"DefaultBinder\": {0}")]
    Pod(#[from] kedge_client::Error),
    #[error("binding {0}")]
    Panic(#[from] Panicked),
}

/// Why it cannot go anywhere now, and what is done about it.
struct Unfit {
    message: String,
    rejected_by: PluginSet,
    /// The node it waits for from now on; empty for none, absent if that stays as it is.
    nominated: Option<String>,
    victims: Vec<Arc<Pod>>,
    /// Less important pods that waited for the same node.
    displaced: Vec<Arc<Pod>>,
}

/// Starts informers and the loop.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup, name: &str) {
    start_with(Profile::default(), client, clock, tasks, name);
}

fn start_with(profile: Profile, client: &Client, clock: &SharedClock, tasks: &TaskGroup, name: &str) {
    let tasks = tasks.child("scheduler");
    // Finished pods occupy nothing and are most of the pods where jobs run.
    let unfinished = ListParams::fields("status.phase!=Succeeded,status.phase!=Failed");
    let scheduler = Arc::new(Scheduler {
        name: name.to_owned(),
        state: Mutex::new(State { cache: Cache::default(), cursor: Cursor::new(random::u64()) }),
        queue: SchedulingQueue::new(clock.clone(), profile.interests()),
        listers: Listers::start(client, &tasks),
        changes: watch::Sender::new(0),
        profile,
        writer: Arc::new(Writer {
            client: client.clone(),
            clock: clock.clone(),
            recorder: EventRecorder::new(client, clock.clone(), &tasks, name, ""),
        }),
        pods: Informer::start(client, &tasks, &resources::PODS, unfinished),
        tasks: tasks.clone(),
        writes: Arc::new(Semaphore::new(WRITES)),
        follows: AtomicBool::new(false),
    });
    let nodes: Informer<Node> = Informer::start(client, &tasks, &resources::NODES, ListParams::default());
    tasks.spawn_worker(PASS, move || scheduler.clone().run(nodes.clone()));
}

impl Scheduler {
    async fn run(self: Arc<Self>, nodes: Informer<Node>) {
        self.listers.synced().await;
        nodes.synced().await;
        self.pods.synced().await;
        if !self.follows.swap(true, Ordering::SeqCst) {
            let this = self.clone();
            nodes.on_change(move |change| this.node_changed(change));
            let this = self.clone();
            self.pods.on_change(move |change| this.pod_changed(change));
            self.follow_listers();
        }
        info!(nodes = nodes.len(), pods = self.pods.len(), "scheduling");
        loop {
            let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
            let queued = self.queue.pop().await;
            if self.tasks.catch_now(PASS, || self.schedule_one(queued.clone(), permit)).is_err() {
                self.after_panic(&queued);
            }
            tokio::task::yield_now().await;
        }
    }

    fn follow_listers(self: &Arc<Self>) {
        let this = self.clone();
        self.listers.claims.on_change(move |_| {
            this.changes.send_modify(|n| *n += 1);
            this.queue.event(Event::Claim);
        });
        let this = self.clone();
        self.listers.volumes.on_change(move |_| {
            this.changes.send_modify(|n| *n += 1);
            this.queue.event(Event::Volume);
        });
        let this = self.clone();
        self.listers.storage_classes.on_change(move |_| this.queue.event(Event::StorageClass));
        let this = self.clone();
        self.listers.csi_nodes.on_change(move |change| {
            // That there is less room than before helps nobody.
            let grown = change.new.as_ref().is_some_and(|new| {
                let old = change.old.as_ref().map(|old| old.limits()).unwrap_or_default();
                change.old.is_none()
                    || new.limits().iter().any(|(driver, limit)| old.get(driver).copied().unwrap_or_default() < *limit)
            });
            if grown {
                this.queue.event(Event::CsiNode);
            }
        });
        let this = self.clone();
        self.listers.capacities.on_change(move |change| {
            let old = change.old.as_ref().and_then(|old| old.limit);
            if change.new.as_ref().is_some_and(|new| change.old.is_none() || new.limit > old) {
                this.queue.event(Event::Capacity);
            }
        });
        let this = self.clone();
        self.listers.attachments.on_change(move |change| {
            if change.new.is_none() {
                this.queue.event(Event::AttachmentDelete);
            }
        });
        let this = self.clone();
        self.listers.namespaces.on_change(move |_| this.queue.event(Event::Namespace));
    }

    fn schedule_one(self: &Arc<Self>, queued: Queued, permit: OwnedSemaphorePermit) {
        let pod = &queued.pod;
        if pod.metadata.is_deleting() || self.state.lock().cache.has_pod(pod.uid()) {
            // Its deletion will end it, or its binding is on its way: nothing is to be done.
            debug!(pod = %pod.metadata.key(), "not scheduling a pod that is being deleted or bound");
            self.queue.done(pod.uid());
            return;
        }
        let this = self.clone();
        match self.decide(pod) {
            Ok(chosen) => self.tasks.spawn("bind", async move { this.bind(queued, chosen, permit).await }),
            Err(unfit) => {
                let Some(pod) = self.queue.retry(&queued, Outcome::Rejected(unfit.rejected_by)) else { return };
                self.tasks.spawn("report", async move {
                    this.report(&pod, unfit).await;
                    drop(permit);
                });
            }
        }
    }

    /// The pod is tried again later. Trials take pods out of the cache for a moment, in which the panic may have been: its
    /// sums are made anew.
    fn after_panic(&self, queued: &Queued) {
        {
            let mut state = self.state.lock();
            state.cache.forget(queued.pod.uid());
            state.cache = state.cache.rebuilt();
        }
        if self.queue.retry(queued, Outcome::Error).is_some() {
            warn!(pod = %queued.pod.metadata.key(), "scheduling a pod panicked, trying again");
        }
    }

    /// Decides, and assumes what was decided.
    fn decide(&self, pod: &Arc<Pod>) -> Result<Chosen, Unfit> {
        let mut state = self.state.lock();
        let State { cache, cursor } = &mut *state;
        let node = match schedule(&self.profile, cache, &self.listers, pod, cursor) {
            Ok(node) => node,
            Err(failure) => return Err(self.unfit(cache, cursor, pod, failure)),
        };
        let volumes = decide_volumes(pod, cache.info(node), cache, &self.listers).map_err(|rejection| Unfit {
            message: rejection.reasons.join(", "),
            rejected_by: ANY_PLUGIN,
            nominated: None,
            victims: Vec::new(),
            displaced: Vec::new(),
        })?;
        volumes.bind.iter().for_each(|(_, volume)| cache.reserve_volume(&volume.metadata.name));
        cache.assume(pod.clone(), node);
        Ok(Chosen { node: cache.info(node).node.name().to_owned(), volumes })
    }

    /// Looks for pods to preempt, and nominates the node if there are some.
    fn unfit(&self, cache: &mut Cache, cursor: &mut Cursor, pod: &Arc<Pod>, failure: Failure) -> Unfit {
        let mut unfit = Unfit {
            message: failure.to_string(),
            rejected_by: ANY_PLUGIN,
            nominated: Some(String::new()),
            victims: Vec::new(),
            displaced: Vec::new(),
        };
        let Failure::Fit(mut error) = failure else { return unfit };
        unfit.rejected_by = error.rejected_by;
        match preempt(&self.profile, cache, &self.listers, pod, &error, cursor) {
            Ok(Candidate { node, victims, .. }) => {
                let name = cache.info(node).node.name().to_owned();
                let less = |p: &&Arc<Pod>| p.priority < pod.priority;
                unfit.displaced = cache.nominated_to(&name).filter(less).cloned().collect();
                unfit.displaced.iter().for_each(|p| cache.unnominate(p.uid()));
                unfit.victims = victims;
                unfit.nominated = Some(name);
            }
            Err(refusal) => {
                error.post_filter = format!("preemption: {refusal}");
                if !matches!(refusal, Refusal::NotHelpful(_)) {
                    unfit.nominated = None;
                }
            }
        }
        if let Some(node) = &unfit.nominated {
            cache.nominate(pod.clone(), node);
        }
        unfit.message = error.to_string();
        debug!(pod = %pod.metadata.key(), reason = unfit.message, "unschedulable");
        unfit
    }

    async fn report(&self, pod: &Pod, unfit: Unfit) {
        let node = unfit.nominated.as_deref();
        for displaced in &unfit.displaced {
            self.writer.clear_nomination(displaced).await;
        }
        for victim in unfit.victims.iter().filter(|v| !v.metadata.is_deleting()) {
            if let Err(err) = self.writer.preempt(pod, victim, node.unwrap_or_default(), &self.name).await {
                warn!(pod = %pod.metadata.key(), victim = %victim.metadata.key(), error = %err, "preemption failed");
                self.queue.activate(pod.uid());
            }
        }
        self.writer.failed(pod, "Unschedulable", &unfit.message, node).await;
    }

    async fn bind(&self, queued: Queued, chosen: Chosen, permit: OwnedSemaphorePermit) {
        let pod = &queued.pod;
        let work = self.bind_volumes_and_pod(&queued, &chosen, permit);
        let result = self.tasks.catch("bind", work).await.unwrap_or_else(|panicked| Err(panicked.into()));
        {
            let mut state = self.state.lock();
            chosen.volumes.bind.iter().for_each(|(_, volume)| state.cache.release_volume(&volume.metadata.name));
        }
        let Err(err) = result else {
            self.queue.done(pod.uid());
            return;
        };
        let forgotten = self.state.lock().cache.forget(pod.uid());
        self.queue.event(Event::PodDelete);
        let ended = match &err {
            BindError::Pod(err) => err.is_not_found(),
            BindError::Volumes(VolumeError::PodGone) => true,
            BindError::Volumes(_) | BindError::Panic(_) => false,
        };
        if !forgotten || ended {
            self.queue.done(pod.uid());
            return;
        }
        warn!(pod = %pod.metadata.key(), node = chosen.node, error = %err, "binding failed, trying again");
        let message = err.to_string();
        if let Some(pod) = self.queue.retry(&queued, Outcome::Error) {
            self.writer.failed(&pod, "SchedulerError", &message, Some("")).await;
        }
    }

    async fn bind_volumes_and_pod(
        &self,
        queued: &Queued,
        chosen: &Chosen,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), BindError> {
        let pod = &queued.pod;
        if chosen.volumes.is_empty() {
            self.writer.bind(pod, &chosen.node).await?;
            drop(permit);
            return Ok(());
        }
        // Volumes may take minutes, in which others shall not wait.
        drop(permit);
        let binder = VolumeBinder {
            client: &self.writer.client,
            clock: &self.writer.clock,
            listers: &self.listers,
            changed: self.changes.subscribe(),
        };
        let gone = || self.queue.is_gone(pod.uid());
        let reaches = |volume: &Volume| {
            let state = self.state.lock();
            let node = state.cache.find(&chosen.node).map(|index| state.cache.info(index).node.clone());
            node.is_some_and(|node| volume_reaches(volume, node.name(), &node.metadata.labels))
        };
        tokio::select! {
            done = binder.run(&chosen.volumes, &chosen.node, gone, reaches) => done?,
            () = self.tasks.shutdown().requested() => return Err(VolumeError::PodGone.into()),
        }
        self.writer.bind(pod, &chosen.node).await?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
