//! Answers: objects, failures, warnings.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use kedge_meta::Status;
use serde::Serialize;
use serde_json::Value;

use crate::body::{Body, full};
use crate::negotiate::Format;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Most warnings, and bytes of warnings, that one answer carries.
const MAX_WARNINGS: usize = 64;
const MAX_WARNING_BYTES: usize = 4 << 10;

/// A failure as the client sees it.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = serde_json::to_vec(status).unwrap_or_default();
    let mut response = json_bytes(code, bytes);
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    if status.code == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kedge\""));
    }
    response
}

/// JSON that is already encoded.
pub(crate) fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    json(code, full(bytes))
}

/// JSON that comes as a body.
pub(crate) fn json(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An object in the negotiated form.
///
/// # Errors
/// 500 when it cannot be encoded.
pub(crate) fn object(code: StatusCode, value: &impl Serialize, format: Format) -> Result<Response<Body>, Status> {
    match format {
        Format::Json => Ok(json_bytes(code, serde_json::to_vec(value).map_err(Status::internal)?)),
        Format::Yaml => {
            let text = serde_yaml::to_string(value).map_err(Status::internal)?;
            let mut response = json_bytes(code, text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
            Ok(response)
        }
    }
}

/// Encoded JSON in the negotiated form.
///
/// # Errors
/// 500 when it cannot be turned into YAML.
pub(crate) fn encoded(code: StatusCode, json: Vec<u8>, format: Format) -> Result<Response<Body>, Status> {
    match format {
        Format::Json => Ok(json_bytes(code, json)),
        Format::Yaml => {
            let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
            object(code, &value, format)
        }
    }
}

/// 204.
pub(crate) fn no_content() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a HEAD: the head of another, which says how long its body is. Over HTTP/2 a body would be an error of the
/// protocol.
pub(crate) fn head_only(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, full(Bytes::new()))
}

/// Adds `Warning` headers.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut bytes = 0;
    for warning in warnings.iter().take(MAX_WARNINGS) {
        let clean: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        bytes += quoted.len();
        if bytes > MAX_WARNING_BYTES {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
