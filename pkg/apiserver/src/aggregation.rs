//! Requests about group versions that other servers serve: passed on to one of those, by the name of who asks.
//!
//! Invariants: the other server sees who asks as this one has found out, never as the client says; no credential of the client is passed on;
//! nobody is led elsewhere by an answer.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kedge_meta::{Status, UserInfo};
use kedge_registry::Remote;
use kedge_webhook::{Caller, Failure};

use crate::admitted::{AUDIT_ID, Admitted};
use crate::backends::{forwarded, is_upgrade, remove_credentials, remove_hop_by_hop, returned, tunnel};
use crate::body::{Body, BodyError, full};
use crate::output::respond::{self, Proxied};
use crate::server::ApiServer;

/// Discovery is to be quick, as upstream.
const DISCOVERY: Duration = Duration::from_secs(5);
/// How long who wants a stream waits for its beginning.
const BEGINNING: Duration = Duration::from_secs(60);

/// Who serves what a request is about, if that is not this server.
pub(crate) fn remote(admitted: &Admitted) -> Option<Arc<Remote>> {
    let info = &admitted.info;
    if info.is_resource {
        return admitted.catalogue.remote(&info.group, &info.version).cloned();
    }
    let segments: Vec<&str> = info.path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["apis", group, version, ..] => admitted.catalogue.remote(group, version).cloned(),
        ["openapi", "v3", "apis", group, version] => {
            let remote = admitted.catalogue.remote(group, version)?;
            remote.known.open_api_v3.is_some().then(|| remote.clone())
        }
        _ => None,
    }
}

/// Passes a request on, and its answer back.
///
/// # Errors
/// None of the other server: what that says, or that it says nothing, is text, as upstream.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    remote: &Remote,
) -> Result<Response<Body>, Status> {
    let unavailable = || Ok(said(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    let Some(caller) = server.others.as_ref().filter(|_| remote.available) else { return unavailable() };
    let service = &remote.service;
    let Ok(address) = caller.resolve(&service.namespace, &service.name, service.port) else { return unavailable() };
    let upgrade = is_upgrade(admitted.request.headers());
    let is_discovery = !admitted.info.is_resource && admitted.info.path.trim_matches('/').split('/').count() == 3;
    let within = if is_discovery { DISCOVERY } else { BEGINNING };
    let mut request = outgoing(admitted, &address, upgrade)?;
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let request = request.map(|body| body.map_err(|err| err.0).boxed_unsync());
    let sent = kedge_base::time::timeout(within, caller.send(&remote.trust, request)).await;
    match sent.unwrap_or(Err(Failure::Deadline)) {
        Ok(response) if upgrade => Ok(upgraded(caller, response, client)),
        Ok(response) => Ok(incoming(response)),
        Err(why) if upgrade => Ok(said(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())),
        Err(why) => Ok(said(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {why}"))),
    }
}

/// What this server says in the place of the other one.
fn said(code: StatusCode, text: &str) -> Response<Body> {
    respond::text(code, format!("{text}\n"))
}

fn outgoing(admitted: Admitted, address: &str, upgrade: bool) -> Result<Request<Body>, Status> {
    let unfit = |_| Status::bad_request("the path cannot be forwarded");
    let Admitted { request, user, client, audit_id, .. } = admitted;
    let mut request = request.map(|body| body.take());
    let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let path = HeaderValue::from_str(target.path()).map_err(Status::internal)?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(address.parse::<Authority>().map_err(Status::internal)?);
    uri.path_and_query = Some(target);
    *request.uri_mut() = Uri::from_parts(uri).map_err(unfit)?;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    forwarded(headers, client, upgrade)?;
    remove_credentials(headers);
    identify(headers, &user)?;
    let host = HeaderValue::from_str(address).map_err(Status::internal)?;
    headers.insert(header::HOST, host.clone());
    headers.insert(AUDIT_ID, audit_id);
    if !upgrade {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host);
        headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
        headers.insert(HeaderName::from_static("x-forwarded-uri"), path);
    }
    Ok(request)
}

/// Says who asks, in the headers that the other server believes.
fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), Status> {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(Status::internal);
    headers.insert(HeaderName::from_static("x-remote-user"), value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(HeaderName::from_static("x-remote-uid"), value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(HeaderName::from_static("x-remote-group"), value(group)?);
    }
    for (key, values) in &user.extra {
        let name = HeaderName::from_bytes(format!("x-remote-extra-{}", escaped(key)).as_bytes());
        let name = name.map_err(Status::internal)?;
        for one in values {
            headers.append(name.clone(), value(one)?);
        }
    }
    Ok(())
}

/// A key as part of a header's name.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                out.push(char::from(byte));
            }
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn body(incoming: Incoming) -> Body {
    incoming.map_err(BodyError::from).boxed_unsync()
}

fn incoming(response: Response<Incoming>) -> Response<Body> {
    let (mut head, content) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for that.
        let why = "error trying to reach service: unexpected switch of protocols";
        return said(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let leads = head.headers.get(header::LOCATION).is_some_and(|place| !place.is_empty());
    if head.status.is_redirection() && leads {
        let mut refused = Response::new(full("the backend attempted to redirect this request, which is not permitted"));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    }
    returned(&mut head);
    head.extensions.insert(Proxied);
    Response::from_parts(head, body(content))
}

/// The answer to an upgrade: it is done, or refused; anything else makes no sense.
fn upgraded(
    caller: &Caller,
    mut response: Response<Incoming>,
    client: Option<hyper::upgrade::OnUpgrade>,
) -> Response<Body> {
    let code = response.status();
    if code != StatusCode::SWITCHING_PROTOCOLS && code.as_u16() < 400 {
        let why = format!("invalid upgrade response: status code {}", code.as_u16());
        return said(StatusCode::SERVICE_UNAVAILABLE, &why);
    }
    if code == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        caller.spawn("aggregated stream", tunnel(client, hyper::upgrade::on(&mut response)));
    } else {
        remove_hop_by_hop(response.headers_mut());
    }
    response.map(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_escaped_as_gos_client_escapes_them() {
        assert_eq!(escaped("example.com/Röle %"), "example.com%2FR%C3%B6le%20%25");
    }

    #[test]
    fn the_other_server_is_told_who_asks_and_not_what_the_client_says() {
        let mut headers: HeaderMap = [
            ("authorization", "Bearer secret"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-scopes", "all"),
            ("impersonate-user", "root"),
            ("accept", "*/*"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        remove_credentials(&mut headers);
        let mut user = UserInfo::new("jane", &["a", "b"]);
        user.uid = "7".into();
        user.extra.insert("k/x".into(), vec!["1".into(), "2".into()]);
        identify(&mut headers, &user).unwrap();
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(",");
        assert_eq!(all("x-remote-user"), "jane");
        assert_eq!((all("x-remote-group"), all("x-remote-uid")), ("a,b,system:authenticated".into(), "7".into()));
        assert_eq!(all("x-remote-extra-k%2fx"), "1,2");
        assert_eq!(headers.len(), 8, "{headers:?}");
    }
}
