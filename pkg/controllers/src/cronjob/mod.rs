//! Starts Jobs by the clock.
//!
//! Invariant: a run's Job is named by its time, so that a run is started once however often it is tried.

mod plan;
pub(crate) mod schedule;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kedge_base::time;
use kedge_client::{Change, DeleteOptions, Error, EventRecorder, EventType, Informer, Patch, WorkQueue};
use kedge_meta::resources::{CRON_JOBS, JOBS};
use kedge_meta::{ObjectKey, ObjectReference};
use serde_json::{Value, json};

use crate::context::{Context, ignore_not_found};
use crate::objects::{CronJob, Job, Meta};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::index::OwnerIndex;
use crate::workload::{controller_ref, manager, reference};
use plan::{Missed, schedule_of};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    crons: Informer<CronJob>,
    jobs: OwnerIndex<Job>,
}

/// Starts the controller.
pub fn start(ctx: &Context, jobs: &Informer<Job>) {
    let queue = ctx.queue();
    let crons: Informer<CronJob> = ctx.informer(&CRON_JOBS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("cronjob-controller"),
        queue: queue.clone(),
        crons: crons.clone(),
        jobs: OwnerIndex::new(jobs),
    });
    let c = controller.clone();
    crons.on_change(move |change| c.changed(change));
    let q = queue.clone();
    jobs.on_change(move |change| {
        for job in change.old.iter().chain(&change.new) {
            if let Some(owner) = manager(&CRON_JOBS, &job.metadata) {
                q.add(ObjectKey::new(&job.metadata.namespace, &owner.name));
            }
        }
    });
    let (c, jobs) = (controller.clone(), jobs.clone());
    let synced = async move {
        c.crons.synced().await;
        jobs.synced().await;
    };
    ctx.work("cronjob", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// The zone that is named beside the schedule; the machine's if none is.
fn zone_of(cron: &CronJob) -> Option<TimeZone> {
    match &cron.spec.time_zone {
        Some(name) => kedge_base::time::zone(name),
        None => Some(TimeZone::system()),
    }
}

impl Controller {
    /// A changed schedule counts from its next time on: what would have been missed by it is not made up for.
    fn changed(&self, change: &Change<CronJob>) {
        let key = change.key();
        let (Some(old), Some(new)) = (&change.old, &change.new) else { return self.queue.add(key) };
        if old.spec.schedule == new.spec.schedule && old.spec.time_zone == new.spec.time_zone {
            return self.queue.add(key);
        }
        let zone = zone_of(new).unwrap_or(TimeZone::UTC);
        match schedule_of(&new.spec.schedule, zone) {
            Ok((schedule, zone)) => {
                let wait = plan::wait(new, &schedule, &zone, self.ctx.clock.now());
                self.queue.add_after(key, wait.unwrap_or_default());
            }
            Err(_) => {
                let message = format!("unparseable schedule for cronjob: {}", new.spec.schedule);
                let object = reference(&CRON_JOBS, &new.metadata);
                self.events.event(&object, EventType::Warning, "UnParseableCronJobSchedule", message);
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let mut cron = (*cron).clone();
        let object = reference(&CRON_JOBS, &cron.metadata);
        let jobs = self.jobs.managed(&cron.metadata.uid);
        for job in plan::surplus(&cron, &jobs) {
            self.delete_job(&object, &job.metadata.namespace, &job.metadata.name, &job.metadata.uid).await?;
        }
        let before = cron.status.clone();
        self.settle(&mut cron, &object, &jobs).await?;
        let started = if cron.metadata.is_deleting() { Ok(()) } else { self.run_due(&key, &mut cron, &object).await };
        if cron.status != before {
            self.write_status(&cron).await?;
        }
        started
    }

    /// Takes finished and lost Jobs off the list of active ones.
    async fn settle(&self, cron: &mut CronJob, object: &ObjectReference, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let normal = |reason: &str, message: String| self.events.event(object, EventType::Normal, reason, message);
        for job in jobs {
            let listed = cron.status.active.iter().any(|a| a.uid == job.metadata.uid);
            let name = &job.metadata.name;
            if !listed && job.finished().is_none() {
                // What this controller has just written itself may not have come back yet.
                let written: CronJob =
                    self.ctx.client.get(&CRON_JOBS, &cron.metadata.namespace, &cron.metadata.name).await?;
                if written.status.active.iter().any(|a| a.uid == job.metadata.uid) {
                    *cron = written;
                    continue;
                }
            }
            match job.finished() {
                None if !listed => {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.events.event(object, EventType::Warning, "UnexpectedJob", message);
                }
                Some(condition) if listed => {
                    normal("SawCompletedJob", format!("Saw completed job: {name}, condition: {}", condition.kind));
                    cron.status.active.retain(|a| a.uid != job.metadata.uid);
                }
                _ => {}
            }
            let completed = job.finished().is_some_and(|c| c.kind == "Complete");
            // The text form sorts as the times do.
            if completed && job.status.completion_time > cron.status.last_successful_time {
                cron.status.last_successful_time.clone_from(&job.status.completion_time);
            }
        }
        for active in cron.status.active.clone() {
            if jobs.iter().any(|j| j.metadata.uid == active.uid) {
                continue;
            }
            match self.ctx.client.get::<Meta>(&JOBS, &active.namespace, &active.name).await {
                Ok(job) if job.metadata.uid == active.uid => {}
                Ok(_) => cron.status.active.retain(|a| a.uid != active.uid),
                Err(err) if err.is_not_found() => {
                    normal("MissingJob", format!("Active job went missing: {}", active.name));
                    cron.status.active.retain(|a| a.uid != active.uid);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    async fn run_due(&self, key: &ObjectKey, cron: &mut CronJob, object: &ObjectReference) -> Result<(), Error> {
        let warn = |reason: &str, message: String| self.events.event(object, EventType::Warning, reason, message);
        let Some(zone) = zone_of(cron) else {
            let name = cron.spec.time_zone.as_deref().unwrap_or_default();
            warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: unknown time zone {name}"));
            return Ok(());
        };
        if cron.spec.suspend {
            return Ok(());
        }
        let text = cron.spec.schedule.clone();
        if text.contains("TZ") {
            let what = format!("CRON_TZ or TZ used in schedule {text:?} is not officially supported");
            let more = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";
            warn("UnsupportedSchedule", format!("{what}, see {more} for more details"));
        }
        let (schedule, zone) = match schedule_of(&text, zone) {
            Ok(found) => found,
            Err(err) => {
                warn("UnparseableSchedule", format!("unparseable schedule: {text:?} : {err}"));
                return Ok(());
            }
        };
        let now = self.ctx.clock.now();
        let position = match plan::position(cron, &schedule, &zone, now, true) {
            Ok(position) => position,
            Err(err) => {
                warn("InvalidSchedule", format!("invalid schedule: {text} : {err}"));
                return Ok(());
            }
        };
        if let Some(at) = position.latest {
            if position.missed == Missed::Many {
                let why =
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                warn("TooManyMissedTimes", why.to_owned());
            }
            self.run(cron, object, at, now).await?;
        }
        if let Some(wait) = plan::wait(cron, &schedule, &zone, now) {
            self.queue.add_after(key.clone(), wait);
        }
        Ok(())
    }

    async fn run(
        &self,
        cron: &mut CronJob,
        object: &ObjectReference,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        if plan::is_too_late(cron, at, now) {
            let when = at.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
            let message = format!("Missed scheduled time to start a job: {when}");
            self.events.event(object, EventType::Warning, "MissSchedule", message);
            return Ok(());
        }
        let name = format!("{}-{}", cron.metadata.name, at.as_second() / 60);
        if cron.status.active.iter().any(|a| a.name == name) {
            return Ok(());
        }
        if cron.spec.concurrency_policy == "Forbid" && !cron.status.active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.events.event(object, EventType::Normal, "JobAlreadyActive", message);
            return Ok(());
        }
        if cron.spec.concurrency_policy == "Replace" {
            for active in cron.status.active.clone() {
                self.delete_job(object, &active.namespace, &active.name, &active.uid).await?;
                cron.status.active.retain(|a| a.uid != active.uid);
            }
        }
        self.start_job(cron, object, &name, at).await
    }

    async fn start_job(
        &self,
        cron: &mut CronJob,
        object: &ObjectReference,
        name: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        let namespace = cron.metadata.namespace.clone();
        // The zone of the field, or UTC; one in the schedule itself does not count, as upstream.
        let zone = cron.spec.time_zone.as_deref().and_then(kedge_base::time::zone);
        let body = job_body(cron, name, at, &zone.unwrap_or(TimeZone::UTC));
        let job: Meta = match self.ctx.client.create(&JOBS, &namespace, &body).await {
            Ok(job) => {
                self.events.event(object, EventType::Normal, "SuccessfulCreate", format!("Created job {name}"));
                job
            }
            Err(err) if is_namespace_terminating(&err) => return Ok(()),
            Err(err) if err.is_already_exists() => {
                let job: Job = self.ctx.client.get(&JOBS, &namespace, name).await?;
                // It was started before, and the status not written; or it is somebody else's.
                if !job.metadata.is_controlled_by(&cron.metadata.uid) {
                    return Err(err);
                }
                if job.is_finished() {
                    cron.status.last_schedule_time = Some(time::rfc3339(at));
                    return Ok(());
                }
                Meta { metadata: job.metadata }
            }
            Err(err) => {
                let message = format!("Error creating job: {err}");
                self.events.event(object, EventType::Warning, "FailedCreate", message);
                return Err(err);
            }
        };
        let mut active = reference(&JOBS, &job.metadata);
        active.resource_version.clone_from(&job.metadata.resource_version);
        cron.status.active.push(active);
        cron.status.last_schedule_time = Some(time::rfc3339(at));
        Ok(())
    }

    async fn delete_job(&self, object: &ObjectReference, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::with_uid(uid) };
        match self.ctx.client.delete(&JOBS, namespace, name, &options).await {
            Ok(()) => {
                self.events.event(object, EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Err(err) if err.is_not_found() => Ok(()),
            Err(err) => {
                self.events.event(object, EventType::Warning, "FailedDelete", format!("Deleted job: {err}"));
                Err(err)
            }
        }
    }

    async fn write_status(&self, cron: &CronJob) -> Result<(), Error> {
        let status = &cron.status;
        let patch = json!({ "metadata": { "resourceVersion": cron.metadata.resource_version }, "status": {
            "active": if status.active.is_empty() { Value::Null } else { json!(status.active) },
            "lastScheduleTime": status.last_schedule_time,
            "lastSuccessfulTime": status.last_successful_time,
        } });
        let (namespace, name) = (&cron.metadata.namespace, &cron.metadata.name);
        let patched = self.ctx.client.patch(&CRON_JOBS, namespace, name, Patch::Merge(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}

fn job_body(cron: &CronJob, name: &str, at: Timestamp, zone: &TimeZone) -> Value {
    let template = &cron.spec.job_template;
    let mut annotations = template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
    let local = at.to_zoned(zone.clone());
    let offset = if local.offset().is_zero() { "Z".to_owned() } else { local.strftime("%:z").to_string() };
    annotations[SCHEDULED_AT] = format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")).into();
    json!({
        "apiVersion": JOBS.api_version(),
        "kind": JOBS.kind,
        "metadata": {
            "name": name,
            "namespace": cron.metadata.namespace,
            "labels": template.pointer("/metadata/labels"),
            "annotations": annotations,
            "ownerReferences": [controller_ref(&CRON_JOBS, &cron.metadata)],
        },
        "spec": template["spec"],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_job_is_named_by_its_time() {
        let cron: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
            "spec": {"jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}},
        }))
        .unwrap();
        let body = job_body(&cron, "c-1", "2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC);
        assert_eq!(body["metadata"]["annotations"][SCHEDULED_AT], "2026-01-01T00:00:00Z");
        assert_eq!(body["metadata"]["labels"]["a"], "b");
        assert_eq!(body["spec"]["x"], 1);
    }
}
