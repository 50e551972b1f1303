//! What a verb gets: a request that has passed the chain.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request};
use kedge_meta::UserInfo;
use kedge_registry::{Catalogue, Notes};

use crate::body::RequestBody;
use crate::input::request_info::RequestInfo;

/// The header of what a request is known by, in whatever is said of it, here and by the servers that it is passed on to.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A request that has passed the chain.
pub(crate) struct Admitted {
    pub info: RequestInfo,
    pub user: UserInfo,
    pub request: Request<RequestBody>,
    /// What is served, as of when the request came.
    pub catalogue: Arc<Catalogue>,
    /// The address of a remote client.
    pub client: Option<IpAddr>,
    /// What is said about it beside its answer.
    pub notes: Notes,
    /// What it is known by wherever it comes.
    pub audit_id: HeaderValue,
}
