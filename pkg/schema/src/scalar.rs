//! The scalars with a text form of their own: quantities, times, base64. Each function checks a text and gives its
//! canonical form, or the complaint that Go's parser makes. Invariant: canonical forms are fixed points.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use kedge_meta::quantity::Quantity;
use serde_json::Value;

/// Go does not mind what the unused bits of the last symbol are.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The canonical text of a quantity given as a string or a number.
pub fn quantity(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.trim().to_string(),
        // Other JSON is handed to the same parser, which refuses it.
        other => other.to_string(),
    };
    let canonical = Quantity::parse(&text).map_err(|error| error.to_string())?.to_string();
    // A binary amount that is shown without a suffix is read as a decimal one the next time, which may have a shorter form. Upstream's servers
    // answer with the longer one once, and with the shorter one ever after.
    Ok(Quantity::parse(&canonical).map_or(canonical, |again| again.to_string()))
}

/// Canonical base64, or Go's complaint. `None` means that the text is canonical already.
pub fn base64_text(text: &str) -> Result<Option<String>, String> {
    let cleaned: String;
    let mut source = text;
    if text.contains(['\n', '\r']) {
        cleaned = text.replace(['\n', '\r'], "");
        source = &cleaned;
    }
    let bytes = BASE64.decode(source).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => source.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })?;
    let canonical = BASE64.encode(bytes);
    Ok(if canonical == text { None } else { Some(canonical) })
}

const SECONDS_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICROS_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The canonical UTC text of a time, with microseconds if `micro`. `None` is the zero time, which encodes as null.
pub fn time(text: &str, micro: bool) -> Result<Option<String>, String> {
    let layout = if micro { MICROS_LAYOUT } else { SECONDS_LAYOUT };
    let mut parser = TimeParser { text, rest: text, layout };
    let (datetime, offset) = parser.parse(micro)?;
    let out_of_range = || format!("parsing time {text:?}: year out of range");
    let timestamp = offset.to_timestamp(datetime).map_err(|_| out_of_range())?;
    let utc = Offset::UTC.to_datetime(timestamp);
    // Before the year 0 there is no text that would be read again.
    if utc.year() < 0 {
        return Err(out_of_range());
    }
    // What is not written makes no difference the next time, either.
    let utc = if micro { utc } else { utc.with().subsec_nanosecond(0).build().map_err(|_| out_of_range())? };
    if utc.year() == 1 && utc.month() == 1 && utc.day() == 1 && utc.time() == jiff::civil::Time::midnight() {
        return Ok(None);
    }
    let fraction = if micro { format!(".{:06}", utc.subsec_nanosecond() / 1000) } else { String::new() };
    Ok(Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        utc.year(),
        utc.month(),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second()
    )))
}

struct TimeParser<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl TimeParser<'_> {
    fn parse(&mut self, micro: bool) -> Result<(DateTime, Offset), String> {
        let year = self.digits(4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, "01")?;
        self.literal("-")?;
        let day = self.digits(2, "02")?;
        self.literal("T")?;
        let hour = self.digits(2, "15")?;
        self.literal(":")?;
        let minute = self.digits(2, "04")?;
        self.literal(":")?;
        let second = self.digits(2, "05")?;
        let nanos = self.fraction(micro)?;
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        for (value, limit, name) in [(hour, 23, "hour"), (minute, 59, "minute"), (second, 59, "second")] {
            if value > limit {
                return Err(format!("parsing time {:?}: {name} out of range", self.text));
            }
        }
        if !(1..=12).contains(&month) {
            return Err(format!("parsing time {:?}: month out of range", self.text));
        }
        // Four and two digits fit.
        let small = |value: u32| i8::try_from(value).unwrap_or(i8::MAX);
        let year = i16::try_from(year).unwrap_or(i16::MAX);
        DateTime::new(year, small(month), small(day), small(hour), small(minute), small(second), nanos)
            .map(|datetime| (datetime, offset))
            .map_err(|_| format!("parsing time {:?}: day out of range", self.text))
    }

    fn mismatch(&self, element: &str) -> String {
        format!("parsing time {:?} as {:?}: cannot parse {:?} as {element:?}", self.text, self.layout, self.rest)
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<u32, String> {
        let head = self.rest.get(..count).filter(|head| head.bytes().all(|byte| byte.is_ascii_digit()));
        let number = head.and_then(|head| head.parse().ok()).ok_or_else(|| self.mismatch(element))?;
        self.rest = &self.rest[count..];
        Ok(number)
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.mismatch(literal))?;
        Ok(())
    }

    /// Nanoseconds. A fraction is optional for seconds and exactly six digits for microseconds.
    fn fraction(&mut self, micro: bool) -> Result<i32, String> {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else {
            return if micro { Err(self.mismatch(".000000")) } else { Ok(0) };
        };
        let count = tail.bytes().take_while(u8::is_ascii_digit).count();
        if (micro && count != 6) || count == 0 {
            return Err(self.mismatch(if micro { ".000000" } else { "Z07:00" }));
        }
        let digits: String = tail.chars().take(count.min(9)).collect();
        self.rest = &tail[count..];
        Ok(format!("{digits:0<9}").parse().unwrap_or(0))
    }

    fn zone(&mut self) -> Result<Offset, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(Offset::UTC);
        }
        let bytes = self.rest.as_bytes();
        let sign = match bytes.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.mismatch("Z07:00")),
        };
        let number = |range: std::ops::Range<usize>| {
            self.rest.get(range).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<i32>().ok()
        };
        let (Some(hours), Some(b':'), Some(minutes)) = (number(1..3), bytes.get(3), number(4..6)) else {
            return Err(self.mismatch("Z07:00"));
        };
        if hours > 24 || minutes > 60 {
            return Err(format!("parsing time {:?}: time zone offset hour out of range", self.text));
        }
        self.rest = &self.rest[6..];
        Offset::from_seconds(sign * (hours * 3600 + minutes * 60))
            .map_err(|_| format!("parsing time {:?}: time zone offset hour out of range", self.text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_become_utc() {
        assert_eq!(time("2024-05-01T02:00:00.9+02:00", false).unwrap().unwrap(), "2024-05-01T00:00:00Z");
        assert_eq!(time("2024-05-01T00:00:00.000120Z", true).unwrap().unwrap(), "2024-05-01T00:00:00.000120Z");
        assert_eq!(time("0001-01-01T00:00:00Z", false).unwrap(), None);
    }

    /// The first was canonically written as what cannot be read, the second as what is no time at all when it is read again.
    #[test]
    fn canonical_times_are_canonical() {
        assert!(time("0000-01-01T00:00:00+01:00", false).unwrap_err().ends_with("year out of range"));
        assert_eq!(time("0001-01-01T00:00:00.5Z", false).unwrap(), None);
        assert_eq!(time("0001-01-01T00:00:00.500000Z", true).unwrap().unwrap(), "0001-01-01T00:00:00.500000Z");
    }

    #[test]
    fn wrong_times_get_gos_complaint() {
        assert_eq!(
            time("foo", false).unwrap_err(),
            r#"parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006""#
        );
        assert_eq!(
            time("2024-02-30T00:00:00Z", false).unwrap_err(),
            r#"parsing time "2024-02-30T00:00:00Z": day out of range"#
        );
        assert!(time("2024-02-20T00:00:00Z", true).unwrap_err().ends_with(r#"cannot parse "Z" as ".000000""#));
    }

    #[test]
    fn base64_is_checked_and_made_canonical() {
        assert_eq!(base64_text("aGk=").unwrap(), None);
        assert_eq!(base64_text("aG\nk=").unwrap().unwrap(), "aGk=");
        assert_eq!(base64_text("a?k=").unwrap_err(), "illegal base64 data at input byte 1");
    }

    #[test]
    fn quantities_are_canonical() {
        assert_eq!(quantity(&serde_json::json!("1024Mi")).unwrap(), "1Gi");
        assert_eq!(quantity(&serde_json::json!(2)).unwrap(), "2");
        // 2,000 bytes were 2000 when they were written, and 2k when that was written again.
        for (text, canonical) in [("1.953125Ki", "2k"), ("0.9765625Ki", "1k"), ("1025", "1025"), ("1.5Ki", "1536")] {
            assert_eq!(quantity(&serde_json::json!(text)).unwrap(), canonical, "{text}");
            assert_eq!(quantity(&serde_json::json!(canonical)).unwrap(), canonical);
        }
        assert!(quantity(&serde_json::json!({})).is_err());
    }
}
