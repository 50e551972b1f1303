//! Deletes Jobs some time after they have finished, if they say so.
//!
//! Invariant: a Job goes by what the API server says of it at that time, not by what a cache said.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::exposition::{self, Exposition, Histogram};
use kedge_client::{DeleteOptions, Error, Informer, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::resources::JOBS;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Job, parse_time};

/// `ExponentialBuckets(0.1, 2, 14)`.
const BOUNDS: [f64; 14] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    jobs: Informer<Job>,
    late: Histogram<14>,
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        let family = "ttl_after_finished_controller_job_deletion_duration_seconds";
        let help = "[ALPHA] The time it took to delete the job since it became eligible for deletion";
        out.family(family, "histogram", help);
        self.late.show(out, family, "");
    }
}

/// Starts the controller.
pub fn start(ctx: &Context, jobs: &Informer<Job>) {
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        jobs: jobs.clone(),
        late: Histogram::new(&BOUNDS),
    });
    exposition::list("ttl after finished", &controller);
    let q = queue.clone();
    jobs.on_change(move |change| {
        if change.new.as_ref().is_some_and(|job| expiry(job).is_some()) {
            q.add(change.key());
        }
    });
    let jobs = jobs.clone();
    let synced = async move { jobs.synced().await };
    ctx.work("ttl-after-finished", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

/// When a Job is to go.
fn expiry(job: &Job) -> Option<Timestamp> {
    if job.metadata.is_deleting() {
        return None;
    }
    let ttl = u64::try_from(job.spec.ttl_seconds_after_finished?).unwrap_or_default();
    let finished = parse_time(job.finished()?.last_transition_time.as_ref())?;
    Some(finished.checked_add(Duration::from_secs(ttl)).unwrap_or(Timestamp::MAX))
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else { return Ok(()) };
        if self.expired(&key, &job).is_none() {
            return Ok(());
        }
        // It may live longer by now, or be another one.
        let fresh: Job = match self.ctx.client.get(&JOBS, &key.namespace, &key.name).await {
            Ok(fresh) => fresh,
            Err(err) => return ignore_not_found(Err(err)),
        };
        let Some(late) = self.expired(&key, &fresh) else { return Ok(()) };
        let options =
            DeleteOptions { propagation_policy: Some("Foreground"), ..DeleteOptions::with_uid(&fresh.metadata.uid) };
        ignore_not_found(self.ctx.client.delete(&JOBS, &key.namespace, &key.name, &options).await)?;
        self.late.observe(late.as_secs_f64());
        Ok(())
    }

    /// For how long it should have been gone; none when it is not time yet, and then it comes again.
    fn expired(&self, key: &ObjectKey, job: &Job) -> Option<Duration> {
        let left = self.ctx.clock.now().duration_until(expiry(job)?);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                self.queue.add_after(key.clone(), left);
                None
            }
            _ => Some(left.unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Bench;

    const JOB: &str = "/apis/batch/v1/namespaces/a/jobs/one";

    fn job(ttl: Value, condition: &str, at: &str) -> Value {
        json!({"metadata": {"name": "one", "namespace": "a", "uid": "u"}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": at}]}})
    }

    fn bench(job: Value) -> Bench {
        let bench = Bench::new(vec![(JOB, job)]);
        let jobs = bench.ctx.informer(&JOBS);
        start(&bench.ctx, &jobs);
        bench
    }

    #[tokio::test]
    async fn a_job_goes_when_its_time_is_over() {
        let bench = bench(job(json!(10), "Complete", "2026-01-01T11:59:55Z"));
        bench.advance(4).await;
        assert!(!bench.api.object(JOB).is_null());
        bench.advance(2).await;
        let calls = bench.api.calls(JOB);
        assert_eq!((calls.len(), &calls[0].method), (1, &Method::DELETE));
        assert_eq!(calls[0].body, json!({"preconditions": {"uid": "u"}, "propagationPolicy": "Foreground"}));
    }

    #[tokio::test]
    async fn a_job_that_may_live_longer_stays() {
        let bench = bench(job(json!(10), "Failed", "2026-01-01T11:59:55Z"));
        bench.advance(3).await;
        bench.api.put(JOB, job(json!(60), "Failed", "2026-01-01T11:59:55Z"));
        bench.advance(30).await;
        assert!(bench.api.calls(JOB).is_empty());
        bench.advance(25).await;
        assert_eq!(bench.api.calls(JOB).len(), 1);
    }

    #[tokio::test]
    async fn others_stay() {
        for job in [
            job(Value::Null, "Complete", "2026-01-01T11:00:00Z"),
            job(json!(0), "Suspended", "2026-01-01T11:00:00Z"),
            job(json!(0), "Complete", "never"),
        ] {
            let bench = bench(job);
            bench.advance(5).await;
            assert!(bench.api.calls(JOB).is_empty());
        }
    }
}
