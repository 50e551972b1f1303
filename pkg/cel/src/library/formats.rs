//! Named formats.

use kedge_meta::names;

use crate::error::EvalError;
use crate::functions::Functions;
use crate::url;
use crate::value::{Evaluated, Opaque, Value, parse_date};

struct Format {
    /// What expressions call it.
    id: &'static str,
    function: &'static str,
    signature: &'static str,
    /// The length of the expression that it is estimated as.
    regex: u64,
    complaints: fn(&str) -> Vec<String>,
}

macro_rules! format {
    ($name:literal, $regex:literal, $complaints:expr) => {
        Format {
            id: $name,
            function: concat!("format.", $name),
            signature: concat!("format.", $name, "() -> kubernetes.NamedFormat"),
            regex: $regex,
            complaints: $complaints,
        }
    };
}

const FORMATS: &[Format] = &[
    format!("dns1123Label", 30, names::is_dns1123_label),
    format!("dns1123Subdomain", 60, names::is_dns1123_subdomain),
    format!("dns1035Label", 30, names::is_dns1035_label),
    format!("qualifiedName", 60, names::is_qualified_name),
    format!("dns1123LabelPrefix", 30, |text| names::is_dns1123_label(&without_dash(text))),
    format!("dns1123SubdomainPrefix", 60, |text| names::is_dns1123_subdomain(&without_dash(text))),
    format!("dns1035LabelPrefix", 30, |text| names::is_dns1035_label(&without_dash(text))),
    format!("labelValue", 40, names::is_valid_label_value),
    format!("uri", 1103, |text| url::parse_request_uri(text).err().into_iter().collect()),
    format!("uuid", 70, |text| unless(is_uuid(text), "does not match the UUID format")),
    format!("byte", 84, |text| unless(is_base64(text), "invalid base64")),
    format!("date", 71, |text| unless(parse_date(text).is_some(), "invalid date")),
    format!("datetime", 71, |text| unless(is_datetime(text), "invalid datetime")),
];

/// The length of the expression that a format is estimated as.
pub(crate) fn regex_size(name: &str) -> u64 {
    find(name).map_or(0, |format| format.regex)
}

fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.id == name)
}

pub(super) fn declare(functions: &mut Functions) {
    functions.declare(
        "format-validate",
        "kubernetes.NamedFormat.validate(string) -> optional<list<string>>",
        |_, args| {
            let [Value::Opaque(format), Value::String(text)] = args else { return Err(EvalError::no_such_overload()) };
            let Opaque::Format(name) = &**format else { return Err(EvalError::no_such_overload()) };
            let Some(format) = find(name) else { return Err(EvalError::no_such_overload()) };
            let complaints = (format.complaints)(text);
            if complaints.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(complaints.into_iter().map(Value::string).collect())))
        },
    );
    functions.declare(
        "format-named",
        "format.named(string) -> optional<kubernetes.NamedFormat>",
        |_, args| match args {
            [Value::String(name)] => {
                Ok(Value::Optional(find(name).map(|format| std::sync::Arc::new(value(format.id)))))
            }
            _ => Err(EvalError::no_such_overload()),
        },
    );
    constants(functions);
}

fn value<'a>(name: &'static str) -> Value<'a> {
    Value::opaque(Opaque::Format(name))
}

/// A function without arguments for each format.
fn constants(functions: &mut Functions) {
    macro_rules! constant {
        ($($name:literal),*) => {
            $(if let Some(format) = find($name) {
                let implementation: crate::functions::Implementation = |_, _| constant($name);
                functions.declare(format.function, format.signature, implementation);
            })*
        };
    }
    constant!(
        "dns1123Label",
        "dns1123Subdomain",
        "dns1035Label",
        "qualifiedName",
        "dns1123LabelPrefix",
        "dns1123SubdomainPrefix",
        "dns1035LabelPrefix",
        "labelValue",
        "uri",
        "uuid",
        "byte",
        "date",
        "datetime"
    );
}

fn constant<'a>(name: &'static str) -> Evaluated<'a> {
    Ok(value(name))
}

fn unless(good: bool, complaint: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![complaint.to_owned()] }
}

/// What a prefix may end with that a name may not.
fn without_dash(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked + "a"
        }
        _ => text.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (n, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if n > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.split_at_checked(length) {
            Some((part, after)) if part.bytes().all(|b| b.is_ascii_hexdigit()) => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn is_datetime(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, rest)) = lower.split_once('t') else { return false };
    let time = rest.split('t').next().unwrap_or_default();
    let digits = |part: Option<&str>, most: &str| {
        part.is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()) && part <= most)
    };
    let colons = time.get(2..3) == Some(":") && time.get(5..6) == Some(":");
    if parse_date(date).is_none()
        || !colons
        || !digits(time.get(..2), "23")
        || !digits(time.get(3..5), "59")
        || !digits(time.get(6..8), "59")
    {
        return false;
    }
    let after = time.get(8..).unwrap_or_default();
    // A fraction begins with any one character, as upstream's expression has it.
    let count = after.chars().skip(1).take_while(char::is_ascii_digit).count();
    let first = after.chars().next().map_or(0, char::len_utf8);
    [after, after.get(if count > 0 { first + count } else { 0 }..).unwrap_or_default()].into_iter().any(is_zone)
}

fn is_zone(text: &str) -> bool {
    let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    text == "z"
        || (text.len() == 6
            && text.starts_with(['+', '-'])
            && text.get(3..4) == Some(":")
            && digits(text.get(1..3))
            && digits(text.get(4..6)))
}
