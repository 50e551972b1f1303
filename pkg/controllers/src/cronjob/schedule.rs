//! Cron schedules: five fields, names of months and days, `@hourly` and its like, `@every`.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A schedule without a time within this many years has none.
const HORIZON: i16 = 5;

/// When to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Every(Duration),
    Fields(Fields),
}

/// Allowed values as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether day or weekday leave it to the other one.
    star: bool,
}

/// What is wrong with a schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    #[error("expected exactly 5 fields, found {0}: {1:?}")]
    Fields(usize, String),
    #[error("failed to parse {0:?}")]
    Value(String),
    #[error("{0:?}: out of range {1}-{2}")]
    Range(String, u32, u32),
    #[error("unrecognized descriptor: {0:?}")]
    Descriptor(String),
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            return descriptor_of(descriptor).ok_or_else(|| ParseError::Descriptor(text.to_owned()));
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(ParseError::Fields(parts.len(), text.to_owned()));
        };
        let star = |field: &str| field.split(',').any(|p| p.starts_with(['*', '?']));
        let weekday_bits = field(weekday, 0, 7, &DAYS, 0)?;
        Ok(Self::Fields(Fields {
            minute: field(minute, 0, 59, &[], 0)?,
            hour: field(hour, 0, 23, &[], 0)?,
            day: field(day, 1, 31, &[], 0)?,
            month: field(month, 1, 12, &MONTHS, 1)?,
            // Sunday is 0 and 7.
            weekday: (weekday_bits | (weekday_bits >> 7)) & 0x7f,
            star: star(day) || star(weekday),
        }))
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Self::Fields(fields) => fields.next(&after.to_zoned(zone.clone())),
        }
    }
}

fn has(bits: u64, n: i8) -> bool {
    u32::try_from(n).ok().and_then(|n| 1_u64.checked_shl(n)).is_some_and(|bit| bits & bit != 0)
}

impl Fields {
    fn next(&self, after: &Zoned) -> Option<Timestamp> {
        let mut at = after.checked_add(1.minute()).ok()?.with().second(0).subsec_nanosecond(0).build().ok()?;
        let end = after.year() + HORIZON;
        while at.year() <= end {
            if !has(self.month, at.month()) {
                at = at.first_of_month().ok()?.start_of_day().ok()?.checked_add(1.month()).ok()?;
            } else if !self.is_day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hour, at.hour()) {
                let minutes = i64::from(60 - at.minute());
                at = at.checked_add(minutes.minutes()).ok()?;
            } else if !has(self.minute, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    fn is_day(&self, at: &Zoned) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.star { day && weekday } else { day || weekday }
    }
}

fn descriptor_of(text: &str) -> Option<Schedule> {
    if let Some(period) = text.strip_prefix("every ") {
        let period = kedge_base::time::go_duration(period.trim()).filter(|period| !period.is_zero())?;
        // Less than a second cannot be kept.
        return Some(Schedule::Every(Duration::from_secs(period.as_secs().max(1))));
    }
    let fields = match text {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => return None,
    };
    Schedule::parse(fields).ok()
}

/// One field: alternatives of ranges with steps. `names` stand for numbers from `first_name` on.
fn field(text: &str, min: u32, max: u32, names: &[&str], first_name: u32) -> Result<u64, ParseError> {
    let bad = || ParseError::Value(text.to_owned());
    let value = |t: &str| -> Result<u32, ParseError> {
        let lower = t.to_ascii_lowercase();
        if let Some(i) = names.iter().position(|n| *n == lower) {
            return Ok(first_name + u32::try_from(i).unwrap_or_default());
        }
        t.parse().map_err(|_| bad())
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|s| *s > 0).ok_or_else(bad)?)),
            None => (part, None),
        };
        let (low, high) = match range {
            "*" | "?" => (min, if names.len() == DAYS.len() { 6 } else { max }),
            _ => match range.split_once('-') {
                Some((low, high)) => (value(low)?, value(high)?),
                // With a step, a single value is the start of a range.
                None if step.is_some() => (value(range)?, max),
                None => (value(range)?, value(range)?),
            },
        };
        if low < min || high > max || low > high {
            return Err(ParseError::Range(text.to_owned(), min, max));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        (low..=high).step_by(step).for_each(|n| bits |= 1_u64 << n);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let at = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &TimeZone::UTC);
        at.map_or("never".to_owned(), |t| t.to_string())
    }

    #[test]
    fn schedules_find_their_next_time() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
            ("30 2 * * *", "2026-01-31T02:30:00Z", "2026-02-01T02:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 9 * * mon-fri", "2026-01-02T10:00:00Z", "2026-01-05T09:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
            ("5 0 1 JAN *", "2026-06-01T00:00:00Z", "2027-01-01T00:05:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "@never", "@every x", "a * * * *"]
        {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
