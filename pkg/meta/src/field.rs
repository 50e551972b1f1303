//! Field paths and field errors, in upstream's wording.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// The way to a field, such as `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// Starts at a top-level field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of an object.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of a list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of a map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("<nil>") } else { f.write_str(&self.0) }
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl ErrorType {
    /// The `reason` of the cause in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal | Self::TooMany)
    }
}

/// An error at one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorType,
    pub field: String,
    pub value: Value,
    pub detail: String,
}

/// A value that is shown in the very words of its text, such as JSON in the order of Go's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoText(pub String);

/// The key under which such a text travels; no field of an object is called so.
const GO_TEXT: &str = "\0text";

impl Serialize for GoText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(GO_TEXT, &self.0)])
    }
}

/// A value that is not shown: what is wrong with it says enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Omitted;

/// The key under which that travels.
const OMITTED: &str = "\0omitted";

impl Serialize for Omitted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(OMITTED, true)])
    }
}

/// Errors in the order in which they were found.
pub type ErrorList = Vec<Error>;

impl Error {
    fn make(kind: ErrorType, path: &Path, value: impl Serialize, detail: impl Into<String>) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// A field that must be there.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::make(ErrorType::Required, path, "", detail)
    }

    /// A value that breaks a rule.
    pub fn invalid(path: &Path, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::make(ErrorType::Invalid, path, value, detail)
    }

    /// A value outside a fixed set, which is listed sorted.
    pub fn not_supported(path: &Path, value: impl Serialize, valid: &[&str]) -> Self {
        let mut valid: Vec<_> = valid.iter().map(|v| format!("{v:?}")).collect();
        valid.sort();
        let detail = if valid.is_empty() { String::new() } else { format!("supported values: {}", valid.join(", ")) };
        Self::make(ErrorType::NotSupported, path, value, detail)
    }

    /// A value outside a fixed set, which is listed as it is given.
    pub fn not_supported_of(path: &Path, value: impl Serialize, valid: &[&str]) -> Self {
        let valid: Vec<_> = valid.iter().map(|v| format!("{v:?}")).collect();
        Self::make(ErrorType::NotSupported, path, value, format!("supported values: {}", valid.join(", ")))
    }

    /// A value that must be unique.
    pub fn duplicate(path: &Path, value: impl Serialize) -> Self {
        Self::make(ErrorType::Duplicate, path, value, "")
    }

    /// A field that may not be set here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::make(ErrorType::Forbidden, path, "", detail)
    }

    /// A reference to nothing.
    pub fn not_found(path: &Path, value: impl Serialize) -> Self {
        Self::make(ErrorType::NotFound, path, value, "")
    }

    /// Text beyond `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::make(ErrorType::TooLong, path, "", format!("may not be more than {max} {unit}"))
    }

    /// A list beyond `max` elements.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::make(ErrorType::TooMany, path, actual, format!("must have at most {max} {unit}"))
    }

    /// Something that is not the client's to mend.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self { kind: ErrorType::Internal, field: path.to_string(), value: Value::Null, detail: detail.into() }
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::make(ErrorType::TypeInvalid, path, value, detail)
    }

    /// Without the field path: what a Status cause says.
    pub fn error_body(&self) -> String {
        let mut text = self.kind.title().to_owned();
        match self.kind {
            ErrorType::TooMany => text.push_str(&format!(": {}", self.value)),
            kind if kind.shows_value() && self.value.get(OMITTED).is_none() => {
                text.push_str(&format!(": {}", go_value(&self.value)))
            }
            _ => {}
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.error_body())
    }
}

/// Strings are quoted as Go quotes them, numbers stand bare, the rest is JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        Value::Null => "null".into(),
        Value::Object(map) if map.len() == 1 && map.contains_key(GO_TEXT) => {
            map.get(GO_TEXT).and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let path = Path::new("spec").child("ports").index(1).child("protocol");
        assert_eq!(
            Error::not_supported(&path, "TCPP", &["UDP", "TCP", "SCTP"]).to_string(),
            "spec.ports[1].protocol: Unsupported value: \"TCPP\": supported values: \"SCTP\", \"TCP\", \"UDP\""
        );
        assert_eq!(Error::duplicate(&path, "a").to_string(), "spec.ports[1].protocol: Duplicate value: \"a\"");
        assert_eq!(
            Error::invalid(&path, -1, "too low").to_string(),
            "spec.ports[1].protocol: Invalid value: -1: too low"
        );
        assert_eq!(Error::too_long(&Path::new("a"), 63).to_string(), "a: Too long: may not be more than 63 bytes");
        assert_eq!(Error::required(&Path::new("a").key("b"), "").to_string(), "a[b]: Required value");
    }
}
