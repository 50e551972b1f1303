//! Warnings about whole kinds: whoever uses one is told.

use http::Response;

use crate::body::Body;
use crate::input::request_info::RequestInfo;
use crate::output::respond;

/// What users of a kind are told, if it is deprecated in upstream's 1.36.
pub(crate) fn warning(info: &RequestInfo) -> Option<&'static str> {
    match (&*info.group, &*info.version, &*info.resource) {
        ("", "v1", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    }
}

/// Adds the warning to an answer.
pub(crate) fn add(mut response: Response<Body>, warning: Option<&'static str>) -> Response<Body> {
    if let Some(warning) = warning {
        respond::warn(&mut response, &[warning.to_owned()]);
    }
    response
}
