//! Literals: numbers, and strings with their escapes.

use std::sync::Arc;

use crate::ast::Literal;

/// An integer, with its sign; base 16 after `0x`.
pub(super) fn int(text: &str) -> Option<Literal> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
        None => text.parse(),
    };
    value.ok().map(Literal::Int)
}

/// An unsigned integer, with its `u`.
pub(super) fn uint(text: &str) -> Option<Literal> {
    let digits = text.strip_suffix(['u', 'U'])?;
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok().map(Literal::Uint)
}

/// A number with a fraction or an exponent. What is too large is none.
pub(super) fn double(text: &str) -> Option<Literal> {
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Literal::Double)
}

/// A string as it is in the text, with quotes.
pub(super) fn string(text: &str) -> Result<Literal, &'static str> {
    let bytes = unescape(text, false)?;
    let value = String::from_utf8(bytes).map_err(|_| "unable to unescape string")?;
    Ok(Literal::String(value.into()))
}

/// Bytes as they are in the text, without their `b`.
pub(super) fn bytes(text: &str) -> Result<Literal, &'static str> {
    Ok(Literal::Bytes(Arc::from(unescape(text, true)?)))
}

fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, quoted) = text.strip_prefix(['r', 'R']).map_or((false, text.as_str()), |rest| (true, rest));
    let length = if quoted.len() >= 6 && (quoted.starts_with("'''") || quoted.starts_with("\"\"\"")) { 3 } else { 1 };
    let mut inner = quoted.get(length..quoted.len().saturating_sub(length)).ok_or("unable to unescape string")?;
    if raw {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    while let Some(at) = inner.find('\\') {
        out.extend_from_slice(&inner.as_bytes()[..at]);
        inner = escape(&inner[at + 1..], bytes, &mut out)?;
    }
    out.extend_from_slice(inner.as_bytes());
    Ok(out)
}

/// Reads what follows a backslash, and gives back what follows that.
fn escape<'a>(rest: &'a str, bytes: bool, out: &mut Vec<u8>) -> Result<&'a str, &'static str> {
    const BAD: &str = "unable to unescape string";
    let mut chars = rest.chars();
    let c = chars.next().ok_or("unable to unescape string, found '\\' as last character")?;
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => c as u8,
        'x' | 'X' => return number(&rest[1..], 2, 16, bytes, out),
        'u' | 'U' if bytes => return Err(BAD),
        'u' => return number(&rest[1..], 4, 16, false, out),
        'U' => return number(&rest[1..], 8, 16, false, out),
        '0'..='3' => return number(rest, 3, 8, bytes, out),
        _ => return Err(BAD),
    };
    out.push(simple);
    Ok(chars.as_str())
}

fn number<'a>(rest: &'a str, count: usize, base: u32, byte: bool, out: &mut Vec<u8>) -> Result<&'a str, &'static str> {
    let digits = rest.get(..count).ok_or("unable to unescape string")?;
    let value = u32::from_str_radix(digits, base).map_err(|_| "unable to unescape string")?;
    if byte {
        out.push(value as u8);
    } else {
        let c = char::from_u32(value).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(&rest[count..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escapes_of_strings_are_characters_and_of_bytes_are_bytes() {
        assert_eq!(string(r"'\xff\101\u00e4\n'").unwrap(), Literal::String("\u{ff}A\u{e4}\n".into()));
        assert_eq!(bytes(r"'\xff\101ä'").unwrap(), Literal::Bytes(Arc::from([0xff, 0x41, 0xc3, 0xa4].as_slice())));
        assert_eq!(string(r"r'\n'").unwrap(), Literal::String("\\n".into()));
        assert_eq!(string(r"'\ud800'"), Err("invalid unicode code point"));
        assert!(bytes(r"'\u00ff'").is_err());
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(int("-9223372036854775808"), Some(Literal::Int(i64::MIN)));
        assert_eq!(int("9223372036854775808"), None);
        assert_eq!(int("-0x10"), Some(Literal::Int(-16)));
        assert_eq!(uint("18446744073709551615u"), Some(Literal::Uint(u64::MAX)));
        assert_eq!(double("1e999"), None);
    }
}
