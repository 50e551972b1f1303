//! Kubernetes' text forms of time, and bounded waiting.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

/// `metav1.Time`: whole seconds, UTC.
pub fn rfc3339(ts: Timestamp) -> String {
    ts.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: six decimals, UTC.
pub fn rfc3339_micro(ts: Timestamp) -> String {
    ts.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form, with any offset.
///
/// # Errors
/// When the text is no RFC 3339 time.
pub fn parse(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}

/// What came of waiting too long.
#[derive(Debug, thiserror::Error)]
#[error("timed out after {0:?}")]
pub struct Elapsed(pub Duration);

/// Runs `future` for at most `limit`.
///
/// # Errors
/// [`Elapsed`] when it was not done by then; the future is dropped.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, future).await.map_err(|_| Elapsed(limit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_forms_are_those_of_kubernetes() {
        let ts = parse("2026-01-02T03:04:05.678901+01:00").unwrap();
        assert_eq!(rfc3339(ts), "2026-01-02T02:04:05Z");
        assert_eq!(rfc3339_micro(ts), "2026-01-02T02:04:05.678901Z");
    }
}
