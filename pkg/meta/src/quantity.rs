//! `resource.Quantity`: exact decimal amounts with binary or decimal suffixes and a canonical text form.
//!
//! An amount is kept as `i128` nano-units, which covers what upstream accepts (int64 with three decimals below zero, and
//! larger numbers rounded up to 10⁻⁹); what does not fit is refused.

use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;
/// Longer texts cannot be sensible amounts.
const MAX_TEXT: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// An exact amount.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no quantity; the wording is upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("numeric value is out of range")]
    Range,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Zero, shown as `0`.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units in decimal form.
    pub fn from_value(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    /// Thousandths in decimal form.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Billionths in decimal form.
    pub fn from_nanos(nanos: i64) -> Self {
        Self { nanos: i128::from(nanos), format: Format::DecimalSi }
    }

    /// Bytes, shown with binary suffixes where they fit.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ParseError`], worded as upstream words it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(ParseError::Format);
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseError::Format);
        }
        let (format, power, shift) = suffix_of(suffix)?;
        let mut nanos = scale(whole, fraction, power)?;
        nanos = nanos.checked_shl(shift).filter(|n| n >> shift == nanos).ok_or(ParseError::Range)?;
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Whole units, rounded up (away from zero).
    pub fn value(&self) -> i64 {
        self.rounded_up(NANO)
    }

    /// Thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        self.rounded_up(NANO / 1000)
    }

    fn rounded_up(&self, unit: i128) -> i64 {
        let quotient = self.nanos / unit;
        let rest = self.nanos % unit;
        let rounded = quotient + rest.signum();
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// Sum, in this one's format; saturates.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// Difference, in this one's format; saturates.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// About as much, for who can do with that.
    pub fn approximate(&self) -> f64 {
        if self.nanos % NANO == 0 { (self.nanos / NANO) as f64 } else { self.nanos as f64 / NANO as f64 }
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
}

fn suffix_of(suffix: &str) -> Result<(Format, i32, u32), ParseError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, *power, 0));
    }
    if let Some((_, shift)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::BinarySi, 0, *shift));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let power: i32 = exponent.parse().map_err(|_| ParseError::Suffix)?;
        return Ok((Format::DecimalExponent, power, 0));
    }
    let known = suffix.chars().all(|c| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit());
    Err(if known { ParseError::Suffix } else { ParseError::Format })
}

/// `whole.fraction × 10^power` in nano-units; what is smaller than a nano-unit is rounded up.
fn scale(whole: &str, fraction: &str, power: i32) -> Result<i128, ParseError> {
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let exponent = power.checked_add(9).and_then(|p| p.checked_sub(fraction.len() as i32)).ok_or(ParseError::Range)?;
    if exponent >= 0 {
        let factor = 10_i128.checked_pow(exponent as u32).ok_or(ParseError::Range)?;
        let number: i128 = digits.parse().map_err(|_| ParseError::Range)?;
        return number.checked_mul(factor).ok_or(ParseError::Range);
    }
    let cut = exponent.unsigned_abs() as usize;
    let (kept, dropped) = if cut >= digits.len() { ("0", digits) } else { digits.split_at(digits.len() - cut) };
    let number: i128 = kept.parse().map_err(|_| ParseError::Range)?;
    Ok(number + i128::from(dropped.bytes().any(|b| b != b'0')))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.nanos % NANO == 0 {
            let units = self.nanos / NANO;
            // Upstream shows binary amounts below 1024 without a suffix.
            let fitting = BINARY.iter().rev().find(|(_, shift)| units % (1_i128 << shift) == 0);
            return match fitting {
                Some((suffix, shift)) => write!(f, "{}{suffix}", units >> shift),
                None => write!(f, "{units}"),
            };
        }
        let (mut mantissa, mut power) = (self.nanos, -9_i32);
        while mantissa % 1000 == 0 && power < 18 {
            mantissa /= 1000;
            power += 3;
        }
        match (self.format, power) {
            (_, 0) => write!(f, "{mantissa}"),
            (Format::DecimalExponent, power) => write!(f, "{mantissa}e{power}"),
            (_, power) => {
                let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, canonical) in [
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.0", "1"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("1000k", "1M"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("0", "0"),
            ("0Ki", "0"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("12E", "12E"),
            ("1n", "1n"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "a", "1.2.3", "1x", "1 Gi", ".", "1ee3", "--1", "1Gib"] {
            assert!(Quantity::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Quantity::parse("1e99"), Err(ParseError::Range));
    }

    #[test]
    fn values_round_up() {
        assert_eq!(Quantity::parse("1500m").unwrap().value(), 2);
        assert_eq!(Quantity::parse("1u").unwrap().milli_value(), 1);
        assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
    }
}
