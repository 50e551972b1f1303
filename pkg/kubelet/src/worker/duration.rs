//! Durations in messages.

use std::time::Duration;

/// As Go prints a duration that is cut to milliseconds.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    let fraction = format!("{rest:03}");
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{seconds}{dot}{fraction}s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let of = |ms| go_duration(Duration::from_millis(ms));
        assert_eq!((of(0), of(12), of(1_500)), ("0s".into(), "12ms".into(), "1.5s".into()));
        assert_eq!((of(10_000), of(80_000), of(300_000)), ("10s".into(), "1m20s".into(), "5m0s".into()));
    }
}
