//! Kubernetes' text forms of time, and bounded waiting.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

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

/// The zone of a name of the IANA's database, which is part of the program: small hosts have none. Names are spelled exactly.
pub fn zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
    (zone.iana_name() == Some(name)).then_some(zone)
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

    /// Schedules in a zone were refused, or never ran, on hosts without a database of their own.
    #[test]
    fn zones_are_known_whatever_the_host_has() {
        let at = parse("2026-07-01T00:00:00Z").unwrap();
        for (name, local) in
            [("Asia/Singapore", "08:00"), ("Europe/Berlin", "02:00"), ("Etc/UTC", "00:00"), ("UTC", "00:00")]
        {
            let zoned = at.to_zoned(zone(name).unwrap_or_else(|| panic!("{name}")));
            assert_eq!(zoned.strftime("%H:%M").to_string(), local, "{name}");
        }
        for name in ["", "Mars/Phobos", "asia/singapore", "Local", "../etc", "Etc/Unknown", "UTC+8", "Asia/Singapore "]
        {
            assert!(zone(name).is_none(), "{name}");
        }
    }

    #[test]
    fn text_forms_are_those_of_kubernetes() {
        let ts = parse("2026-01-02T03:04:05.678901+01:00").unwrap();
        assert_eq!(rfc3339(ts), "2026-01-02T02:04:05Z");
        assert_eq!(rfc3339_micro(ts), "2026-01-02T02:04:05.678901Z");
    }
}
