//! Headers that are about one connection or one server alone.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use kedge_meta::Status;

/// Headers that speak about one connection alone.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// What a backend allows other sites says nothing about this server.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];
/// Headers that identify the client to this server, and are nobody else's business.
const CREDENTIALS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-remote-user", "x-remote-group", "x-remote-uid"];
/// What such headers begin with.
const CREDENTIAL_PREFIXES: [&str; 2] = ["impersonate-", "x-remote-extra-"];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether a request or answer is about switching protocols, by upstream's rule.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.into_iter().any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Removes what says who the client is.
pub(crate) fn remove_credentials(headers: &mut HeaderMap) {
    let is_one =
        |name: &str| CREDENTIALS.contains(&name) || CREDENTIAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let found: Vec<_> = headers.keys().filter(|name| is_one(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Removes what speaks about one connection.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<String> = listed.flat_map(|line| line.split(',')).map(|name| name.trim().to_owned()).collect();
    for name in listed {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes the headers of a client those of a request that is passed on. Those of an upgrade say that still.
///
/// # Errors
/// When the address of the client makes no header.
pub(crate) fn forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, upgrade: bool) -> Result<(), Status> {
    if !upgrade {
        let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
        remove_hop_by_hop(headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    // The client has been told to go on already.
    headers.remove(header::EXPECT);
    if let Some(client) = client {
        let prior = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = prior.map(str::to_owned).chain([client.to_canonical().to_string()]).collect();
        headers.insert(FORWARDED_FOR, HeaderValue::from_str(&all.join(", ")).map_err(Status::internal)?);
    }
    Ok(())
}

/// Makes the head of an answer one of this server.
pub(crate) fn returned(head: &mut http::response::Parts) {
    remove_hop_by_hop(&mut head.headers);
    for name in &CORS {
        head.headers.remove(name);
    }
    head.extensions.clear();
    head.version = Version::default();
}
