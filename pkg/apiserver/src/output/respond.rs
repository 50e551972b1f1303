//! Answers: objects, failures, warnings.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use kedge_meta::Status;
use kedge_schema::encode;
use serde_json::Value;

use super::indent::Indent;
use crate::body::{Body, full};
use crate::input::negotiate::Format;

/// Most warnings that one answer carries.
const MAX_WARNINGS: usize = 64;
/// So many characters of warnings are shown in full. If there are more, only so many of each, as upstream.
const MAX_WARNING_CHARS: usize = 4 << 10;
const CUT_WARNING_CHARS: usize = 256;

/// Marks an answer that is an encoded object, which may be laid out and compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoded {
    Json,
    Other,
}

/// Marks an answer whose head says all, whatever length its body seems to have: what is proxied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxied;

/// Marks an answer to somebody whom nobody knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToNobody;

impl Format {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        })
    }
}

/// A failure as the client sees it, in the form that it reads errors in; in lines of JSON where it reads none.
pub(crate) fn failure(status: &Status, form: Option<Format>) -> Response<Body> {
    if status.is_no_page() {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let object = serde_json::to_value(status).unwrap_or_default();
    let encoded = form.and_then(|form| value(code, &object, form).ok());
    let mut response = encoded.unwrap_or_else(|| raw_json(code, &object));
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// What is no object of the API, as upstream shows that: in lines, whoever asks.
pub(crate) fn raw_json(code: StatusCode, value: &Value) -> Response<Body> {
    // A tree can be written either way; only the order of its fields differs.
    let text = encode::to_json(value).unwrap_or_else(|_| value.to_string().into_bytes());
    document(code, Indent::whole(&text))
}

/// JSON that is not touched any more.
pub(crate) fn document(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    answer(code, full(bytes), Format::Json)
}

/// An encoded object or list that comes as a body.
pub(crate) fn encoded(code: StatusCode, body: Body, format: Format) -> Response<Body> {
    let mut response = answer(code, body, format);
    let encoded = if format == Format::Json { Encoded::Json } else { Encoded::Other };
    response.extensions_mut().insert(encoded);
    response
}

/// What goes on and on.
pub(crate) fn stream(body: Body, format: Format) -> Response<Body> {
    let mut response = answer(StatusCode::OK, body, format);
    if format == Format::Protobuf {
        let kind = HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn answer(code: StatusCode, body: Body, format: Format) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An object in the negotiated form.
///
/// # Errors
/// 500 when it cannot be encoded.
pub(crate) fn value(code: StatusCode, value: &Value, format: Format) -> Result<Response<Body>, Status> {
    let bytes = match format {
        Format::Json => encode::to_json(value).map_err(Status::internal)?,
        Format::Yaml => kedge_schema::to_yaml(value).into_bytes(),
        Format::Protobuf => {
            let encoded = encode::object_to_protobuf(value).map_err(Status::internal)?;
            encoded.ok_or_else(|| Status::internal(format!("{} has no protobuf form", value["kind"])))?
        }
    };
    Ok(encoded(code, full(bytes), format))
}

/// What came of a request that has no object to show.
///
/// # Errors
/// As for [`value`].
pub(crate) fn status(code: StatusCode, status: &Status, format: Format) -> Result<Response<Body>, Status> {
    value(code, &serde_json::to_value(status).map_err(Status::internal)?, format)
}

/// The JSON of an object, as it is stored, in the negotiated form.
///
/// # Errors
/// 500 when it cannot be turned into that.
pub(crate) fn stored(code: StatusCode, mut json: Vec<u8>, format: Format) -> Result<Response<Body>, Status> {
    if format == Format::Json {
        json.push(b'\n');
        return Ok(encoded(code, full(json), format));
    }
    value(code, &serde_json::from_slice(&json).map_err(Status::internal)?, format)
}

/// A head alone.
pub(crate) fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// 204.
pub(crate) fn no_content() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = page(code, text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Text that a browser may look at for itself.
pub(crate) fn page(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The answer to a HEAD: the head of another, which says how long its body is. Over HTTP/2 a body would be an error of the
/// protocol.
pub(crate) fn head_only(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if head.extensions.get::<Proxied>().is_some() {
        return Response::from_parts(head, full(Bytes::new()));
    }
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, full(Bytes::new()))
}

/// Adds `Warning` headers.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let all: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let most = if all > MAX_WARNING_CHARS { CUT_WARNING_CHARS } else { MAX_WARNING_CHARS };
    let mut shown = 0;
    for warning in warnings.iter().take(MAX_WARNINGS) {
        if shown >= MAX_WARNING_CHARS {
            return;
        }
        let clean: String = warning.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
        shown += clean.chars().count();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
