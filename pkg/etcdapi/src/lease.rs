//! The Lease service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Error, Kv as _};
use tonic::{Request, Response, Status, Streaming};

use crate::convert::{signed, unsigned};
use crate::{Api, status};

pub(crate) struct LeaseService(pub(crate) Arc<Api>);

impl Api {
    async fn keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        // A lease that is gone is told by a time of zero, not by an error.
        let ttl = match self.kv.keep_alive(id).await {
            Ok(lease) => signed(lease.ttl.as_secs()),
            Err(Error::LeaseNotFound(_)) => 0,
            Err(error) => return Err(status::of(&error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header: self.header(), id, ttl })
    }
}

#[async_trait]
impl pb::lease_server::Lease for LeaseService {
    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let id = if request.id == 0 { None } else { Some(request.id) };
        let granted = self.0.kv.grant(id, Duration::from_secs(unsigned(request.ttl))).await;
        let lease = granted.map_err(|e| status::of(&e))?;
        let (header, ttl) = (self.0.header(), signed(lease.ttl.as_secs()));
        Ok(Response::new(pb::LeaseGrantResponse { header, id: lease.id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.0.kv.revoke(request.into_inner().id).await.map_err(|e| status::of(&e))?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.0.header() }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let api = self.0.clone();
        let shutdown = api.shutdown.clone();
        let answers = request.into_inner().then(move |request| {
            let api = api.clone();
            async move { api.keep_alive(request?.id).await }
        });
        Ok(Response::new(answers.take_until(async move { shutdown.requested().await }).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let (header, id) = (self.0.header(), request.id);
        let answer = match self.0.kv.lease(id).await {
            Ok(lease) => pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: signed(lease.remaining.as_secs()),
                granted_ttl: signed(lease.ttl.as_secs()),
                keys: if request.keys { lease.keys } else { Vec::new() },
            },
            Err(Error::LeaseNotFound(_)) => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
            Err(error) => return Err(status::of(&error)),
        };
        Ok(Response::new(answer))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let ids = self.0.kv.leases().await.map_err(|e| status::of(&e))?;
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.0.header(), leases }))
    }
}
