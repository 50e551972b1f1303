//! Scalars of YAML as upstream's parser understands them: the rules of YAML 1.1 without its numbers to the base of 60.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

const CORE: &str = "tag:yaml.org,2002:";

/// A scalar with its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// As JSON has it: floats without a fraction are written without one.
    pub(super) fn into_value(self) -> Result<Value, String> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => value.into(),
            Self::Uint(value) => value.into(),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => (value as i64).into(),
            Self::Float(value) => {
                Value::Number(Number::from_f64(value).ok_or_else(|| "json: unsupported value".to_owned())?)
            }
            Self::Text(text) => Value::String(text),
        })
    }

    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Uint(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
        }
    }
}

/// The meaning of a scalar; `plain` says that it is not quoted.
///
/// # Errors
/// For a tag that does not fit, in upstream's words.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let tag = tag.map(|tag| tag.strip_prefix(CORE).map_or_else(|| tag.to_owned(), |short| format!("!!{short}")));
    match tag.as_deref() {
        None if plain => Ok(implicit(text)),
        // Who says `!` means text, and other kinds of tags mean nothing here.
        None | Some("!!str") => Ok(Scalar::Text(text.to_owned())),
        Some("!!binary") => {
            let joined: String = text.split_ascii_whitespace().collect();
            let bytes =
                STANDARD.decode(joined).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Some(tag @ ("!!bool" | "!!int" | "!!float" | "!!null")) => match (tag, implicit(text)) {
            ("!!float", Scalar::Int(value)) => Ok(Scalar::Float(value as f64)),
            (tag, scalar) if scalar.tag() == tag => Ok(scalar),
            (tag, scalar) => Err(format!("cannot decode {} `{text}` as a {tag}", scalar.tag())),
        },
        Some(_) => Ok(Scalar::Text(text.to_owned())),
    }
}

/// Whether a text without quotes is read as itself.
pub(crate) fn is_plain_text(text: &str) -> bool {
    matches!(implicit(text), Scalar::Text(_)) && !is_number_of_old(text)
}

/// Numbers to the base of 60 and dates, which some readers know.
fn is_number_of_old(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        && text.bytes().all(|b| b.is_ascii_digit() || b"+-:._ eETtZzxXoObB".contains(&b))
}

fn implicit(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => is_float(text).then(|| text.parse().ok()).flatten().map(Scalar::Float),
        Some(b'0'..=b'9' | b'+' | b'-') => number(text),
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Scalar> {
    // Upstream takes dates for dates first, and then for text after all.
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first() {
        Some(b'-') => (true, &plain[1..]),
        Some(b'+') => (false, &plain[1..]),
        _ => (false, plain.as_str()),
    };
    if let Some(magnitude) = magnitude(digits) {
        let signed = i128::from(magnitude) * if negative { -1 } else { 1 };
        if let Ok(value) = i64::try_from(signed) {
            return Some(Scalar::Int(value));
        }
        if !plain.starts_with(['-', '+']) {
            return Some(Scalar::Uint(magnitude));
        }
    }
    is_float(&plain).then(|| plain.parse().ok()).flatten().filter(|value: &f64| value.is_finite()).map(Scalar::Float)
}

/// A whole number in the bases that Go knows: `0x`, `0o`, `0b`, and octal after a bare zero.
fn magnitude(digits: &str) -> Option<u64> {
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (radix, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // Rust's parser takes a sign of its own.
    if rest.starts_with(['+', '-']) { None } else { u64::from_str_radix(rest, radix).ok() }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let some = |text: &str| !text.is_empty() && digits(text);
    let whole = match mantissa.split_once('.') {
        Some(("", fraction)) => some(fraction),
        Some((whole, fraction)) => some(whole) && digits(fraction),
        None => some(mantissa),
    };
    whole && exponent.is_none_or(some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Value {
        resolve(text, true, None).unwrap().into_value().unwrap()
    }

    #[test]
    fn numbers_are_those_of_upstreams_parser() {
        for (text, value) in [
            ("0400", 256),
            ("0o17", 15),
            ("0x1F", 31),
            ("0b101", 5),
            ("-0x10", -16),
            ("+12", 12),
            ("1_000", 1000),
            ("0", 0),
            // No octal number, and so a decimal fraction.
            ("0800", 800),
            ("1e3", 1000),
            ("-5.0", -5),
            ("00", 0),
            ("08", 8),
            ("4.", 4),
            ("1_0.0", 10),
        ] {
            assert_eq!(of(text), value, "{text}");
        }
        assert_eq!(of("18446744073709551615"), u64::MAX);
        assert_eq!(of("-9223372036854775808"), i64::MIN);
        assert_eq!(of("0.5"), 0.5);
        assert_eq!(of(".5"), 0.5);
        assert_eq!(of("1e400"), "1e400");
    }

    #[test]
    fn what_only_looks_like_a_number_is_text() {
        for text in [
            "12:30:45",
            "2026-01-01",
            "2026-01-01T00:00:00Z",
            "1.2.3",
            "0x",
            "+",
            "-",
            "1e",
            "--1",
            "0o8",
            "inf",
            "NaN",
            "yEs",
            "oN",
            "nULL",
            "0x-1",
            "1 000",
            "x",
            ".",
            "e5",
            "192.168.0.1",
            "0b2",
            "_1",
        ] {
            assert_eq!(of(text), text, "{text}");
        }
    }

    #[test]
    fn tags_and_quotes_decide() {
        let with = |text: &str, tag: &str| resolve(text, false, Some(tag)).map(|scalar| scalar.into_value().unwrap());
        assert_eq!(resolve("yes", false, None).unwrap(), Scalar::Text("yes".into()));
        assert_eq!(with("12", "tag:yaml.org,2002:int").unwrap(), 12);
        assert_eq!(with("yes", "!!bool").unwrap(), true);
        assert_eq!(with("3", "!!float").unwrap(), 3);
        assert_eq!(with("aGVs\n bG8=", "!!binary").unwrap(), "hello");
        assert_eq!(with("1", "!own").unwrap(), "1");
        assert_eq!(with("x", "!!int").unwrap_err(), "cannot decode !!str `x` as a !!int");
    }
}
