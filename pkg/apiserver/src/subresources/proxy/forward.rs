//! The request as it goes on, and the answer as it comes back.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use kedge_meta::{Reason, Status};
use percent_encoding::percent_decode_str;

use super::content;
use super::location::unreachable;
use super::rewrite::Links;
use crate::admitted::Admitted;
use crate::backends::{Backend, Unreached, forwarded, is_upgrade, returned, upgraded};
use crate::body::{Body, RequestBody, full};
use crate::output::respond::Proxied;
use crate::server::ApiServer;

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Sends a request on to a backend.
///
/// # Errors
/// 503 when nobody answers there; 500 for an upgrade that fails.
pub(super) async fn forward(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    backend: &Backend,
) -> Result<Response<Body>, Status> {
    let Some(access) = &server.kubelets else { return Err(Status::unavailable("this server reaches no pods")) };
    let place = Place::of(&admitted)?;
    let upgrade = is_upgrade(admitted.request.headers());
    let method = admitted.request.method().clone();
    if !upgrade && place.rest.is_empty() && matches!(method, Method::GET | Method::HEAD) {
        return moved(&place);
    }
    let links = Links {
        prefix: place.prefix.clone(),
        backend: backend.address.clone(),
        requested: host(&admitted.request).unwrap_or_default(),
    };
    let request = outgoing(admitted.request, &place, admitted.client, upgrade)?;
    let response = access.send(backend, request).await.map_err(|err| failure(&err, upgrade))?;
    if upgrade {
        return upgraded(response);
    }
    incoming(response, &links, &method)
}

/// The path of a request, cut at what is proxied. Byte for byte as the client sent it.
struct Place {
    /// Up to and with `/proxy`.
    prefix: String,
    /// Empty, or with a slash at its beginning.
    rest: String,
    /// Empty, or with its question mark.
    query: String,
}

impl Place {
    fn of(admitted: &Admitted) -> Result<Self, Status> {
        let uri = admitted.request.uri();
        let path = uri.path();
        // `api`, the version, the place of the resource, its name and `proxy`.
        let place = if admitted.info.namespace.is_empty() { 0 } else { 2 };
        let mut left = 5 + place;
        let start = path.len() - path.trim_start_matches('/').len();
        let ends = path[start..].match_indices('/').map(|(at, _)| start + at).chain([path.len()]);
        let end = ends.filter(|_| {
            left -= 1;
            left == 0
        });
        let end = end.take(1).next().unwrap_or(path.len());
        let (prefix, rest) = path.split_at(end);
        // A slash that was written as `%2F` before would have moved the cut.
        let decoded = percent_decode_str(&prefix[start..]).decode_utf8().map_err(|_| Status::unknown_path())?;
        if decoded.split('/').count() != 5 + place || !decoded.ends_with("/proxy") {
            return Err(Status::unknown_path());
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { prefix: prefix.to_owned(), rest: rest.to_owned(), query })
    }
}

/// Relative links of a page lead astray when its own path does not end with a slash.
fn moved(place: &Place) -> Result<Response<Body>, Status> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let target = HeaderValue::from_str(&format!("{}/{}", place.prefix, place.query));
    response.headers_mut().insert(header::LOCATION, target.map_err(Status::internal)?);
    Ok(response)
}

/// The host that the client asked.
fn host(request: &Request<RequestBody>) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.map(str::to_owned).or_else(|| request.uri().authority().map(ToString::to_string))
}

fn outgoing(
    request: Request<RequestBody>,
    place: &Place,
    client: Option<IpAddr>,
    upgrade: bool,
) -> Result<Request<Body>, Status> {
    let unfit = |_| Status::bad_request("the path cannot be forwarded");
    // HTTP/2 has the host elsewhere. As upstream, the backend is told the one that the client asked.
    let host = host(&request).unwrap_or_default();
    let mut request = request.map(|body| body.take());
    let path = if place.rest.is_empty() { "/" } else { &place.rest };
    let target: PathAndQuery = format!("{path}{}", place.query).parse().map_err(unfit)?;
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    forwarded(headers, client, upgrade)?;
    if !upgrade {
        let uri = HeaderValue::from_str(&format!("{}{}", place.prefix, place.rest)).map_err(Status::internal)?;
        headers.insert(FORWARDED_URI, uri);
    }
    headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(Status::internal)?);
    Ok(request)
}

fn failure(err: &Unreached, upgrade: bool) -> Status {
    match err {
        Unreached::Full => Status::too_many_requests(err.to_string(), 1),
        _ if upgrade => Status::failure(500, Reason::Unknown, format!("error dialing backend: {err}")),
        _ => unreachable(&err.to_string()),
    }
}

fn incoming(response: Response<Body>, links: &Links, method: &Method) -> Result<Response<Body>, Status> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for that.
        return Err(unreachable("unexpected switch of protocols"));
    }
    returned(&mut head);
    head.extensions.insert(Proxied);
    if let Some(target) = head.headers.get(header::LOCATION).filter(|target| !target.is_empty()) {
        let target =
            target.to_str().map_err(|err| Status::internal(format!("error trying to parse Location header: {err}")))?;
        let target = links.rewrite(target).map(|new| HeaderValue::from_str(&new)).transpose();
        if let Some(target) = target.map_err(Status::internal)? {
            head.headers.insert(header::LOCATION, target);
        }
        return Ok(Response::from_parts(head, body));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_page = kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    if !is_page || *method == Method::HEAD {
        return Ok(Response::from_parts(head, body));
    }
    Ok(content::with_links(Response::from_parts(head, body), links))
}
