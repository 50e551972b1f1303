//! Clients inside the process: the whole chain with their identity, only without socket and TLS.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kedge_apiserver::{ApiServer, BodyError, Peer};
use kedge_client::{Body, BoxError, Client, Transport};
use kedge_meta::UserInfo;

struct InProcess {
    server: Arc<ApiServer>,
    peer: Peer,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let request =
            request.map(|bytes| Full::new(bytes).map_err(|never| -> BodyError { match never {} }).boxed_unsync());
        let response = self.server.handle(request, &self.peer).await;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

/// A client that acts as `user`.
pub(crate) fn client(server: &Arc<ApiServer>, user: UserInfo) -> Client {
    let peer = Peer { trusted: Some(Arc::new(user)), ..Peer::default() };
    Client::new(Arc::new(InProcess { server: server.clone(), peer }))
}
