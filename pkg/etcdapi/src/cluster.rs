//! The Cluster service, of one member; and the Auth service, which is off.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_etcdpb::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::Api;
use crate::status::unimplemented;

pub(crate) struct ClusterService(pub(crate) Arc<Api>);
pub(crate) struct AuthService(pub(crate) Arc<Api>);

#[async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(unimplemented("MemberAdd"))
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(unimplemented("MemberRemove"))
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(unimplemented("MemberUpdate"))
    }

    async fn member_list(&self, _: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let member = pb::Member {
            id: self.0.member(),
            name: "kedge".to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.0.client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(pb::MemberListResponse { header: self.0.header(), members: vec![member] }))
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(unimplemented("MemberPromote"))
    }
}

#[async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn auth_enable(&self, _: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        Err(Status::unimplemented("AuthEnable is not implemented: clients are known by their certificates"))
    }

    async fn auth_status(&self, _: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let header = self.0.header();
        Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision: 1 }))
    }

    async fn authenticate(
        &self,
        _: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        Err(Status::failed_precondition("etcdserver: authentication is not enabled"))
    }
}
