//! The formats of texts and numbers that upstream knows. Others are only words for readers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_meta::names;
use kedge_meta::regexp::{self, Regex};

use super::Kind;

/// A format, and how its texts are told.
#[derive(Clone, Copy)]
pub struct Format {
    /// As the schema writes it.
    name: &'static str,
    accepts: fn(&str) -> bool,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const NUMBERS: [&str; 4] = ["int32", "int64", "float", "double"];

/// Formats of texts. They are also found when they are written without dashes.
static TEXTS: [Format; 30] = [
    Format { name: "bsonobjectid", accepts: |text| text.len() == 24 && is_hex(text) },
    Format { name: "uri", accepts: is_uri },
    Format { name: "email", accepts: is_email },
    Format { name: "hostname", accepts: is_hostname },
    Format { name: "ipv4", accepts: is_ipv4 },
    Format { name: "ipv6", accepts: |text| text.parse::<Ipv6Addr>().is_ok() },
    Format { name: "cidr", accepts: is_cidr },
    Format { name: "mac", accepts: is_mac },
    Format { name: "uuid", accepts: |text| is_uuid(text, None) },
    Format { name: "uuid3", accepts: |text| is_uuid(text, Some('3')) },
    Format { name: "uuid4", accepts: |text| is_uuid(text, Some('4')) },
    Format { name: "uuid5", accepts: |text| is_uuid(text, Some('5')) },
    Format { name: "isbn", accepts: |text| is_isbn10(text) || is_isbn13(text) },
    Format { name: "isbn10", accepts: is_isbn10 },
    Format { name: "isbn13", accepts: is_isbn13 },
    Format { name: "creditcard", accepts: is_credit_card },
    Format { name: "ssn", accepts: |text| matches(&SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text) },
    Format { name: "hexcolor", accepts: is_hex_color },
    Format { name: "rgbcolor", accepts: is_rgb_color },
    Format { name: "byte", accepts: |text| STANDARD.decode(text).is_ok() },
    Format { name: "password", accepts: |_| true },
    Format { name: "date", accepts: is_date },
    Format { name: "duration", accepts: is_duration },
    Format { name: "datetime", accepts: is_date_time },
    Format { name: "date-time", accepts: is_date_time },
    Format { name: "k8s-short-name", accepts: is_short_name },
    Format { name: "k8s-long-name", accepts: is_long_name },
    Format { name: "k8sshortname", accepts: is_short_name },
    Format { name: "k8slongname", accepts: is_long_name },
    Format { name: "bson-object-id", accepts: |text| text.len() == 24 && is_hex(text) },
];

impl Format {
    /// The format of this name for a type, if upstream looks at it there.
    pub(super) fn of(name: &str, kind: Kind) -> Option<Self> {
        match kind {
            Kind::Integer | Kind::Number => {
                let of_kind = if kind == Kind::Integer { &NUMBERS[..2] } else { &NUMBERS[2..] };
                let name = of_kind.iter().find(|known| **known == name)?;
                Some(Self { name, accepts: |_| true })
            }
            Kind::String | Kind::Any => TEXTS.iter().find(|format| format.name == name).copied().or_else(|| {
                let plain = name.replace('-', "");
                TEXTS.iter().find(|format| format.name.replace('-', "") == plain).copied()
            }),
            _ => None,
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_of_strings(&self) -> bool {
        !NUMBERS.contains(&self.name)
    }

    pub(super) fn accepts(&self, text: &str) -> bool {
        (self.accepts)(text)
    }
}

/// Whether a format means something for a type, which is empty where none is given.
pub fn is_known(name: &str, type_name: &str) -> bool {
    let kind = match type_name {
        "" | "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        _ => return false,
    };
    Format::of(name, kind).is_some()
}

static SSN: OnceLock<Option<Regex>> = OnceLock::new();
static TIME: OnceLock<Option<Regex>> = OnceLock::new();
static CARD: OnceLock<Option<Regex>> = OnceLock::new();

/// Whether an expression, which is compiled once, matches.
fn matches(compiled: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    compiled.get_or_init(|| regexp::compile(pattern).ok()).as_ref().is_some_and(|regexp| regexp.is_match(text))
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uri(text: &str) -> bool {
    // What a request line may have: a path from the root, or a scheme and what follows it.
    if text.is_empty() || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) || text.contains('#') {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut bytes = scheme.bytes();
    let is_scheme = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme && !rest.is_empty() && escapes_are_whole(rest)
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.get(..2).is_some_and(is_hex))
}

fn is_email(text: &str) -> bool {
    // `Name <address>` is one, too.
    let address = match (text.rfind('<'), text.ends_with('>')) {
        (Some(at), true) => &text[at + 1..text.len() - 1],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        let character = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
        !text.is_empty() && text.chars().all(character)
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || local.split('.').all(atom)) && (literal || domain.split('.').all(atom))
}

/// One label, or several of which the last is of letters.
fn is_hostname(text: &str) -> bool {
    let word = |character: char| character.is_ascii_alphanumeric() || character.is_alphabetic();
    let label = |part: &&str| {
        let ends = part.chars().next().is_some_and(word) && part.chars().next_back().is_some_and(word);
        ends && part.len() <= 63 && part.chars().all(|character| character == '-' || word(character))
    };
    let mut parts: Vec<&str> = text.split('.').collect();
    let top_is_named = |top: &str| (2..=63).contains(&top.chars().count()) && top.chars().all(char::is_alphabetic);
    let fits = match parts.as_slice() {
        [_] => true,
        [.., top] => top_is_named(top),
        [] => false,
    };
    parts.retain(|part| !label(part));
    fits && text.len() <= 255 && parts.is_empty()
}

fn is_ipv4(text: &str) -> bool {
    // As upstream: leading zeros are let go, and an IPv6 address may end in the form of IPv4.
    let plain = text.split('.').map(|part| if part.len() > 1 { part.trim_start_matches('0') } else { part });
    let plain: Vec<&str> = plain.map(|part| if part.is_empty() { "0" } else { part }).collect();
    text.contains('.')
        && (plain.join(".").parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok())
        && !text.split('.').any(str::is_empty)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else if is_ipv4(address) {
        32
    } else {
        return false;
    };
    length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| part.len() == width && is_hex(part))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut plain = String::with_capacity(32);
    let mut rest = text;
    for (at, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some(part) = rest.get(..width).filter(|part| is_hex(part)) else { return false };
        plain.push_str(part);
        rest = &rest[width..];
    }
    let at = |place: usize| plain.chars().nth(place).unwrap_or_default().to_ascii_lowercase();
    let variant = |c: char| "89ab".contains(c);
    rest.is_empty() && version.is_none_or(|version| at(12) == version && (version == '3' || variant(at(16))))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|character| character.to_digit(10)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain: String = text.chars().filter(|character| !" -".contains(*character)).collect();
    let value = |(at, c): (usize, char)| match c {
        'X' | 'x' if at == 9 => Some(10),
        other => other.to_digit(10),
    };
    let Some(values) = plain.chars().enumerate().map(value).collect::<Option<Vec<u32>>>() else { return false };
    values.len() == 10 && values.iter().zip(1..).map(|(value, weight)| value * weight).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let plain: String = text.chars().filter(|character| !" -".contains(*character)).collect();
    let values = digits(&plain);
    let sum: u32 = values.iter().enumerate().map(|(at, value)| if at % 2 == 0 { *value } else { value * 3 }).sum();
    plain.len() == 13 && values.len() == 13 && sum.is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    const PATTERN: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(at, value): (usize, u32)| match at % 2 {
        0 => value,
        _ if value > 4 => value * 2 - 9,
        _ => value * 2,
    };
    let sum: u32 = digits(&plain).into_iter().rev().enumerate().map(doubled).sum();
    matches(&CARD, PATTERN, &plain) && sum.is_multiple_of(10)
}

fn is_hex_color(text: &str) -> bool {
    let plain = text.strip_prefix('#').unwrap_or(text);
    matches!(plain.len(), 3 | 6) && is_hex(plain)
}

fn is_rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let Some(inner) = inner else { return false };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let form = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
    form && text.bytes().filter(u8::is_ascii_digit).count() == 8 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    const PATTERN: &str = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let within = |range: std::ops::Range<usize>, most: &str| time.get(range).is_some_and(|part| part <= most);
    is_date(date) && matches(&TIME, PATTERN, time) && within(0..2, "23") && within(3..5, "59") && within(6..8, "59")
}

/// Go's form, or a number with the name of a unit behind it.
fn is_duration(text: &str) -> bool {
    if kedge_base::time::go_duration(text).is_some() {
        return true;
    }
    const UNITS: [&str; 17] = [
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "second", "m", "min", "minute", "h", "hr",
        "hour", "d",
    ];
    let trimmed = text.trim();
    let end = trimmed.find(|character: char| !character.is_ascii_digit()).unwrap_or(trimmed.len());
    let unit = trimmed[end..].trim().to_lowercase();
    let named = |known: &str| known.len() > 2 && unit.starts_with(known);
    end > 0
        && (UNITS.contains(&unit.as_str())
            || UNITS.iter().any(|known| named(known))
            || unit.starts_with("day")
            || unit == "w"
            || unit.starts_with("week")
            || unit == "wk"
            || unit.starts_with("hr"))
}

fn is_short_name(text: &str) -> bool {
    names::is_dns1123_label(text).is_empty()
}

fn is_long_name(text: &str) -> bool {
    names::is_dns1123_subdomain(text).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(name: &str, text: &str) -> bool {
        Format::of(name, Kind::String).is_some_and(|format| format.accepts(text))
    }

    #[test]
    fn texts_are_of_their_formats() {
        for (format, good, bad) in [
            ("uri", "https://example.org/a?b=c", "not a uri"),
            ("email", "a.b@example.org", "a.b"),
            ("hostname", "a.example.org", "-a.example.org"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "fd00::g"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23:45:67:89"),
            ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "A0EEBC99"),
            ("uuid4", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-3ef8-bb6d-6bb9bd380a11"),
            ("isbn", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "111-11-1111", "1111-1111"),
            ("hexcolor", "#FFF", "#FFFF"),
            ("rgbcolor", "rgb(1, 2,255)", "rgb(1,2,256)"),
            ("byte", "AQI=", "A=="),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "1h30m", "soon"),
            ("duration", "22 ns", "ns"),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15 19:30:20"),
            ("datetime", "2014-12-15T19:30:20+01:00", "2014-12-15T24:30:20Z"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "a-b", "A"),
            ("k8s-long-name", "a.b", "a..b"),
        ] {
            assert!(accepts(format, good), "{format}: {good}");
            assert!(!accepts(format, bad), "{format}: {bad}");
        }
        assert!(Format::of("unheard-of", Kind::String).is_none());
        assert!(is_known("int32", "integer") && !is_known("int32", "number") && !is_known("date", "object"));
    }
}
