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

/// A duration as Go writes them: `1h30m`, `0.5s`, `250ms`, `0`. None for what is none; less than nothing is nothing.
pub fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(if negative { Duration::ZERO } else { total })
}

/// So many nanoseconds as Go writes a duration: `1m30.5s`, `250ms`, `0s`.
pub fn go_duration_text(nanos: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    // A number of units, and behind the point what is less than one.
    let decimal = |whole: u64, unit: u64, name: &str| {
        let fraction =
            if unit > 1 { format!(".{:0width$}", nanos % unit, width = unit.ilog10() as usize) } else { String::new() };
        format!("{whole}{}{name}", fraction.trim_end_matches('0').trim_end_matches('.'))
    };
    let (hours, minutes) = (nanos / SECOND / 3_600, nanos / SECOND / 60 % 60);
    let seconds = || decimal(nanos / SECOND % 60, SECOND, "s");
    let text = match nanos {
        0 => "0s".to_owned(),
        1..1_000 => decimal(nanos, 1, "ns"),
        1_000..1_000_000 => decimal(nanos / 1_000, 1_000, "µs"),
        1_000_000..SECOND => decimal(nanos / 1_000_000, 1_000_000, "ms"),
        _ if hours > 0 => format!("{hours}h{minutes}m{}", seconds()),
        _ if minutes > 0 => format!("{minutes}m{}", seconds()),
        _ => seconds(),
    };
    format!("{sign}{text}")
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

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let millis = |text: &str| go_duration(text).map(|d| d.as_millis());
        for (text, read) in
            [("1h30m", 5_400_000), ("0.5s", 500), (".5s", 500), ("1m1.5s", 61_500), ("0", 0), ("-5s", 0), ("1500us", 1)]
        {
            assert_eq!(millis(text), Some(read), "{text}");
        }
        for text in ["", "5", "s", "1x", "1h30", "1..5s", "-", "99999999999999999999h"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (15_062_000_000, "15.062s"),
            (60_000_000_000, "1m0s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(go_duration_text(nanos), text);
        }
    }

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
