//! `'…'.format([…])`: clauses, what they show, and looking at literals before.

use std::fmt::Write as _;

use crate::ast::{Id, Kind};
use crate::check::CheckedAst;
use crate::context::Context;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{List, Map, Value, convert, quote};

/// Nobody reads more digits, or wants wider columns.
const MAX_PRECISION: usize = 1000;
const DEFAULT_PRECISION: usize = 6;

#[derive(Debug, Clone, Copy)]
enum Clause {
    String,
    Decimal,
    Fixed(usize),
    /// With a width, which upstream takes a precision for.
    Scientific(usize),
    Binary,
    Hex(bool),
    Octal,
}

/// A part of a format.
enum Part<'f> {
    Text(&'f str),
    Percent,
    Clause(Clause),
}

/// The next part of a format. `argument` says whether there is one for a clause, before the clause is read.
fn next<'f>(rest: &mut &'f str, argument: &mut dyn FnMut() -> Result<(), String>) -> Result<Option<Part<'f>>, String> {
    let Some(at) = rest.find('%') else {
        let text = std::mem::take(rest);
        return Ok((!text.is_empty()).then_some(Part::Text(text)));
    };
    if at > 0 {
        let (text, after) = rest.split_at(at);
        *rest = after;
        return Ok(Some(Part::Text(text)));
    }
    if let Some(after) = rest.strip_prefix("%%") {
        *rest = after;
        return Ok(Some(Part::Percent));
    }
    argument()?;
    let clause = &rest[1..];
    if clause.is_empty() {
        return Err("unexpected end of string".to_owned());
    }
    let (clause, after) = read_clause(clause).map_err(|why| format!("could not parse formatting clause: {why}"))?;
    *rest = after;
    Ok(Some(Part::Clause(clause)))
}

fn read_clause(text: &str) -> Result<(Clause, &str), String> {
    let (precision, rest) = match text.strip_prefix('.') {
        None => (DEFAULT_PRECISION, text),
        Some(rest) => {
            let length = rest.find(|c: char| !c.is_ascii_digit());
            let length = length.ok_or("error while parsing precision: could not find end of precision specifier")?;
            let (digits, rest) = rest.split_at(length);
            let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
            let wrong = |_| {
                format!(
                    "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {}: {why}",
                    quote(digits)
                )
            };
            let number: i64 = digits.parse().map_err(wrong)?;
            (usize::try_from(number).unwrap_or(0).min(MAX_PRECISION), rest)
        }
    };
    let clause = match rest.as_bytes().first() {
        Some(b's') => Clause::String,
        Some(b'd') => Clause::Decimal,
        Some(b'f') => Clause::Fixed(precision),
        Some(b'e') => Clause::Scientific(precision),
        Some(b'b') => Clause::Binary,
        Some(b'x') => Clause::Hex(false),
        Some(b'X') => Clause::Hex(true),
        Some(b'o') => Clause::Octal,
        other => {
            return Err(format!(
                "unrecognized formatting clause \"{}\"",
                char::from(other.copied().unwrap_or_default())
            ));
        }
    };
    Ok((clause, &rest[1..]))
}

impl Clause {
    /// What is said of a type that it cannot show.
    fn refuses(self, of: &str) -> String {
        let only = match self {
            Self::String => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific(_) => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex(_) => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("{only}, was given {of}")
    }

    /// Whether values of a type can be shown, as far as the type says.
    fn takes(self, of: &Type) -> bool {
        use Type::{Bool, Bytes, Double, Dyn, Int, String, Uint};
        match self {
            _ if *of == Dyn => true,
            Self::String => !matches!(of, Type::Any | Type::Object(_) | Type::Opaque(..) | Type::Error),
            Self::Decimal | Self::Octal => matches!(of, Int | Uint),
            Self::Fixed(_) | Self::Scientific(_) => matches!(of, Double | String),
            Self::Binary => matches!(of, Int | Uint | Bool),
            Self::Hex(_) => matches!(of, Int | Uint | String | Bytes),
        }
    }

    fn show(self, value: &Value<'_>) -> Result<String, String> {
        Ok(match (self, value) {
            (Self::String, value) => return show_string(value),
            (Self::Decimal, Value::Int(it)) => it.to_string(),
            (Self::Decimal, Value::Uint(it)) => it.to_string(),
            (Self::Fixed(precision), value) => {
                fixed(number(value).ok_or_else(|| self.refuses(&value.type_name()))?, precision)
            }
            (Self::Scientific(width), value) => {
                scientific(number(value).ok_or_else(|| self.refuses(&value.type_name()))?, width)
            }
            (Self::Binary, Value::Int(it)) => signed(*it, |n| format!("{n:b}")),
            (Self::Binary, Value::Uint(it)) => format!("{it:b}"),
            (Self::Binary, Value::Bool(it)) => u8::from(*it).to_string(),
            (Self::Octal, Value::Int(it)) => signed(*it, |n| format!("{n:o}")),
            (Self::Octal, Value::Uint(it)) => format!("{it:o}"),
            (Self::Hex(upper), value) => {
                let shown = hex(value).ok_or_else(|| self.refuses(&value.type_name()))?;
                if upper { shown.to_uppercase() } else { shown }
            }
            (clause, other) => return Err(clause.refuses(&other.type_name())),
        })
    }
}

/// Shows values as a format says.
pub(super) fn format(context: &mut Context<'_>, text: &str, list: &List<'_>) -> Result<String, EvalError> {
    let (mut rest, mut used, mut out) = (text, 0, String::with_capacity(text.len()));
    let length = list.len();
    loop {
        let mut there = || if used < length { Ok(()) } else { Err(format!("index {used} out of range")) };
        match next(&mut rest, &mut there).map_err(EvalError::new)? {
            None => return Ok(out),
            Some(Part::Text(text)) => out.push_str(text),
            Some(Part::Percent) => out.push('%'),
            Some(Part::Clause(clause)) => {
                let value = list.get(used).unwrap_or(Ok(Value::Null))?;
                let shown =
                    clause.show(&value).map_err(|why| EvalError::new(format!("error during formatting: {why}")))?;
                context.text(shown.len())?;
                out.push_str(&shown);
                used += 1;
            }
        }
    }
}

/// Looks at a format whose values are a literal list; says how many it uses.
pub(crate) fn validate_format(
    text: &str,
    checked: &CheckedAst,
    elements: &[Id],
) -> Result<usize, (Option<Id>, String)> {
    let (mut rest, mut used) = (text, 0);
    loop {
        let mut there = || Ok(());
        // Upstream looks for the end of the text before it looks for the value.
        if used >= elements.len() && rest.starts_with('%') && !rest.starts_with("%%") && rest.len() > 1 {
            return Err((None, format!("index {used} out of range")));
        }
        match next(&mut rest, &mut there).map_err(|why| (None, why))? {
            None => return Ok(used),
            Some(Part::Clause(clause)) => {
                let Some(element) = elements.get(used) else {
                    return Err((None, format!("index {used} out of range")));
                };
                if let Err(bad) = verify(clause, checked, *element) {
                    let name = checked.type_of(bad).runtime_name();
                    return Err((Some(bad), format!("error during formatting: {}", clause.refuses(name))));
                }
                used += 1;
            }
            Some(_) => {}
        }
    }
}

/// Whether a clause can show an expression, and what is in it if that is a literal.
fn verify(clause: Clause, checked: &CheckedAst, id: Id) -> Result<(), Id> {
    if !clause.takes(checked.type_of(id)) {
        return Err(id);
    }
    if !matches!(clause, Clause::String) {
        return Ok(());
    }
    match checked.ast.kind(id) {
        Kind::List { elements, .. } => elements.iter().try_for_each(|element| verify(clause, checked, *element)),
        Kind::Map(entries) => entries.iter().try_for_each(|entry| {
            verify(clause, checked, entry.key)?;
            verify(clause, checked, entry.value)
        }),
        _ => Ok(()),
    }
}

fn signed(number: i64, show: fn(u64) -> String) -> String {
    let shown = show(number.unsigned_abs());
    if number < 0 { format!("-{shown}") } else { shown }
}

fn hex(value: &Value<'_>) -> Option<String> {
    let bytes = |bytes: &[u8]| {
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
    };
    Some(match value {
        Value::Int(it) => signed(*it, |n| format!("{n:x}")),
        Value::Uint(it) => format!("{it:x}"),
        Value::String(it) => bytes(it.as_bytes()),
        Value::Bytes(it) => bytes(it),
        _ => return None,
    })
}

/// A double, or one of the texts that stand for what is no finite one.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(it) => Some(*it),
        Value::String(it) => match &**it {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn special(number: f64) -> Option<&'static str> {
    match number {
        n if n.is_nan() => Some("NaN"),
        f64::INFINITY => Some("∞"),
        f64::NEG_INFINITY => Some("-∞"),
        _ => None,
    }
}

/// With commas between thousands.
fn fixed(number: f64, precision: usize) -> String {
    if let Some(text) = special(number) {
        return text.to_owned();
    }
    let shown = format!("{number:.precision$}");
    let (sign, digits) = shown.strip_prefix('-').map_or(("", shown.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = String::from(sign);
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// With powers of ten written small.
fn scientific(number: f64, width: usize) -> String {
    const SMALL: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let shown = match special(number) {
        Some(text) => text.to_owned(),
        None => {
            let shown = crate::value::exponential(number, DEFAULT_PRECISION);
            let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "+00"));
            let small: String = exponent
                .chars()
                .filter_map(|c| match c {
                    '-' => Some('⁻'),
                    c => c.to_digit(10).and_then(|digit| SMALL.get(digit as usize).copied()),
                })
                .collect();
            format!("{mantissa}×10{small}")
        }
    };
    format!("{shown:>width$}")
}

fn show_string(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::List(list) => show_list(list),
        Value::Map(map) => show_map(map),
        Value::Null => Ok("null".to_owned()),
        Value::Optional(_) | Value::Struct(_) | Value::Opaque(_) | Value::Hidden(_) => {
            Err(Clause::String.refuses(&value.type_name()))
        }
        value => match convert(value, &Type::String) {
            Ok(Value::String(text)) => Ok(text.to_string()),
            Ok(_) => Err(Clause::String.refuses(&value.type_name())),
            Err(error) => Err(format!("could not convert argument {} to string", quote(&error.to_string()))),
        },
    }
}

fn show_list(list: &List<'_>) -> Result<String, String> {
    let elements = list.iter().map(|element| show_inner(&element.map_err(|error| error.to_string())?));
    Ok(format!("[{}]", elements.collect::<Result<Vec<_>, String>>()?.join(", ")))
}

fn show_map(map: &Map<'_>) -> Result<String, String> {
    let mut entries = Vec::with_capacity(map.len());
    for (key, value) in map.entries() {
        let shown = match &key {
            Value::String(text) => quote(text),
            Value::Bool(it) => it.to_string(),
            Value::Int(it) => it.to_string(),
            Value::Uint(it) => it.to_string(),
            other => return Err(format!("no formatting function for map key of type {}", other.type_name())),
        };
        entries.push((shown, show_inner(&value.map_err(|error| error.to_string())?)?));
    }
    entries.sort();
    let entries: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", entries.join(", ")))
}

/// What is in a list or a map is shown so that one sees what it is.
fn show_inner(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => quote(text),
        Value::Bytes(_) => format!("b{}", quote(&show_string(value)?)),
        Value::Double(it) if !it.is_finite() => quote(match it {
            n if n.is_nan() => "NaN",
            n if *n > 0.0 => "+Inf",
            _ => "-Inf",
        }),
        Value::Double(it) => format!("{it:.6}"),
        Value::Timestamp(_) => format!("timestamp({})", quote(&show_string(value)?)),
        Value::Duration(_) => format!("duration({})", quote(&show_string(value)?)),
        Value::Optional(_) | Value::Struct(_) | Value::Opaque(_) | Value::Hidden(_) => {
            return Err(format!("no formatting function for {}", value.type_name()));
        }
        other => show_string(other)?,
    })
}
