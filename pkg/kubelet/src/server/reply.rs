//! Answers.

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::BoxError;

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

fn with_type(status: StatusCode, kind: &'static str, body: UnsyncBoxBody<Bytes, BoxError>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn full(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    with_type(status, "text/plain; charset=utf-8", full(text.into()))
}

pub(super) fn html(text: impl Into<Bytes>) -> Reply {
    with_type(StatusCode::OK, "text/html; charset=utf-8", full(text))
}

pub(super) fn json(text: impl Into<Bytes>) -> Reply {
    with_type(StatusCode::OK, "application/json", full(text))
}

/// Metrics as Prometheus reads them.
pub(super) fn metrics(text: impl Into<Bytes>) -> Reply {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", full(text))
}

/// Text that comes bit by bit.
pub(super) fn streamed(receiver: mpsc::Receiver<Bytes>) -> Reply {
    let parts = stream::unfold(receiver, |mut receiver| async {
        let part = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(part)), receiver))
    });
    with_type(StatusCode::OK, "text/plain", StreamBody::new(parts).boxed_unsync())
}

/// The answer to a HEAD: the head of another, which says how long its body is. Over HTTP/2 a body would be an error of the protocol.
pub(super) fn head_only(reply: Reply) -> Reply {
    let (mut parts, body) = reply.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    head(Response::from_parts(parts, ()))
}

/// An answer whose head was made elsewhere.
pub(super) fn head(response: Response<()>) -> Reply {
    response.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync())
}
