//! Which protocol an upgrade request gets.
//!
//! Invariant: pure: headers in, a decision or a refusal out. What is not supported is refused by
//! name, with the protocols that are.

use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The header in which SPDY clients list protocols.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The header in which a refusal lists what is supported.
pub const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// The upgrade of SPDY.
pub const SPDY: &str = "SPDY/3.1";

/// Versions of the remote command protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Errors are text.
    V1,
    /// Streams end one by one.
    V2,
    /// The terminal can be resized.
    V3,
    /// The end is a status in JSON.
    V4,
    /// WebSocket only: input can end.
    V5,
}

impl Version {
    const SPDY: [(&'static str, Self); 4] = [
        ("v4.channel.k8s.io", Self::V4),
        ("v3.channel.k8s.io", Self::V3),
        ("v2.channel.k8s.io", Self::V2),
        ("channel.k8s.io", Self::V1),
    ];
    const WEBSOCKET: [(&'static str, Self); 3] =
        [("v5.channel.k8s.io", Self::V5), ("v4.channel.k8s.io", Self::V4), ("channel.k8s.io", Self::V1)];
}

/// How a remote command is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteCommand {
    /// One SPDY stream for each of the command's.
    Spdy(Version),
    /// One message channel for each of the command's streams.
    WebSocket(Version),
}

/// How port-forward is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortForward {
    /// Two SPDY streams for each connection.
    Spdy,
    /// The same inside the messages of a WebSocket.
    Tunnel,
}

/// How bytes of a server that only sends are carried: in messages of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// As they are.
    Binary,
    /// As text in base64, each message by itself.
    Base64,
}

/// A decision with the answer to send: status 101 with its headers and no body.
#[derive(Debug)]
pub struct Negotiated<P> {
    /// What was agreed on.
    pub protocol: P,
    /// What to answer before the connection is upgraded.
    pub response: Response<()>,
}

/// A refusal: the answer is `status` with `message` as its text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// 400 or 403.
    pub status: StatusCode,
    /// For the client.
    pub message: String,
    /// For the header [`ACCEPTED_VERSIONS`].
    pub accepted: Vec<&'static str>,
}

/// Whether a request asks for an upgrade at all.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    values(headers, &CONNECTION).iter().any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Whether it asks for WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    is_upgrade(headers) && values(headers, &UPGRADE).iter().any(|value| value.eq_ignore_ascii_case("websocket"))
}

fn is_spdy(headers: &HeaderMap) -> bool {
    is_upgrade(headers) && values(headers, &UPGRADE).iter().any(|value| value.eq_ignore_ascii_case(SPDY))
}

/// Decides about exec and attach.
///
/// # Errors
/// [`Refusal`] when there is no common protocol.
pub fn remote_command(headers: &HeaderMap) -> Result<Negotiated<RemoteCommand>, Refusal> {
    if is_websocket(headers) {
        let (name, version) = websocket_protocol(headers, &Version::WEBSOCKET, Some(Version::V1))?;
        let response = websocket_response(headers, name)?;
        return Ok(Negotiated { protocol: RemoteCommand::WebSocket(version), response });
    }
    let (name, version) = spdy_protocol(headers, &Version::SPDY)?;
    Ok(Negotiated { protocol: RemoteCommand::Spdy(version), response: spdy_response(name) })
}

/// Decides about port-forward.
///
/// # Errors
/// [`Refusal`] when there is no common protocol.
pub fn port_forward(headers: &HeaderMap) -> Result<Negotiated<PortForward>, Refusal> {
    if is_websocket(headers) {
        let supported = [("SPDY/3.1+portforward.k8s.io", PortForward::Tunnel)];
        let (name, protocol) = websocket_protocol(headers, &supported, None)?;
        return Ok(Negotiated { protocol, response: websocket_response(headers, name)? });
    }
    let (name, protocol) = spdy_protocol(headers, &[("portforward.k8s.io", PortForward::Spdy)])?;
    Ok(Negotiated { protocol, response: spdy_response(name) })
}

/// Decides about bytes that are only read, such as logs.
///
/// # Errors
/// [`Refusal`] when there is no common protocol.
pub fn reader(headers: &HeaderMap) -> Result<Negotiated<Reader>, Refusal> {
    let supported = [("binary.k8s.io", Reader::Binary), ("base64.binary.k8s.io", Reader::Base64)];
    let (name, protocol) = websocket_protocol(headers, &supported, Some(Reader::Binary))?;
    Ok(Negotiated { protocol, response: websocket_response(headers, name)? })
}

/// All values of a header, also those that stand in one line with commas between.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
}

fn choose<P: Copy>(wanted: &[&str], supported: &[(&'static str, P)]) -> Option<(&'static str, P)> {
    wanted.iter().find_map(|wanted| supported.iter().find(|(name, _)| name == wanted)).copied()
}

fn refuse(status: StatusCode, message: String) -> Refusal {
    Refusal { status, message: format!("unable to upgrade: {message}"), accepted: Vec::new() }
}

fn no_common<P>(wanted: &[&str], supported: &[(&'static str, P)]) -> Refusal {
    let accepted: Vec<&str> = supported.iter().map(|(name, _)| *name).collect();
    let (client, server) = (wanted.join(" "), accepted.join(" "));
    let message = format!("unable to negotiate protocol: client supports [{client}], server accepts [{server}]");
    Refusal { accepted: supported.iter().map(|(name, _)| *name).collect(), ..refuse(StatusCode::FORBIDDEN, message) }
}

fn spdy_protocol<P: Copy>(headers: &HeaderMap, supported: &[(&'static str, P)]) -> Result<(&'static str, P), Refusal> {
    if !is_upgrade(headers) {
        let got = headers.get(CONNECTION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let message = format!("missing upgrade headers in request: {:?}", got.unwrap_or_default());
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    if !is_spdy(headers) {
        let message = format!("supported upgrades are {SPDY} and websocket");
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    if !headers.contains_key(PROTOCOL_VERSION) {
        let message =
            format!("header X-Stream-Protocol-Version does not exist in request with {} headers", headers.len());
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    let wanted = values(headers, &PROTOCOL_VERSION);
    choose(&wanted, supported).ok_or_else(|| no_common(&wanted, supported))
}

fn websocket_protocol<P: Copy>(
    headers: &HeaderMap,
    supported: &[(&'static str, P)],
    none: Option<P>,
) -> Result<(Option<&'static str>, P), Refusal> {
    let wanted = values(headers, &SEC_WEBSOCKET_PROTOCOL);
    if let Some(none) = none.filter(|_| wanted.is_empty()) {
        return Ok((None, none));
    }
    let (name, protocol) = choose(&wanted, supported).ok_or_else(|| no_common(&wanted, supported))?;
    Ok((Some(name), protocol))
}

fn switching(upgrade: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
    response
}

fn spdy_response(protocol: &'static str) -> Response<()> {
    let mut response = switching(SPDY);
    response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    response
}

fn websocket_response(headers: &HeaderMap, protocol: Option<&'static str>) -> Result<Response<()>, Refusal> {
    let missing = || refuse(StatusCode::BAD_REQUEST, "header Sec-WebSocket-Key is missing".to_owned());
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(missing)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| missing())?;
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    const SPDY_UPGRADE: [(&str, &str); 2] = [("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")];
    const WS_UPGRADE: [(&str, &str); 3] =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];

    fn with(base: &[(&'static str, &'static str)], name: &'static str, value: &'static str) -> HeaderMap {
        headers(&[base, &[(name, value)]].concat())
    }

    #[test]
    fn websocket_clients_get_their_first_choice() {
        let got = remote_command(&with(&WS_UPGRADE, "sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"));
        let got = got.unwrap();
        assert_eq!(got.protocol, RemoteCommand::WebSocket(Version::V5));
        assert_eq!(got.response.status(), 101);
        assert_eq!(got.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(got.response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let got = remote_command(&headers(&WS_UPGRADE)).unwrap();
        assert_eq!(got.protocol, RemoteCommand::WebSocket(Version::V1));
        assert!(!got.response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn spdy_clients_list_versions_in_one_line_or_many() {
        let lines = [
            ("x-stream-protocol-version", "v9.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io,v4.channel.k8s.io"),
        ];
        let got = remote_command(&headers(&[&SPDY_UPGRADE[..], &lines].concat())).unwrap();
        assert_eq!(got.protocol, RemoteCommand::Spdy(Version::V3));
        assert_eq!(got.response.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(got.response.headers()["x-stream-protocol-version"], "v3.channel.k8s.io");
    }

    #[test]
    fn port_forward_is_tunnelled_or_plain() {
        let tunnel = with(&WS_UPGRADE, "sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io");
        assert_eq!(port_forward(&tunnel).unwrap().protocol, PortForward::Tunnel);
        let plain = with(&SPDY_UPGRADE, "x-stream-protocol-version", "portforward.k8s.io");
        assert_eq!(port_forward(&plain).unwrap().protocol, PortForward::Spdy);
    }

    #[test]
    fn logs_are_binary_unless_the_client_wants_text() {
        let wanted = |names| reader(&with(&WS_UPGRADE, "sec-websocket-protocol", names));
        assert_eq!(reader(&headers(&WS_UPGRADE)).unwrap().protocol, Reader::Binary);
        let got = wanted("x, base64.binary.k8s.io, binary.k8s.io").unwrap();
        assert_eq!(got.protocol, Reader::Base64);
        assert_eq!(got.response.headers()["sec-websocket-protocol"], "base64.binary.k8s.io");
        assert_eq!(wanted("binary.k8s.io").unwrap().protocol, Reader::Binary);
        assert_eq!(wanted("v4.channel.k8s.io").unwrap_err().status, 403);
    }

    #[test]
    fn refusals_say_what_is_supported() {
        let got = remote_command(&with(&SPDY_UPGRADE, "x-stream-protocol-version", "x")).unwrap_err();
        assert_eq!(got.status, 403);
        assert!(got.message.ends_with("client supports [x], server accepts [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]"), "{got}");
        assert_eq!(got.accepted.len(), 4);
        let base64 = with(&WS_UPGRADE, "sec-websocket-protocol", "base64.channel.k8s.io");
        assert_eq!(remote_command(&base64).unwrap_err().status, 403);
        assert_eq!(remote_command(&headers(&SPDY_UPGRADE)).unwrap_err().status, 400);
        assert_eq!(remote_command(&HeaderMap::new()).unwrap_err().status, 400);
        assert_eq!(port_forward(&headers(&WS_UPGRADE)).unwrap_err().status, 403);
    }
}
