//! Leases.

use std::time::Duration;

use futures::StreamExt as _;
use kedge_etcdpb::etcdserverpb as pb;
use tonic::{Response, Status};

use super::Shared;
use super::caller::{Kind, Target};
use super::convert::unsigned;
use super::status::Subject;
use crate::api::{Lease, LeaseId, LeaseStatus};
use crate::check;
use crate::error::Error;

fn of_lease(lease: LeaseId) -> Subject {
    Subject { lease, ..Subject::default() }
}

impl Shared {
    pub(super) async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<Lease, Error> {
        let asked = check::lease_seconds(ttl)?;
        let id = id.unwrap_or(0);
        let too_long = |_| Error::LeaseTtl(asked);
        let request = pb::LeaseGrantRequest { id, ttl: i64::try_from(asked).map_err(too_long)? };
        let subject = Subject { ttl: asked, ..of_lease(id) };
        let answer = self.caller.call(Kind::Write, subject, |to| {
            let request = to.request(request);
            async move { to.lease().lease_grant(request).await }
        });
        let granted = answer.await?;
        if !granted.error.is_empty() {
            return Err(Error::Protocol(granted.error));
        }
        Ok(Lease { id: granted.id, ttl: Duration::from_secs(unsigned(granted.ttl)) })
    }

    pub(super) async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let answer = self.caller.call(Kind::Write, of_lease(id), |to| {
            let request = to.request(pb::LeaseRevokeRequest { id });
            async move { to.lease().lease_revoke(request).await }
        });
        answer.await.map(|_| ())
    }

    /// Keeping a lease alive twice does no harm, so it is repeated like a read.
    pub(super) async fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        let answer = self.caller.call(Kind::Read, of_lease(id), |to| keep_alive_once(to, id)).await?;
        if answer.ttl <= 0 {
            return Err(Error::LeaseNotFound(id));
        }
        Ok(Lease { id, ttl: Duration::from_secs(unsigned(answer.ttl)) })
    }

    pub(super) async fn lease(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let answer = self.caller.call(Kind::Read, of_lease(id), |to| {
            let request = to.request(pb::LeaseTimeToLiveRequest { id, keys: true });
            async move { to.lease().lease_time_to_live(request).await }
        });
        let mut status = answer.await?;
        if status.ttl < 0 {
            return Err(Error::LeaseNotFound(id));
        }
        status.keys.sort_unstable();
        Ok(LeaseStatus {
            id,
            ttl: Duration::from_secs(unsigned(status.granted_ttl)),
            remaining: Duration::from_secs(unsigned(status.ttl)),
            keys: status.keys,
        })
    }

    pub(super) async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let answer = self.caller.call(Kind::Read, Subject::default(), leases_once).await?;
        let mut ids: Vec<LeaseId> = answer.leases.into_iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

async fn keep_alive_once(to: Target, id: LeaseId) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
    let one = futures::stream::iter([pb::LeaseKeepAliveRequest { id }]);
    // The stream of requests stays open until the answer is there: etcd gives up with the client.
    let requests = one.chain(futures::stream::pending());
    let mut answers = to.lease().lease_keep_alive(to.request(requests)).await?.into_inner();
    let answer = answers.message().await?;
    answer.map(Response::new).ok_or_else(|| Status::unavailable("the stream ended without an answer"))
}

async fn leases_once(to: Target) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
    // A member lists what it knows; after a read that all members agree on, it knows what was acknowledged before.
    let agree = pb::RangeRequest { key: vec![0].into(), count_only: true, limit: 1, ..Default::default() };
    to.kv().range(to.request(agree)).await?;
    to.lease().lease_leases(to.request(pb::LeaseLeasesRequest {})).await
}
