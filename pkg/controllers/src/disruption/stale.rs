//! Takes the mark of a disruption from pods that were to go and did not.
//!
//! Invariant: what the kubelet marked stays marked, since it may take any time to end a pod; and so does what has ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_base::time;
use kedge_client::{Error, Patch, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::resources::PODS;
use serde_json::json;
use tracing::info;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, Pod, condition, parse_time};

const TIMEOUT: Duration = Duration::from_secs(120);
const CONDITION: &str = "DisruptionTarget";

struct Cleaner {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
}

/// Starts to clean.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let cleaner = Arc::new(Cleaner { ctx: ctx.clone(), queue: queue.clone() });
    let (q, clock) = (queue.clone(), ctx.clock.clone());
    ctx.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        if let Some(wait) = wait(pod, clock.now()) {
            q.add_after(change.key(), wait);
        }
    });
    let pods = ctx.pods.clone();
    let synced = async move { pods.synced().await };
    ctx.work("stale-pod-disruption", &queue, 1, synced, cleaner, |c, key| async move { c.reconcile(key).await });
}

/// How long a pod that is marked may take until it is deleted; none if it is not marked, or is on its way.
fn wait(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let mark = condition(&pod.status.conditions, CONDITION).filter(|c| c.is_true())?;
    if pod.metadata.is_deleting() || pod.is_terminal() || mark.reason == "TerminationByKubelet" {
        return None;
    }
    let since = parse_time(mark.last_transition_time.as_ref()).unwrap_or(Timestamp::UNIX_EPOCH);
    let end = since.checked_add(TIMEOUT).unwrap_or(Timestamp::MAX);
    Some(Duration::try_from(now.duration_until(end)).unwrap_or_default())
}

impl Cleaner {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        let now = self.ctx.clock.now();
        let Some(left) = wait(&pod, now) else { return Ok(()) };
        if !left.is_zero() {
            self.queue.add_after(key, left);
            return Ok(());
        }
        let mark = json!({
            "type": CONDITION, "status": "False", "reason": null, "message": null, "lastProbeTime": null,
            "lastTransitionTime": time::rfc3339(now), "observedGeneration": pod.metadata.generation,
        });
        let metadata = json!({"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version});
        let patch = Patch::Strategic(json!({"metadata": metadata, "status": {"conditions": [mark]}}));
        let patched = self.ctx.client.patch(&PODS, &key.namespace, &key.name, patch, Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))?;
        info!(pod = %key, "a pod that was to go is still there, its mark is taken away");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_should_be_gone_is_stale() {
        let pod = |reason: &str, status: &str, phase: &str| -> Pod {
            let mark = json!({"type": CONDITION, "status": status, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({"status": {"phase": phase, "conditions": [mark]}})).unwrap()
        };
        let at = |seconds: i64| Timestamp::from_second(1_767_225_600 + seconds).unwrap();
        let marked = pod("EvictionByEvictionAPI", "True", "Running");
        assert_eq!(wait(&marked, at(20)), Some(Duration::from_secs(100)));
        assert_eq!(wait(&marked, at(200)), Some(Duration::ZERO));
        let mut going = marked;
        going.metadata.deletion_timestamp = Some("2026-01-01T00:00:01Z".into());
        for other in [
            going,
            pod("TerminationByKubelet", "True", "Running"),
            pod("EvictionByEvictionAPI", "False", "Running"),
            pod("EvictionByEvictionAPI", "True", "Failed"),
        ] {
            assert_eq!(wait(&other, at(200)), None);
        }
    }
}
