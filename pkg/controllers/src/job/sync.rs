//! One pass over one Job.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kedge_base::time;
use kedge_client::{Error, EventType, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectKey, ObjectReference, resources};
use serde_json::{Value, json};
use tracing::warn;

use super::count::{Count, count, is_tracked};
use super::plan::{self, Action, FAILURE_TARGET, SUCCESS_CRITERIA_MET};
use super::{Controller, NAME, pod, tracking};
use crate::context::ignore_not_found;
use crate::objects::{Condition, Job, JobStatus, Meta, Pod, condition, omit_zero};
use crate::workload::claim::claim;
use crate::workload::expectations::TIMEOUT;
use crate::workload::pod_control::create_expected;
use crate::workload::reference;

const JOBS: &kedge_meta::Resource = &resources::JOBS;

impl Controller {
    pub(super) async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            self.settled.lock().remove(&key);
            self.records.lock().remove(&key);
            return Ok(());
        };
        if job.spec.managed_by.as_ref().is_some_and(|m| m != NAME) {
            return Ok(());
        }
        if job.is_finished() {
            self.records.lock().remove(&key);
            return Ok(());
        }
        let selector = match Selector::from_label_selector(&job.spec.selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(job = %key, error = %err, "the selector cannot be used");
                return Ok(());
            }
        };
        let seen_all = self.expectations.satisfied(&key);
        if !seen_all {
            self.queue.add_after(key.clone(), TIMEOUT);
        }
        let settled = self.settled.lock().get(&key).cloned().unwrap_or_default();
        let pods = self.ctx.pods_by_owner.candidates(&job.metadata);
        let pods = claim(&self.ctx.client, JOBS, &job.metadata, &resources::PODS, &selector, pods).await?;
        Pass::new(self, key, job, pods, settled, seen_all).run().await
    }
}

struct Pass<'a> {
    c: &'a Controller,
    key: ObjectKey,
    job: Arc<Job>,
    object: ObjectReference,
    pods: Vec<Arc<Pod>>,
    settled: HashSet<String>,
    seen_all: bool,
    count: Count,
    status: JobStatus,
    /// Of the Job, as this pass last wrote or read it.
    version: String,
    /// What the API server has.
    written: JobStatus,
    now: Timestamp,
}

impl<'a> Pass<'a> {
    fn new(
        c: &'a Controller,
        key: ObjectKey,
        job: Arc<Job>,
        pods: Vec<Arc<Pod>>,
        settled: HashSet<String>,
        seen_all: bool,
    ) -> Self {
        let count = count(&job, &pods, &settled);
        let (status, version) = (job.status.clone(), job.metadata.resource_version.clone());
        let object = reference(JOBS, &job.metadata);
        let now = c.ctx.clock.now();
        Self { c, key, object, pods, settled, seen_all, count, written: status.clone(), status, version, now, job }
    }

    async fn run(mut self) -> Result<(), Error> {
        if self.status.start_time.is_none() && !self.job.spec.suspend {
            self.status.start_time = Some(time::rfc3339(self.now));
        }
        let record = self.c.records.lock().get(&self.key).cloned().unwrap_or_default();
        let record = record.after(&self.count.new_succeeded, &self.count.new_failed);
        let mut ending = plan::ending(&self.job, &self.status, &self.pods, &self.count, self.now);
        let mut active = i64::try_from(self.count.active.len()).unwrap_or(i64::MAX);
        let managed = if ending.is_some() {
            let deleted = self.delete_active().await;
            if deleted.is_err() || !self.seen_all {
                ending = None;
            }
            if deleted.is_ok() {
                self.status_of_deleted(&mut active);
            }
            deleted
        } else if self.seen_all && !self.job.metadata.is_deleting() {
            let action = plan::manage(&self.job, &self.count, &record, self.now);
            let managed = self.manage(action, &mut active).await;
            if plan::is_complete(&self.job, self.count.succeeded, active) {
                let message = "Reached expected number of succeeded pods";
                ending = Some(plan::holds(SUCCESS_CRITERIA_MET, "CompletionsReached", message, self.now));
            } else {
                self.note_suspension();
            }
            managed
        } else {
            Ok(())
        };
        self.status.active = active;
        self.status.ready = Some(self.count.ready);
        self.status.terminating = Some(self.count.terminating);
        self.track(ending).await?;
        // Only now are the failures noted in the status, and will not be seen as new again.
        self.c.records.lock().insert(self.key.clone(), record);
        if let Some(left) = plan::deadline_in(&self.job, &self.status, self.now) {
            self.c.queue.add_after(self.key.clone(), left + Duration::from_millis(1));
        }
        managed
    }

    fn status_of_deleted(&mut self, active: &mut i64) {
        self.count.terminating += *active;
        *active = 0;
        self.count.ready = 0;
    }

    /// Deletes what runs. The finalizers stay, so that these pods are still counted.
    async fn delete_active(&self) -> Result<(), Error> {
        self.c.pods.delete_all(&self.count.active, &self.object, |_| ()).await
    }

    async fn manage(&mut self, action: Action, active: &mut i64) -> Result<(), Error> {
        match action {
            Action::Keep => Ok(()),
            Action::Wait(wait) => {
                self.c.queue.add_after(self.key.clone(), wait);
                Ok(())
            }
            Action::Delete(pods) => {
                let uids = pods.iter().map(|p| p.metadata.uid.clone());
                self.c.expectations.expect_deletions(&self.key, uids);
                let failed = |p: &Pod| self.c.expectations.deletion_observed(&self.key, &p.metadata.uid);
                // These do not count, neither as failed nor as succeeded.
                for (pod, released) in pods.iter().zip(join_all(pods.iter().map(|p| self.c.remove_finalizer(p))).await)
                {
                    if let Err(err) = released {
                        pods.iter().for_each(|p| failed(p));
                        warn!(pod = pod.metadata.name, error = %err, "a surplus pod of a Job cannot be released");
                        return Err(err);
                    }
                }
                self.c.pods.delete_all(&pods, &self.object, failed).await?;
                *active -= i64::try_from(pods.len()).unwrap_or_default();
                self.count.terminating += i64::try_from(pods.len()).unwrap_or_default();
                self.count.ready -= pods.iter().map(|p| i64::from(p.is_ready())).sum::<i64>();
                Ok(())
            }
            Action::Create(indexes) => {
                let (created, result) = self.create(&indexes).await;
                *active += i64::try_from(created).unwrap_or_default();
                result
            }
        }
    }

    async fn create(&self, indexes: &[Option<i64>]) -> (usize, Result<(), Error>) {
        let create = |i: usize| {
            let pod = pod::pod(&self.job, &self.count, indexes[i]);
            async move { self.c.pods.create(&self.key.namespace, &pod, &self.object).await }
        };
        create_expected(&self.c.expectations, &self.key, indexes.len(), create).await
    }

    fn note_suspension(&mut self) {
        let suspended = self.job.spec.suspend;
        let old = condition(&self.status.conditions, "Suspended").map(Condition::is_true);
        if old == Some(suspended) || (old.is_none() && !suspended) {
            return;
        }
        let (reason, message) =
            if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        let status = if suspended { "True" } else { "False" };
        let new = Condition { status: status.into(), ..plan::holds("Suspended", reason, message, self.now) };
        self.status.conditions.retain(|c| c.kind != "Suspended");
        self.status.conditions.push(new);
        self.status.start_time = (!suspended).then(|| time::rfc3339(self.now));
        let reason = if suspended { "Suspended" } else { "Resumed" };
        self.c.pods.events.event(&self.object, EventType::Normal, reason, message);
    }

    /// Counts ended pods, and ends the Job when all are counted.
    async fn track(&mut self, ending: Option<Condition>) -> Result<(), Error> {
        let mut tracked: HashSet<String> =
            self.pods.iter().filter(|p| is_tracked(p, &self.settled)).map(|p| p.metadata.uid.clone()).collect();
        tracking::settle(&mut self.status, &tracked);
        let well = ending.as_ref().map(|c| c.kind == SUCCESS_CRITERIA_MET);
        let (release, full) = tracking::note(&self.job, &mut self.status, &self.pods, &self.count, &self.settled, well);
        if let Some(ending) = ending.as_ref().filter(|e| condition(&self.status.conditions, &e.kind).is_none()) {
            self.status.conditions.push(ending.clone());
        }
        self.write().await?;
        let removed = self.remove_finalizers(&release, &mut tracked).await;
        tracking::settle(&mut self.status, &tracked);
        let ended = match ending {
            Some(ending) if removed.is_ok() && !full => self.end(&ending),
            _ => None,
        };
        self.write().await?;
        if let Some(ended) = ended {
            self.announce(&ended);
        }
        removed
    }

    async fn remove_finalizers(&self, pods: &[Arc<Pod>], tracked: &mut HashSet<String>) -> Result<(), Error> {
        if pods.is_empty() {
            return Ok(());
        }
        let uids = pods.iter().map(|p| p.metadata.uid.clone());
        self.c.settled.lock().entry(self.key.clone()).or_default().extend(uids);
        let results = join_all(pods.iter().map(|p| self.c.remove_finalizer(p))).await;
        let mut first = Ok(());
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => {
                    tracked.remove(&pod.metadata.uid);
                }
                Err(err) => {
                    if let Some(settled) = self.c.settled.lock().get_mut(&self.key) {
                        settled.remove(&pod.metadata.uid);
                    }
                    first = first.and(Err(err));
                }
            }
        }
        // Pods that the cache shows without finalizer, or not at all, will not change any more.
        for pod in pods {
            let current = self.c.ctx.pods.get(&pod.metadata.namespace, &pod.metadata.name);
            let gone = current.is_none_or(|p| p.metadata.uid != pod.metadata.uid || !super::has_finalizer(&p));
            if gone && let Some(settled) = self.c.settled.lock().get_mut(&self.key) {
                settled.remove(&pod.metadata.uid);
            }
        }
        first
    }

    /// The condition with which the Job ends for good, unless it has to wait for pods.
    fn end(&mut self, ending: &Condition) -> Option<Condition> {
        if !self.status.uncounted_terminated_pods.is_empty() || self.count.terminating > 0 {
            return None;
        }
        let kind = if ending.kind == FAILURE_TARGET { "Failed" } else { "Complete" };
        let ended = plan::holds(kind, &ending.reason, ending.message.clone(), self.now);
        if kind == "Complete" {
            self.status.completion_time = Some(time::rfc3339(self.now));
        }
        self.status.conditions.push(ended.clone());
        Some(ended)
    }

    fn announce(&self, ended: &Condition) {
        let events = &self.c.pods.events;
        if ended.kind == "Failed" {
            events.event(&self.object, EventType::Warning, &ended.reason, ended.message.clone());
            return;
        }
        if self.job.spec.completions.is_some_and(|c| self.status.succeeded > c) {
            let message = "Too many succeeded pods running after completion count reached";
            events.event(&self.object, EventType::Warning, "TooManySucceededPods", message);
        }
        events.event(&self.object, EventType::Normal, "Completed", "Job completed");
    }

    async fn write(&mut self) -> Result<(), Error> {
        if self.status == self.written {
            return Ok(());
        }
        let s = &self.status;
        let text = |t: &str| if t.is_empty() { Value::Null } else { t.into() };
        let uncounted = &s.uncounted_terminated_pods;
        let list = |l: &Vec<String>| if l.is_empty() { Value::Null } else { json!(l) };
        let patch = json!({ "metadata": { "resourceVersion": self.version }, "status": {
            "conditions": if s.conditions.is_empty() { Value::Null } else { json!(s.conditions) },
            "startTime": s.start_time,
            "completionTime": s.completion_time,
            "active": omit_zero(s.active),
            "ready": s.ready,
            "terminating": s.terminating,
            "succeeded": omit_zero(s.succeeded),
            "failed": omit_zero(s.failed),
            "completedIndexes": text(&s.completed_indexes),
            "failedIndexes": s.failed_indexes,
            "uncountedTerminatedPods": { "succeeded": list(&uncounted.succeeded), "failed": list(&uncounted.failed) },
        } });
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        let patched: Result<Meta, Error> =
            self.c.ctx.client.patch(JOBS, namespace, name, Patch::Merge(patch), Some("status")).await;
        match patched {
            Ok(meta) => {
                self.version = meta.metadata.resource_version;
                self.written = self.status.clone();
                Ok(())
            }
            Err(err) => ignore_not_found(Err(err)),
        }
    }
}
