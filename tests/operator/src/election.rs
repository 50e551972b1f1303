//! Who of several instances works: the one that holds a lease.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};

const LEASE: &str = "fleet-operator";
/// How long a lease lasts: longer than a server takes to come back, so that what its end does to watches is seen.
const SECONDS: i32 = 15;
const PAUSE: Duration = Duration::from_millis(300);

/// One instance's view of the lease.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    /// What the lease said last, and since when: clocks of others are not compared with ours.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    pub fn new(client: Client, identity: &str) -> Self {
        Self { leases: Api::default_namespaced(client), identity: identity.to_owned(), seen: None }
    }

    /// Returns when the lease is held by this instance.
    pub async fn win(&mut self) {
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(err) => tracing::info!("not elected: {err}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Renews the lease; returns when it is lost, or could not be renewed for as long as it lasts.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < Duration::from_secs(SECONDS.unsigned_abs().into()) {
            match self.try_once().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                // The server may be away for a moment.
                Err(err) => tracing::info!("not renewed: {err}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes or renews the lease if that may be; whether it is held.
    async fn try_once(&mut self) -> Result<bool, Error> {
        let now = MicroTime(Timestamp::now());
        let mine = |transitions: i32, acquired: MicroTime| LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(SECONDS),
            acquire_time: Some(acquired),
            renew_time: Some(now.clone()),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let Some(mut lease) = self.leases.get_opt(LEASE).await? else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(mine(0, now.clone())) };
            return as_outcome(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holds = spec.holder_identity.as_deref() == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or_default();
        if holds {
            lease.spec = Some(mine(transitions, spec.acquire_time.unwrap_or_else(|| now.clone())));
        } else {
            let since = match &self.seen {
                Some((seen, since)) if *seen == spec => *since,
                _ => Instant::now(),
            };
            let lasts = Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().unsigned_abs().into());
            if since.elapsed() < lasts {
                self.seen = Some((spec, since));
                return Ok(false);
            }
            lease.spec = Some(mine(transitions + 1, now.clone()));
        }
        // The version that was read goes with it: of two who try at the same time one is refused.
        as_outcome(self.leases.replace(LEASE, &PostParams::default(), &lease).await)
    }
}

fn as_outcome(written: Result<Lease, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(err) => Err(err),
    }
}
