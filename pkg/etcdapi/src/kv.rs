//! The KV service.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Kv as _, OpResult, TxnResult};
use pb::request_op::Request as OpRequest;
use tonic::{Request, Response, Status};

use crate::convert::unsigned;
use crate::{Api, range, status, txn};

pub(crate) struct KvService(pub(crate) Arc<Api>);

/// One operation as a transaction.
fn single(request: OpRequest) -> pb::TxnRequest {
    pb::TxnRequest { success: vec![pb::RequestOp { request: Some(request) }], ..Default::default() }
}

fn only(mut result: TxnResult) -> Result<OpResult, Status> {
    result.results.pop().ok_or_else(|| Status::internal("the store answered without a result"))
}

#[async_trait]
impl pb::kv_server::Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let result = self.0.kv.range(range::request(&request)?).await.map_err(|e| status::of(&e))?;
        let newest = if request.revision > 0 { self.0.kv.revision() } else { result.revision };
        let header = self.0.header_at(newest);
        Ok(Response::new(pb::RangeResponse { header, ..range::response(&request, result)? }))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let result = self.0.run(&single(OpRequest::RequestPut(request.clone()))).await?;
        let header = self.0.header_at(result.revision);
        let OpResult::Put { previous } = only(result)? else { return Err(Status::internal("no put")) };
        Ok(Response::new(pb::PutResponse { header, ..txn::put_response(&request, previous)? }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let result = self.0.run(&single(OpRequest::RequestDeleteRange(request.clone()))).await?;
        let header = self.0.header_at(result.revision);
        let OpResult::Delete { previous } = only(result)? else { return Err(Status::internal("no deletion")) };
        Ok(Response::new(pb::DeleteRangeResponse { header, ..txn::delete_response(&request, previous)? }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let result = self.0.run(&request).await?;
        Ok(Response::new(self.0.txn_response(&request, result)?))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.0.kv.compact(unsigned(request.into_inner().revision)).await.map_err(|e| status::of(&e))?;
        Ok(Response::new(pb::CompactionResponse { header: self.0.header() }))
    }
}
