//! What `kubectl get` shows: columns and rows, one kind a file.

use serde_json::{Value, json};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the column that is the object's name.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// Columns and how an object becomes a row of cells.
pub struct Printer {
    pub columns: &'static [Column],
    pub row: fn(&Value, jiff::Timestamp) -> Vec<Value>,
}

const fn column(name: &'static str, kind: &'static str, format: &'static str, priority: i32) -> Column {
    Column { name, kind, format, description: "", priority }
}

/// What kinds without a printer of their own show.
static PLAIN: Printer =
    Printer { columns: &[column("Name", "string", "name", 0), column("Age", "string", "", 0)], row: plain_row };

fn plain_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    use crate::value::ValueExt as _;
    vec![json!(object.name()), json!(age(object.text(&["metadata", "creationTimestamp"]), now))]
}

/// The printer of a kind.
pub fn printer(_group: &str, _plural: &str) -> &'static Printer {
    &PLAIN
}

/// The time since a timestamp as upstream shortens it; `<unknown>` without one.
pub fn age(timestamp: &str, now: jiff::Timestamp) -> String {
    match kedge_base::time::parse(timestamp) {
        Ok(then) => human_duration(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// `duration.HumanDuration`: at most two units, the smaller one dropped as the larger one grows.
pub fn human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let s = seconds.max(0);
    let (minutes, hours, days, years) = (s / 60, s / 3600, s / 86_400, s / 31_536_000);
    let two = |big: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{sub}") }
    };
    match () {
        () if s < 120 => format!("{s}s"),
        () if minutes < 10 => two(minutes, "m", s % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shortened_as_upstream_does() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (7200, "120m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (36_000, "10h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (864_000, "10d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
