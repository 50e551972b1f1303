//! One step of the way to a field.

use std::cmp::Ordering;
use std::fmt::{self, Display, Write as _};

use serde_json::{Map, Number, Value};

/// One step of a path. The order of the variants and of what they hold is upstream's, and that of the encoded text.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field of a map.
    Field(Box<str>),
    /// The item of a list that has these fields; sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    /// The item of a set.
    Item(Value),
    /// The item of a list at a place.
    Index(i64),
}

/// Text that names no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Of a kind that a later version may know.
    #[error("unknown path element type")]
    UnknownKind,
    #[error("{0:?} is no path element")]
    Malformed(String),
}

impl Element {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads the encoded form: `f:name`, `k:{"name":"a"}`, `v:"a"` or `i:0`.
    ///
    /// # Errors
    /// What it is instead.
    pub fn decode(text: &str) -> Result<Self, ElementError> {
        let malformed = || ElementError::Malformed(text.to_owned());
        let (kind, rest) = text.split_at_checked(2).ok_or_else(malformed)?;
        match kind {
            "f:" => Ok(Self::Field(rest.into())),
            "v:" => serde_json::from_str(rest).map(Self::Item).map_err(|_| malformed()),
            "k:" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).map_err(|_| malformed())?;
                Ok(Self::Key(fields.into_iter().map(|(name, value)| (name.into(), value)).collect()))
            }
            "i:" => rest.parse().map(Self::Index).map_err(|_| malformed()),
            _ if kind.ends_with(':') => Err(ElementError::UnknownKind),
            _ => Err(malformed()),
        }
    }

    /// The encoded form.
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Item(value) => format!("v:{}", json(value)),
            Self::Index(at) => format!("i:{at}"),
            Self::Key(fields) => {
                let mut out = String::from("k:{");
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    // Writing to a string does not fail.
                    let _ = write!(out, "{comma}{}:{}", Value::from(&**name), json(value));
                }
                out.push('}');
                out
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Item(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// JSON as Go writes it, which escapes what means something in HTML.
fn json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Item(value) => write!(f, "[={}]", shown(value)),
            Self::Index(at) => write!(f, "[{at}]"),
            Self::Key(fields) => {
                f.write_char('[')?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", shown(value))?;
                }
                f.write_char(']')
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Item(a), Self::Item(b)) => compare_values(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b.iter());
                let mut orders = pairs.map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| compare_values(av, bv)));
                orders.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// Upstream's order of values: numbers, texts, booleans, lists, maps, null.
pub(crate) fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let mut orders = a.iter().zip(b).map(|(a, b)| compare_values(a, b));
            orders.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b);
            let mut orders = pairs.map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| compare_values(av, bv)));
            orders.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    let float = |n: &Number| n.as_f64().unwrap_or_default();
    let exact = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    // Large integers that are one as fractions differ all the same: what a sorted list is searched by must be an order.
    float(a).total_cmp(&float(b)).then_with(|| match (exact(a), exact(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => a.cmp(&(float(b) as i128)),
        (None, Some(b)) => (float(a) as i128).cmp(&b),
        (None, None) => Ordering::Equal,
    })
}

/// Whether two values are the same; 1 and 1.0 are.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((an, av), (bn, bv))| an == bn && same(av, bv))
        }
        _ => a == b,
    }
}
