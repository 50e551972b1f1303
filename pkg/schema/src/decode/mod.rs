//! From bytes to a checked tree: limits on size and nesting, duplicate keys, then the walk against the table.
//! Invariant: no input makes this panic or recurse deeper than [`Limits::max_depth`].

mod json;
mod order;
mod scalar;
mod tree;
mod yaml;

use crate::conform::{TypeError, conform};
use crate::table::{FieldType, TypeId};
pub(crate) use scalar::is_plain_text;
use serde_json::Value;
use std::fmt;
pub(crate) use tree::push_key;
use tree::{Duplicate, Segment};

/// What a body may weigh.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub max_bytes: usize,
    /// Arrays and objects inside one another. More than 120 is taken as 120: what is decoded once must stay
    /// decodable inside a list or a watch event, and the JSON parser stops at 128.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_bytes: 3 * 1024 * 1024, max_depth: MAX_DEPTH }
    }
}

/// How many arrays and objects may be inside one another in an object, wherever it comes from.
pub const MAX_DEPTH: usize = 120;
/// Upstream stops counting strict errors here.
const MAX_STRICT_ERRORS: usize = 100;

/// The two encodings of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// A body that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Bytes over the limit; the server answers 413.
    #[error("limit is {limit}")]
    TooLarge { limit: usize },
    #[error("exceeded max depth")]
    TooDeep,
    /// Malformed JSON, worded as upstream's parser does for the usual cases.
    #[error("{0}")]
    Json(String),
    /// Malformed YAML.
    #[error("{0}")]
    Yaml(String),
    /// Well-formed, but not of the expected type.
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// Something that only strict field validation objects to. The text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StrictError {
    UnknownField(String),
    DuplicateField(String),
    /// A key given twice in YAML.
    Yaml(String),
}

impl StrictError {
    fn path(&self) -> &str {
        match self {
            StrictError::UnknownField(path) | StrictError::DuplicateField(path) | StrictError::Yaml(path) => path,
        }
    }
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrictError::UnknownField(path) => write!(f, "unknown field {path:?}"),
            StrictError::DuplicateField(path) => write!(f, "duplicate field {path:?}"),
            StrictError::Yaml(text) => write!(f, "yaml: unmarshal errors:\n{text}"),
        }
    }
}

/// A decoded tree and what strict validation would say about it.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    pub value: Value,
    pub strict: Vec<StrictError>,
}

/// Whether more than `limit` arrays and objects are inside one another. It recurses no deeper than that.
pub fn is_deeper_than(value: &Value, limit: usize) -> bool {
    let is_below = |inner: &Value| is_deeper_than(inner, limit.saturating_sub(1));
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(is_below),
        Value::Object(map) => limit == 0 || map.values().any(is_below),
        _ => false,
    }
}

/// Joins strict errors as upstream does: `strict decoding error: unknown field "a", duplicate field "b"`.
pub fn strict_message(errors: &[StrictError]) -> String {
    let errors: Vec<String> = errors.iter().map(StrictError::to_string).collect();
    format!("strict decoding error: {}", errors.join(", "))
}

/// Reads JSON without a type; every duplicate key is reported. This is how custom resources and patches are read.
///
/// # Errors
/// [`DecodeError`]: limits and syntax.
pub fn decode_json(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = json::read(bytes, limits)?;
    Ok(Decoded { value, strict: json_errors(&duplicates) })
}

/// Reads the first YAML document without a type.
///
/// # Errors
/// [`DecodeError`]: limits, syntax.
pub fn decode_yaml(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = yaml::read(bytes, limits)?;
    Ok(Decoded { value, strict: yaml::strict_errors(bytes, &duplicates) })
}

/// Reads an object of a built-in type: decodes, walks it against the table, and puts the strict errors in the order of
/// the document. With `ty` absent this is [`decode_json`] or [`decode_yaml`].
///
/// # Errors
/// [`DecodeError`]: limits, syntax, and values of the wrong type.
pub fn decode_object(
    format: Format,
    bytes: &[u8],
    ty: Option<TypeId>,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let (mut value, duplicates) = match format {
        Format::Json => json::read(bytes, limits)?,
        Format::Yaml => yaml::read(bytes, limits)?,
    };
    let Some(ty) = ty else {
        let strict = match format {
            Format::Json => json_errors(&duplicates),
            Format::Yaml => yaml::strict_errors(bytes, &duplicates),
        };
        return Ok(Decoded { value, strict });
    };
    let mut strict = Vec::new();
    if format == Format::Yaml {
        strict = yaml::strict_errors(bytes, &duplicates);
    } else {
        let seen: Vec<Duplicate> = duplicates.into_iter().filter(|found| is_walked(ty, found)).collect();
        strict.extend(json_errors(&seen));
    }
    conform(ty, &mut value, &mut strict)?;
    if format == Format::Json && strict.len() > 1 {
        order::sort_by_document(bytes, &mut strict);
    }
    strict.truncate(MAX_STRICT_ERRORS);
    Ok(Decoded { value, strict })
}

fn json_errors(duplicates: &[Duplicate]) -> Vec<StrictError> {
    let mut errors: Vec<StrictError> = Vec::new();
    for duplicate in duplicates {
        let error = StrictError::DuplicateField(duplicate.path());
        if errors.len() < MAX_STRICT_ERRORS && !errors.contains(&error) {
            errors.push(error);
        }
    }
    errors
}

/// Whether the typed decoder looks at this place at all: not below unknown fields, not inside opaque values.
fn is_walked(ty: TypeId, duplicate: &Duplicate) -> bool {
    let mut at = FieldType::Object(ty);
    for segment in duplicate.segments() {
        at = match (at, segment) {
            (FieldType::Object(id), Segment::Key(key)) => match id.def().field(key) {
                Some(field) => field.ty,
                None => return false,
            },
            (FieldType::Map(inner), Segment::Key(_)) | (FieldType::List(inner), Segment::Index(_)) => *inner,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::kind;

    fn pod(text: &str) -> Result<Decoded, DecodeError> {
        decode_object(Format::Json, text.as_bytes(), kind("", "v1", "Pod"), &Limits::default())
    }

    #[test]
    fn strict_errors_come_in_the_order_of_the_document() {
        let decoded = pod(r#"{"zzz":1,"metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}},
                "spec":{"containers":[{"name":"c","foo":{"a":1,"a":2}}]},"aaa":2}"#)
        .unwrap();
        assert_eq!(
            strict_message(&decoded.strict),
            "strict decoding error: unknown field \"zzz\", duplicate field \"metadata.name\", \
             duplicate field \"metadata.labels.x\", unknown field \"spec.containers[0].foo\", unknown field \"aaa\""
        );
        assert_eq!(decoded.value["metadata"]["name"], "b");
        assert!(decoded.value.get("zzz").is_none());
    }

    #[test]
    fn limits_hold() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(decode_json(deep.as_bytes(), &Limits::default()), Err(DecodeError::TooDeep)));
        assert!(matches!(
            decode_yaml(deep.as_bytes(), &Limits::default()),
            Err(DecodeError::TooDeep | DecodeError::Yaml(_))
        ));
        let small = Limits { max_bytes: 3, max_depth: 5 };
        assert!(matches!(decode_json(b"[1,2]", &small), Err(DecodeError::TooLarge { limit: 3 })));
    }

    /// Without `float_roundtrip` of serde_json one in ten fractions with all their digits was off by one in the last of them, and again whenever it was
    /// read from the store: `423.20917087271323` drifted away with each update of an object.
    #[test]
    fn fractions_are_read_to_their_last_digit() {
        for text in ["423.20917087271323", "31.245270191439438", "1.2222222222222223e+51", "5e-324", "0.1"] {
            let exact: f64 = text.parse().unwrap();
            for read in [decode_json, decode_yaml] {
                let value = read(text.as_bytes(), &Limits::default()).unwrap().value;
                assert_eq!(value.as_f64(), Some(exact), "{text}");
                let again = read(value.to_string().as_bytes(), &Limits::default()).unwrap().value;
                assert_eq!(again, value, "{text}");
            }
        }
    }

    #[test]
    fn depth_is_counted_as_the_decoders_count_it() {
        for depth in [0, 1, 2, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1] {
            let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(!is_deeper_than(&value, depth), "{depth}");
            assert!(depth == 0 || is_deeper_than(&value, depth - 1), "{depth}");
            let is_read = decode_json(text.as_bytes(), &Limits::default()).is_ok();
            assert_eq!(is_read, !is_deeper_than(&value, MAX_DEPTH), "{depth}");
        }
    }

    #[test]
    fn syntax_errors_read_like_upstreams() {
        let message = |text: &str| decode_json(text.as_bytes(), &Limits::default()).unwrap_err().to_string();
        assert_eq!(message("{"), "unexpected end of JSON input");
        assert_eq!(message("x"), "invalid character 'x' looking for beginning of value");
        assert_eq!(message("{} x"), "invalid character 'x' after top-level value");
    }

    #[test]
    fn yaml_reads_like_json() {
        let text = "a: 1\nb: [x, 'y']\n1: true\nc: &k {d: 2}\ne:\n  <<: *k\n  f: 3\na: 4\n";
        let decoded = decode_yaml(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(
            decoded.value,
            serde_json::json!({"a": 4, "b": ["x", "y"], "1": true, "c": {"d": 2}, "e": {"d": 2, "f": 3}})
        );
        assert_eq!(decoded.strict[0].to_string(), "yaml: unmarshal errors:\n  line 8: key \"a\" already set in map");
        let several = decode_yaml(b"a: 1\n---\nb: 2\n", &Limits::default()).unwrap();
        assert_eq!(several.value, serde_json::json!({"a": 1}), "as a stock server reads it");
    }

    #[test]
    fn type_errors_read_like_upstreams() {
        let error = |text: &str| pod(text).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"spec":{"containers":"x"}}"#),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"
        );
        assert_eq!(
            error(r#"{"spec":{"containers":[{"image":5}]}}"#),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
        );
        assert_eq!(
            error(r#"{"metadata":{"labels":{"a":1}}}"#),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
        );
        assert_eq!(
            error(r#"{"spec":{"priority":3000000000}}"#),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32"
        );
        assert_eq!(
            error(r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        );
    }
}
