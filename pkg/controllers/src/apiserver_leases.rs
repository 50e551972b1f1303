//! Deletes the leases of API servers that have not renewed them for long: such a server is gone.
//!
//! Invariant: a lease goes only as it was when it was seen to have run out, so that a server which comes back at that moment keeps it. While
//! there are no such leases nothing is woken.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_client::{DeleteOptions, Error, Informer, ListParams, Preconditions, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::resources::LEASES;
use tracing::info;

use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Lease, parse_time};

const NAMESPACE: &str = "kube-system";
const SELECTOR: &str = "apiserver.kubernetes.io/identity=kube-apiserver";
/// How long one that has run out may stay, at most: upstream looks once an hour.
const PATIENCE: Duration = Duration::from_secs(3600);

struct Collector {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
    leases: Informer<Lease>,
}

/// Starts the collector.
pub fn start(ctx: &Context) {
    let params = ListParams::labels(SELECTOR);
    let leases: Informer<Lease> = Informer::start_in(&ctx.client, &ctx.tasks, &LEASES, NAMESPACE, params);
    let queue = ctx.queue();
    enqueue_changes(&leases, &queue);
    let collector = Arc::new(Collector { ctx: ctx.clone(), queue: queue.clone(), leases: leases.clone() });
    let synced = async move { leases.synced().await };
    ctx.work("apiserver-leases", &queue, 1, synced, collector, |c, key| async move { c.reconcile(key).await });
}

/// When a lease runs out. One that does not say when, has.
fn end(lease: &Lease) -> Option<Timestamp> {
    let renewed = parse_time(lease.spec.renew_time.as_ref())?;
    let seconds = u64::try_from(lease.spec.lease_duration_seconds?).ok()?;
    renewed.checked_add(Duration::from_secs(seconds)).ok()
}

impl Collector {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(lease) = self.leases.get(&key.namespace, &key.name) else { return Ok(()) };
        let now = self.ctx.clock.now();
        let left = end(&lease).map(|end| Duration::try_from(now.duration_until(end)).unwrap_or_default());
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            self.queue.add_after(key, left.min(PATIENCE));
            return Ok(());
        }
        let metadata = &lease.metadata;
        let preconditions = Preconditions {
            uid: Some(metadata.uid.clone()),
            resource_version: Some(metadata.resource_version.clone()),
        };
        let options = DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() };
        match ignore_not_found(self.ctx.client.delete(&LEASES, NAMESPACE, &key.name, &options).await) {
            // It was renewed just now, and comes again with that change.
            Err(err) if err.is_conflict() => Ok(()),
            Ok(()) => {
                info!(lease = %key, "an API server has not renewed its lease, which is deleted");
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Bench;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/apiserver-x";

    fn lease(spec: &Value) -> Value {
        json!({"metadata": {"name": "apiserver-x", "namespace": "kube-system", "uid": "u"}, "spec": spec})
    }

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_goes() {
        let at = |time: &str| lease(&json!({"renewTime": time, "leaseDurationSeconds": 60}));
        let bench = Bench::new(vec![(PATH, at("2026-01-01T11:59:30.000000Z"))]);
        start(&bench.ctx);
        bench.advance(20).await;
        bench.api.put(PATH, at("2026-01-01T12:00:20.000000Z"));
        bench.advance(50).await;
        assert!(bench.api.calls(PATH).is_empty());
        bench.advance(12).await;
        let calls = bench.api.calls(PATH);
        assert_eq!((calls.len(), &calls[0].body["preconditions"]["uid"]), (1, &json!("u")));
        assert!(calls[0].body["preconditions"]["resourceVersion"].is_string());
    }

    #[tokio::test]
    async fn one_that_says_nothing_goes() {
        let bench = Bench::new(vec![(PATH, lease(&json!({"leaseDurationSeconds": 60})))]);
        start(&bench.ctx);
        bench.advance(1).await;
        assert_eq!(bench.api.calls(PATH).len(), 1);
    }
}
