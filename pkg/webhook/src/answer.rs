//! What an answer of HTTP comes to: its body, or the failure that it reports.

use bytes::Bytes;
use http::{HeaderMap, header};
use kedge_meta::{Reason, Status, StatusCause, StatusDetails};

use crate::error::CallError;

/// So much of an answer that is no object is shown, as upstream.
const SHOWN: usize = 2_048;

/// The body of an answer that succeeded.
///
/// # Errors
/// The failure that it reports.
pub(crate) fn body(code: u16, headers: &HeaderMap, body: Bytes) -> Result<Bytes, CallError> {
    if !(200..=206).contains(&code) {
        return Err(CallError::Refused(Box::new(failure(code, headers, &body))));
    }
    if body.is_empty() {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        return Err(CallError::Empty { code, content_type: content_type.unwrap_or_default().to_owned() });
    }
    Ok(body)
}

/// How long the server wants to be left alone before the same call is made again.
pub(crate) fn retry_after(code: u16, headers: &HeaderMap) -> Option<u64> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    (code == 429 || code >= 500).then_some(seconds)
}

fn failure(code: u16, headers: &HeaderMap, body: &[u8]) -> Status {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.kind == "Status"
        && status.api_version == "v1"
        && status.is_failure()
    {
        return status;
    }
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim().to_owned();
    let said = if shown.is_empty() { "unknown" } else { &shown };
    let (reason, message) = words(code, said);
    let causes =
        vec![StatusCause { reason: "UnexpectedServerResponse".into(), message: said.to_owned(), field: String::new() }];
    let retry_after_seconds = retry_after(code, headers).and_then(|seconds| i32::try_from(seconds).ok());
    let details = StatusDetails {
        causes,
        retry_after_seconds: retry_after_seconds.unwrap_or_default(),
        ..StatusDetails::default()
    };
    let mut status = Status::failure(code, reason, message);
    status.details = Some(Box::new(details));
    status
}

fn words(code: u16, said: &str) -> (Reason, String) {
    let (reason, message) = match code {
        409 => (Reason::AlreadyExists, "the server reported a conflict"),
        404 => (Reason::NotFound, "the server could not find the requested resource"),
        400 => (Reason::BadRequest, "the server rejected our request for an unknown reason"),
        401 => (Reason::Unauthorized, "the server has asked for the client to provide credentials"),
        403 => (Reason::Forbidden, said),
        406 if said == "unknown" => {
            (Reason::NotAcceptable, "the server was unable to respond with a content type that the client supports")
        }
        406 => (Reason::NotAcceptable, said),
        415 => (Reason::UnsupportedMediaType, said),
        405 => (Reason::MethodNotAllowed, "the server does not allow this method on the requested resource"),
        422 => (Reason::Invalid, "the server rejected our request due to an error in our request"),
        503 => (Reason::ServiceUnavailable, "the server is currently unable to handle the request"),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        429 => {
            (Reason::TooManyRequests, "the server has received too many requests and has asked us to try again later")
        }
        500.. => {
            let message = format!("an error on the server ({said:?}) has prevented the request from succeeding");
            return (Reason::InternalError, message);
        }
        _ => {
            let message =
                format!("the server responded with the status code {code} but did not return more information");
            return (Reason::Unknown, message);
        }
    };
    (reason, message.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(code: u16, text: &str) -> String {
        body(code, &HeaderMap::new(), Bytes::copy_from_slice(text.as_bytes())).unwrap_err().to_string()
    }

    #[test]
    fn failures_are_told_in_upstreams_words() {
        assert_eq!(said(418, ""), "the server responded with the status code 418 but did not return more information");
        assert_eq!(said(500, "oh\n"), "an error on the server (\"oh\") has prevented the request from succeeding");
        assert_eq!(said(404, "x"), "the server could not find the requested resource");
        assert_eq!(said(403, ""), "unknown");
        let status = serde_json::to_string(&Status::failure(422, Reason::Invalid, "no")).unwrap();
        assert_eq!(said(422, &status), "no");
        assert_eq!(said(200, ""), "0-length response with status code: 200 and content type: ");
        assert_eq!(body(201, &HeaderMap::new(), Bytes::from_static(b"{}")).unwrap(), "{}");
    }

    #[test]
    fn only_who_is_busy_or_broken_is_waited_for() {
        let headers: HeaderMap = [(header::RETRY_AFTER, "3".parse().unwrap())].into_iter().collect();
        assert_eq!((retry_after(429, &headers), retry_after(503, &headers)), (Some(3), Some(3)));
        assert_eq!((retry_after(404, &headers), retry_after(503, &HeaderMap::new())), (None, None));
    }
}
