//! Clients inside the process: the whole chain with their identity, only without socket and TLS.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use kedge_apiserver::{ApiServer, BodyError, Peer};
use kedge_client::{Body, BoxError, Client, Transport};
use kedge_meta::UserInfo;
use tokio::sync::watch;

struct InProcess {
    server: Arc<ApiServer>,
    peer: Peer,
    /// By which what it writes is known: the field manager of what it comes to own.
    agent: HeaderValue,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let mut request =
            request.map(|bytes| Full::new(bytes).map_err(|never| -> BodyError { match never {} }).boxed_unsync());
        request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| self.agent.clone());
        let response = self.server.handle(request, &self.peer).await;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.server.changes())
    }
}

/// A client that acts as `user`.
pub(crate) fn client(server: &Arc<ApiServer>, user: UserInfo) -> Client {
    let agent = HeaderValue::from_static(agent(&user.name));
    let peer = Peer { trusted: Some(Arc::new(user)), ..Peer::default() };
    Client::new(Arc::new(InProcess { server: server.clone(), peer, agent }))
}

/// The name of upstream's program that acts as this user.
fn agent(user: &str) -> &'static str {
    match user.strip_prefix("system:").unwrap_or_default() {
        "kube-controller-manager" => "kube-controller-manager",
        "kube-scheduler" => "kube-scheduler",
        "kube-proxy" => "kube-proxy",
        "apiserver" => "kube-apiserver",
        node if node.starts_with("node:") => "kubelet",
        _ => "kedge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_known_by_upstreams_name() {
        assert_eq!(agent("system:node:a"), "kubelet");
        assert_eq!(agent("system:kube-controller-manager"), "kube-controller-manager");
        assert_eq!(agent("system:apiserver"), "kube-apiserver");
        assert_eq!(agent("somebody"), "kedge");
    }
}
