//! `proxy` of pods, services and nodes: whatever HTTP they speak, through the API server.
//!
//! [`location`] finds whom a request goes to, [`forward`] makes the request and the answer, [`rewrite`] and [`html`] make
//! the links of answers lead through the proxy.

mod content;
mod forward;
mod html;
mod location;
mod rewrite;

use std::sync::Arc;

use http::{Method, Response};
use kedge_meta::Status;
use kedge_registry::Served;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::server::ApiServer;

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// Serves a request of any method on whatever is behind a pod, a service or a node.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    if !METHODS.contains(admitted.request.method()) {
        return Err(Status::method_not_allowed());
    }
    crate::admit::connect(server, &admitted, &served.info).await?;
    let backend = match served.info.plural.as_str() {
        "pods" => location::pod(served, &info.namespace, &info.name)?,
        "services" => location::service(server, served, &info.namespace, &info.name).await?,
        _ => location::node(server, &info.name).await?,
    };
    forward::forward(server, admitted, &backend).await
}
