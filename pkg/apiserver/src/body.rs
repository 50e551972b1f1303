//! Bodies of requests and answers.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use kedge_meta::Status;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of either direction; it may never end.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

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
