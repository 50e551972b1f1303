//! Points in time, with the offset that they were written with.

use std::cmp::Ordering;

/// The first second of year 1, and the last of year 9999.
const MIN: i64 = -62_135_596_800;
const MAX: i64 = 253_402_300_799;
const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A point in time between the years 1 and 9999.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp {
    /// Since 1970, UTC.
    seconds: i64,
    /// Less than a second.
    nanos: u32,
    /// East of UTC, in seconds: how it was written.
    offset: i32,
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

/// Date and time in some time zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// From 0.
    pub day_of_year: i64,
    /// From 0, which is Sunday.
    pub day_of_week: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Timestamp {
    /// Seconds since 1970, and nanoseconds within that second.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        ((MIN..=MAX).contains(&seconds) && i64::from(nanos) < NANOS).then_some(Self { seconds, nanos, offset: 0 })
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let (seconds, nanos, offset) = rfc3339(text, true)?;
        Some(Self { offset, ..Self::new(seconds, nanos)? })
    }

    /// Reads what a schema calls `date-time`: RFC 3339, also without a zone, or nothing.
    pub(crate) fn parse_schema(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Self::new(0, 0);
        }
        let (seconds, nanos, offset) = rfc3339(text, true).or_else(|| rfc3339(text, false))?;
        Some(Self { offset, ..Self::new(seconds, nanos)? })
    }

    /// Since 1970.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Within the second.
    pub fn subsec_nanos(&self) -> u32 {
        self.nanos
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.seconds == MIN && self.nanos == 0
    }

    /// So much later, unless it is out of range.
    pub(crate) fn add(&self, duration: i64) -> Option<Self> {
        let nanos = i64::from(self.nanos) + duration.rem_euclid(NANOS);
        let seconds = self.seconds.checked_add(duration.div_euclid(NANOS))?.checked_add(nanos / NANOS)?;
        let nanos = u32::try_from(nanos % NANOS).ok()?;
        Some(Self { offset: self.offset, ..Self::new(seconds, nanos)? })
    }

    /// The nanoseconds from another, unless they are too many.
    pub(crate) fn since(&self, other: &Self) -> Option<i64> {
        let seconds = self.seconds.checked_sub(other.seconds)?;
        seconds.checked_mul(NANOS)?.checked_add(i64::from(self.nanos) - i64::from(other.nanos))
    }

    /// Date and time, so many seconds east of UTC.
    pub(crate) fn at_offset(&self, offset: i64) -> Local {
        let seconds = self.seconds.saturating_add(offset);
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        Local {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year, 1, 1),
            day_of_week: (days + 4).rem_euclid(7),
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
        }
    }

    /// RFC 3339, with as many digits of the fraction as there are.
    pub(crate) fn show(&self) -> String {
        self.show_at(self.offset)
    }

    /// The same, in UTC.
    pub(crate) fn show_utc(&self) -> String {
        self.show_at(0)
    }

    fn show_at(&self, offset: i32) -> String {
        let at = self.at_offset(i64::from(offset));
        let fraction = if self.nanos == 0 {
            String::new()
        } else {
            format!(".{:09}", self.nanos).trim_end_matches('0').to_owned()
        };
        let zone = match offset / 60 {
            0 => "Z".to_owned(),
            minutes => {
                format!("{}{:02}:{:02}", if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60)
            }
        };
        let Local { year, month, day, hour, minute, second, .. } = at;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
    }
}

/// How far east of UTC a zone is then: `-08:00`, `02:00` or a name.
pub(crate) fn local(time: &Timestamp, zone: &str) -> Result<Local, String> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", super::show::quote(text)))
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes =
            if zone.starts_with('-') { hours.saturating_mul(60) - minutes } else { hours.saturating_mul(60) + minutes };
        return Ok(time.at_offset(minutes.saturating_mul(60)));
    }
    if zone.is_empty() || zone == "UTC" {
        return Ok(time.at_offset(0));
    }
    if zone.contains("..") || zone.starts_with(['/', '\\']) {
        return Err("time: invalid location name".to_owned());
    }
    let unknown = || format!("unknown time zone {zone}");
    let found = jiff::tz::TimeZone::get(zone).map_err(|_| unknown())?;
    // The last days of year 9999 are beyond what is known of zones; nothing changes in them.
    let seconds = time.seconds.min(jiff::Timestamp::MAX.as_second());
    let at = jiff::Timestamp::from_second(seconds).map_err(|_| unknown())?;
    Ok(time.at_offset(i64::from(found.to_offset(at).seconds())))
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads digits, exactly so many, and what must follow them.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(digits)?;
        self.0 = tail;
        head.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    }

    fn eat(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| bytes.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.number(4)?;
        self.eat(b"-")?;
        let month = self.number(2).filter(|month| (1..=12).contains(month))?;
        self.eat(b"-")?;
        let day = self.number(2).filter(|day| (1..=days_in(year, month)).contains(day))?;
        Some(days_from_civil(year, month, day))
    }
}

/// Seconds since 1970, nanoseconds, offset.
fn rfc3339(text: &str, zoned: bool) -> Option<(i64, u32, i32)> {
    let mut reader = Reader(text.as_bytes());
    let days = reader.date()?;
    reader.eat(b"T")?;
    let hour = reader.number(2).filter(|n| *n < 24)?;
    reader.eat(b":")?;
    let minute = reader.number(2).filter(|n| *n < 60)?;
    reader.eat(b":")?;
    let second = reader.number(2).filter(|n| *n < 60)?;
    let mut nanos = 0;
    if reader.eat(b".,").is_some() {
        let count = reader.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = reader.number(count.min(9)).filter(|_| count > 0)?;
        reader.0 = reader.0.get(count.saturating_sub(9)..)?;
        nanos = kept * 10_i64.pow(9 - count.min(9) as u32);
    }
    let offset = if zoned { zone(&mut reader)? } else { 0 };
    let seconds = days * DAY + hour * 3600 + minute * 60 + second - i64::from(offset);
    reader.0.is_empty().then_some((seconds, nanos as u32, offset))
}

fn zone(reader: &mut Reader<'_>) -> Option<i32> {
    let sign = match reader.eat(b"Z+-")? {
        b'Z' => return Some(0),
        b'-' => -1,
        _ => 1,
    };
    let hours = reader.number(2).filter(|n| *n <= 24)?;
    reader.eat(b":")?;
    let minutes = reader.number(2).filter(|n| *n <= 60)?;
    i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()
}

/// Reads `2006-01-02`: midnight then.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    let mut reader = Reader(text.as_bytes());
    let days = reader.date()?;
    if reader.0.is_empty() { Timestamp::new(days * DAY, 0) } else { None }
}

/// Why a text is no time, in Go's words; the layout is Go's as well.
pub(crate) fn complaint(text: &str, layout: &str) -> String {
    use super::quote;
    const ELEMENTS: [&str; 11] = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    const RANGES: [(&str, i64, i64); 6] =
        [("", 0, 9999), ("month", 1, 12), ("day", 1, 31), ("hour", 0, 23), ("minute", 0, 59), ("second", 0, 59)];
    let (mut rest, mut numbers) = (text, Vec::new());
    for element in ELEMENTS.into_iter().take(if layout.contains('T') { 11 } else { 5 }) {
        let after = rest.get(element.len()..);
        let head = &rest[..rest.len() - after.map_or(rest.len(), str::len)];
        let fits = if element.len() == 1 {
            head == element
        } else {
            after.is_some() && head.bytes().all(|b| b.is_ascii_digit())
        };
        let Some(after) = after.filter(|_| fits) else {
            return format!(
                "parsing time {} as {}: cannot parse {} as {}",
                quote(text),
                quote(layout),
                quote(rest),
                quote(element)
            );
        };
        if element.len() > 1 {
            let (name, least, most) = RANGES[numbers.len()];
            let number: i64 = head.parse().unwrap_or(-1);
            if number < least || number > most {
                return format!("parsing time {}: {name} out of range", quote(text));
            }
            numbers.push(number);
        }
        rest = after;
    }
    match rest {
        "" => format!("parsing time {}: day out of range", quote(text)),
        rest => format!("parsing time {}: extra text: {}", quote(text), quote(rest)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_read_is_shown_again() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2023-07-14T10:30:45.123Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "2024-02-29T12:00:00+02:00",
            "1900-03-01T00:00:00-11:30",
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().show(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2023-02-29T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00:00",
            "0000-12-31T23:59:59Z",
        ] {
            assert!(Timestamp::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn days_are_counted() {
        let at = Timestamp::parse("2023-07-14T10:30:45Z").unwrap().at_offset(0);
        assert_eq!((at.day_of_year, at.day_of_week), (194, 5));
    }
}
