//! Leader election over a Lease, with the rules and times of client-go: of several candidates at most one works.
//!
//! A candidate takes over a lease that its holder has not renewed for the lease's duration, as observed on this process's own
//! clock: clocks of different hosts are never compared. A leader that could not renew within the renew deadline stops before
//! others may take over.

use std::time::Duration;

use kedge_base::{SharedClock, Shutdown, TaskGroup, random, time};
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::Client;

/// How long others wait for a leader that is silent.
const LEASE: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it stops.
const RENEW: Duration = Duration::from_secs(10);
/// Between attempts.
const RETRY: Duration = Duration::from_secs(2);
/// How long the work may take to end before the lease is given back; if it takes longer, the lease is left to run out.
const STOP: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "kube-system";
const TASK: &str = "leader election";

/// One who wants to lead.
pub struct Candidate {
    client: Client,
    clock: SharedClock,
    /// The lease's name, such as `kube-scheduler`.
    lease: &'static str,
    identity: String,
    observed: Option<Observed>,
}

/// The lease as it was last seen to change.
struct Observed {
    lease: Value,
    /// On the monotonic clock.
    at: Duration,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The lease is ours.
    Held,
    /// Another one holds it.
    Taken,
    /// Somebody wrote at the same time; who, is seen at the next attempt.
    Raced,
}

impl Candidate {
    /// A candidate of this host for a lease.
    pub fn new(client: Client, clock: SharedClock, lease: &'static str, host: &str) -> Self {
        Self { client, clock, lease, identity: format!("{host}_{}", random::uuid()), observed: None }
    }

    /// Leads whenever it can until `tasks` shut down: `work` is started in a group of its own, which is stopped when the
    /// lease is lost. The lease is given back at shutdown.
    pub async fn run(mut self, tasks: TaskGroup, work: impl Fn(&TaskGroup) + Send + 'static) {
        let shutdown = tasks.shutdown().clone();
        while !shutdown.is_requested() {
            let acquired = tokio::select! {
                acquired = tasks.catch(TASK, self.acquire()) => acquired.is_ok(),
                () = shutdown.requested() => return,
            };
            if !acquired {
                self.pause(&shutdown).await;
                continue;
            }
            info!(lease = self.lease, identity = self.identity, "leading");
            // Its own group, of which it is known when all has ended.
            let group = tasks.apart(self.lease);
            let mut panicked = tasks.catch_now(TASK, || work(&group)).is_err();
            let lead = async {
                // A panic loses the lease as well: nobody would renew it while its work goes on.
                panicked = panicked || tasks.catch(TASK, self.keep()).await.is_err();
            };
            tokio::select! {
                () = lead => warn!(lease = self.lease, "the lease was lost; its work is stopped"),
                () = shutdown.requested() => {}
            }
            // While anything of it still works, nobody is to follow: not another one, nor this one again.
            let ended = group.join(STOP).await;
            if !ended {
                warn!(lease = self.lease, left = group.len(), "the work under the lease does not end");
            }
            if shutdown.is_requested() {
                if ended {
                    self.release().await;
                }
                return;
            }
            group.finished().await;
            if panicked {
                self.pause(&shutdown).await;
            }
        }
    }

    /// After a panic, others may be faster.
    async fn pause(&self, shutdown: &Shutdown) {
        tokio::select! {
            () = self.clock.sleep(RETRY) => {}
            () = shutdown.requested() => {}
        }
    }

    /// Completes when this candidate holds the lease.
    async fn acquire(&mut self) {
        loop {
            match self.attempt_within(RENEW).await {
                Some(Ok(Outcome::Held)) => return,
                Some(Ok(Outcome::Raced | Outcome::Taken)) => {}
                Some(Err(err)) => warn!(lease = self.lease, error = %err, "cannot acquire the lease yet"),
                None => warn!(lease = self.lease, "cannot acquire the lease yet: the API did not answer in time"),
            }
            // Candidates that start together do not try together.
            self.clock.sleep(RETRY + RETRY.mul_f64((random::u64() % 1_200) as f64 / 1_000.0)).await;
        }
    }

    /// Completes when the lease is lost, at the latest when the renew deadline has passed without a renewal.
    async fn keep(&mut self) {
        let mut deadline = self.clock.monotonic() + RENEW;
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            let started = self.clock.monotonic();
            match self.attempt_within(left).await {
                // What counts is when the renewal was sent: others may have seen it right then.
                Some(Ok(Outcome::Held)) => deadline = started + RENEW,
                Some(Ok(Outcome::Taken)) | None => return,
                // An earlier renewal whose answer was lost may have been written after all.
                Some(Ok(Outcome::Raced)) => {}
                Some(Err(err)) => warn!(lease = self.lease, error = %err, "cannot renew the lease yet"),
            }
            let left = deadline.saturating_sub(self.clock.monotonic());
            self.clock.sleep(RETRY.min(left)).await;
        }
    }

    /// An attempt that is given up after a time: an API that is cut off may not answer at all.
    async fn attempt_within(&mut self, limit: Duration) -> Option<Result<Outcome, crate::Error>> {
        let clock = self.clock.clone();
        tokio::select! {
            biased;
            attempt = self.attempt() => Some(attempt),
            () = clock.sleep(limit) => None,
        }
    }

    /// Takes or renews the lease, if it is ours, free or silent for too long.
    async fn attempt(&mut self) -> Result<Outcome, crate::Error> {
        let current: Value = match self.client.get(&resources::LEASES, NAMESPACE, self.lease).await {
            Ok(lease) => lease,
            Err(err) if err.is_not_found() => return self.create().await,
            Err(err) => return Err(err),
        };
        let now = self.clock.monotonic();
        let spec = &current["spec"];
        if self.observed.as_ref().is_none_or(|seen| seen.lease["spec"] != *spec) {
            self.observed = Some(Observed { lease: current.clone(), at: now });
        }
        let holder = spec["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or(LEASE.as_secs());
        let silent_since = self.observed.as_ref().map_or(now, |seen| seen.at);
        let silent = now >= silent_since.saturating_add(Duration::from_secs(seconds));
        if !holder.is_empty() && holder != self.identity && !silent {
            return Ok(Outcome::Taken);
        }
        let stamp = time::rfc3339_micro(self.clock.now());
        let mut wanted = current.clone();
        let transitions = spec["leaseTransitions"].as_u64().unwrap_or_default();
        let ours = holder == self.identity;
        wanted["spec"] = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE.as_secs(),
            "acquireTime": if ours { spec["acquireTime"].clone() } else { json!(stamp) },
            "renewTime": stamp,
            "leaseTransitions": transitions + u64::from(!ours),
        });
        self.write(wanted).await
    }

    async fn create(&mut self) -> Result<Outcome, crate::Error> {
        let stamp = time::rfc3339_micro(self.clock.now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.lease, "namespace": NAMESPACE},
            "spec": {
                "holderIdentity": self.identity, "leaseDurationSeconds": LEASE.as_secs(),
                "acquireTime": stamp, "renewTime": stamp, "leaseTransitions": 0,
            },
        });
        match self.client.create::<Value>(&resources::LEASES, NAMESPACE, &lease).await {
            Ok(created) => Ok(self.holds(created)),
            Err(err) if err.is_already_exists() => Ok(Outcome::Raced),
            Err(err) => Err(err),
        }
    }

    async fn write(&mut self, lease: Value) -> Result<Outcome, crate::Error> {
        match self.client.update::<Value>(&resources::LEASES, NAMESPACE, self.lease, &lease).await {
            Ok(written) => Ok(self.holds(written)),
            // Another candidate wrote first.
            Err(err) if err.is_conflict() => Ok(Outcome::Raced),
            Err(err) => Err(err),
        }
    }

    fn holds(&mut self, lease: Value) -> Outcome {
        self.observed = Some(Observed { lease, at: self.clock.monotonic() });
        Outcome::Held
    }

    /// Gives the lease back, so that the next one need not wait.
    async fn release(&mut self) {
        let Some(Observed { mut lease, .. }) = self.observed.take() else { return };
        if lease["spec"]["holderIdentity"] != self.identity.as_str() {
            return;
        }
        lease["spec"]["holderIdentity"] = json!("");
        lease["spec"]["leaseDurationSeconds"] = json!(1);
        lease["spec"]["renewTime"] = json!(time::rfc3339_micro(self.clock.now()));
        match time::timeout(RETRY, self.write(lease)).await {
            Ok(Ok(_)) => info!(lease = self.lease, "lease given back"),
            Ok(Err(err)) => warn!(lease = self.lease, error = %err, "cannot give the lease back"),
            Err(_) => warn!(lease = self.lease, "cannot give the lease back in time"),
        }
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
