//! Bodies of requests and answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use kedge_base::{Ledger, Weight};
use kedge_meta::Status;
use parking_lot::Mutex;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of either direction; it may never end.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// A body that broke off. It has a type of its own because hyper cannot see through a boxed one.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError(#[source] pub BoxError);

impl From<hyper::Error> for BodyError {
    fn from(err: hyper::Error) -> Self {
        Self(err.into())
    }
}

/// The body of a request while its head is looked at by several: it is taken once.
pub(crate) struct RequestBody(Mutex<Option<Body>>);

impl RequestBody {
    pub(crate) fn new(body: Body) -> Self {
        Self(Mutex::new(Some(body)))
    }

    /// The body; empty when it has been taken.
    pub(crate) fn take(&self) -> Body {
        self.0.lock().take().unwrap_or_else(|| full(Bytes::new()))
    }
}

/// A body that keeps something until it has been sent or given up.
pub(crate) struct Held<T> {
    body: Body,
    _until_sent: T,
}

impl<T: Send + Unpin + 'static> Held<T> {
    pub(crate) fn until_sent(body: Body, held: T) -> Body {
        Self { body, _until_sent: held }.boxed_unsync()
    }
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A body that is made while it is sent; a panic ends it, and it alone.
pub(crate) struct Guarded {
    body: Body,
    ledger: Ledger,
}

impl Guarded {
    /// As it is when all of it is there already.
    pub(crate) fn over(body: Body, ledger: &Ledger) -> Body {
        if http_body::Body::size_hint(&body).exact().is_some() {
            return body;
        }
        Self { body, ledger: ledger.clone() }.boxed_unsync()
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let Self { body, ledger } = &mut *self;
        match ledger.catch_now("apiserver", "stream", Weight::Single, || Pin::new(body).poll_frame(cx)) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(Some(Err(BodyError(panicked.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Largest body of a request, as upstream.
pub(crate) const MAX_REQUEST: usize = 3 << 20;

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a request's body.
///
/// # Errors
/// 413 when it is too large, 400 when the client went away in the middle.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("the body could not be read: {e}")))?;
        if let Ok(data) = frame.into_data() {
            if out.is_empty() && http_body::Body::is_end_stream(&body) && data.len() <= MAX_REQUEST {
                return Ok(data);
            }
            if out.len() + data.len() > MAX_REQUEST {
                return Err(Status::too_large(format!("Request entity too large: limit is {MAX_REQUEST}")));
            }
            out.extend_from_slice(&data);
        }
    }
    Ok(out.freeze())
}
