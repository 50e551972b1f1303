//! Kubernetes' text forms of time, and bounded waiting.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Nanoseconds of one.
const SECOND: u64 = 1_000_000_000;

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
    signed_duration(text).map(|(negative, duration)| if negative { Duration::ZERO } else { duration })
}

/// The same in nanoseconds, which may be less than none. None also for what Go has no number for.
pub fn go_duration_nanos(text: &str) -> Option<i64> {
    let (negative, duration) = signed_duration(text)?;
    let nanos = i128::try_from(duration.as_nanos()).ok()?;
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

/// Whether it is less than nothing, and how long it is.
fn signed_duration(text: &str) -> Option<(bool, Duration)> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", SECOND as u128),
        ("m", 60 * SECOND as u128),
        ("h", 3_600 * SECOND as u128),
    ];
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some((negative, Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(decimal(number, *nanos)?)?;
        rest = after;
    }
    let seconds = u64::try_from(total / u128::from(SECOND)).ok()?;
    Some((negative, Duration::new(seconds, (total % u128::from(SECOND)) as u32)))
}

/// `number` times `unit`, without what is behind the last whole one. A fraction of a float would be off by some nanoseconds.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? };
    // More digits make no nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    whole.checked_mul(unit)?.checked_add(part * unit / 10_u128.pow(fraction.len() as u32))
}

/// So many nanoseconds as Go writes a duration: `1m30.5s`, `250ms`, `0s`.
pub fn go_duration_text(nanos: i64) -> String {
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

    /// Read as fractions of a float, long ones came back some nanoseconds off; and less than nothing came back as nothing.
    #[test]
    fn durations_are_read_to_the_nanosecond_and_with_their_sign() {
        for nanos in [1, -1, 999, 15_062_000_001, 104 * 86_400 * 1_000_000_000 + 1, i64::MAX, -i64::MAX] {
            assert_eq!(go_duration_nanos(&go_duration_text(nanos)), Some(nanos));
        }
        assert_eq!(go_duration_nanos("1.000000000000000000000001h"), Some(3_600_000_000_000));
        assert_eq!(go_duration_nanos("0.1ns"), Some(0));
        assert_eq!(go_duration("2562047h47m16.854775808s").map(|d| d.as_secs()), Some(9_223_372_036));
        for text in ["2562047h47m16.854775808s", ".s", "1.2.3s", "."] {
            assert_eq!(go_duration_nanos(text), None, "{text}");
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
