//! Runs pods until enough of them have succeeded.

mod backoff;
mod count;
mod indexes;
mod plan;
mod pod;
mod policy;
mod sync;
mod tracking;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kedge_client::{Change, Error, Informer, Patch, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Job, Meta, Pod};
use crate::workload::expectations::Expectations;
use crate::workload::manager;
use crate::workload::pod_control::PodControl;
use backoff::Record;
use count::FINALIZER;

/// The value of `spec.managedBy` that means this controller.
const NAME: &str = "kubernetes.io/job-controller";

struct Controller {
    ctx: Context,
    pods: PodControl,
    queue: WorkQueue<ObjectKey>,
    /// Pods with our finalizer and without a Job.
    orphans: WorkQueue<ObjectKey>,
    jobs: Informer<Job>,
    expectations: Expectations,
    /// By Job: uids of pods whose finalizer was removed and which the cache may still show with it.
    settled: Mutex<HashMap<ObjectKey, HashSet<String>>>,
    records: Mutex<HashMap<ObjectKey, Record>>,
}

/// Starts the controller.
pub fn start(ctx: &Context, jobs: &Informer<Job>) {
    let (queue, orphans) = (ctx.queue(), ctx.queue());
    let events = ctx.recorder("job-controller");
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        pods: PodControl { client: ctx.client.clone(), events },
        queue: queue.clone(),
        orphans: orphans.clone(),
        jobs: jobs.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
        settled: Mutex::default(),
        records: Mutex::default(),
    });
    enqueue_changes(jobs, &queue);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    // What a deleted Job leaves behind.
    let c = controller.clone();
    jobs.on_change(move |change| {
        if let Some(job) = change.old.as_ref().filter(|_| change.new.is_none()) {
            let pods = c.ctx.pods_by_owner.managed(&job.metadata.uid);
            pods.iter().filter(|p| has_finalizer(p)).for_each(|p| c.orphans.add(p.metadata.key()));
        }
    });
    for (name, queue, is_orphan) in [("job", &queue, false), ("job-orphans", &orphans, true)] {
        let c = controller.clone();
        let synced = async move {
            c.jobs.synced().await;
            c.ctx.pods.synced().await;
        };
        ctx.work(name, queue, 5, synced, controller.clone(), move |c, key| async move {
            if is_orphan { c.release_orphan(key).await } else { c.reconcile(key).await }
        });
    }
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().any(|f| f == FINALIZER)
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let owner = |pod: &Option<Arc<Pod>>| {
            let meta = &pod.as_ref()?.metadata;
            manager(&resources::JOBS, meta).map(|o| ObjectKey::new(&meta.namespace, &o.name))
        };
        let (old, new) = (owner(&change.old), owner(&change.new));
        let Some(pod) = change.object() else { return };
        let uid = &pod.metadata.uid;
        for key in old.iter().chain(&new) {
            let finalized = change.new.as_ref().is_none_or(|p| !has_finalizer(p));
            if finalized && let Some(settled) = self.settled.lock().get_mut(key) {
                settled.remove(uid);
            }
            if change.new.is_none() || pod.metadata.is_deleting() {
                self.expectations.deletion_observed(key, uid);
            }
            self.queue.add(key.clone());
        }
        if let Some(key) = new.as_ref().filter(|_| change.old.is_none()) {
            self.expectations.creation_observed(key);
        }
        if change.new.as_ref().is_some_and(|p| has_finalizer(p)) {
            let job = new.and_then(|key| self.jobs.get(&key.namespace, &key.name));
            if !job.is_some_and(|j| pod.metadata.is_controlled_by(&j.metadata.uid) && !j.is_finished()) {
                self.orphans.add(pod.metadata.key());
            }
        }
    }

    /// Lets go of a pod that no Job will ever count.
    async fn release_orphan(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name).filter(|p| has_finalizer(p)) else {
            return Ok(());
        };
        if let Some(owner) = manager(&resources::JOBS, &pod.metadata) {
            // The cache of Jobs may lag behind that of pods.
            match self.ctx.client.get::<Job>(&resources::JOBS, &key.namespace, &owner.name).await {
                Ok(job) if job.metadata.uid == owner.uid && !job.is_finished() => return Ok(()),
                Err(err) if !err.is_not_found() => return Err(err),
                _ => {}
            }
        }
        self.remove_finalizer(&pod).await
    }

    async fn remove_finalizer(&self, pod: &Pod) -> Result<(), Error> {
        let patch =
            json!({ "metadata": { "uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
        let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
        let patched = self.ctx.client.patch(&resources::PODS, namespace, name, Patch::Strategic(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}
