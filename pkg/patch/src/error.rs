//! What can be wrong with a patch. Texts are upstream's.

use std::borrow::Cow;

use serde_json::Value;

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// Too many JSON patch operations.
    #[error("The allowed maximum operations in a JSON patch is {limit}, got {count}")]
    TooManyOperations { limit: usize, count: usize },
    /// The patch is well-formed and does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
    /// A test in it fails.
    #[error("{0}")]
    TestFailed(String),
    /// The patch and the type of the object do not go together.
    #[error("{0}")]
    Inconsistent(String),
}

impl PatchError {
    /// The HTTP status that upstream answers with.
    pub fn status_code(&self) -> u16 {
        match self {
            PatchError::Malformed(_) => 400,
            PatchError::TooManyOperations { .. } => 413,
            PatchError::DoesNotApply(_) | PatchError::TestFailed(_) => 422,
            PatchError::Inconsistent(_) => 500,
        }
    }
}

/// Prints a tree as JSON as Go does.
pub fn go_json(value: &Value) -> String {
    without_html(&value.to_string()).into_owned()
}

/// JSON in which what means something in HTML is escaped, as Go writes it: these letters are only found in texts.
pub fn without_html(json: &str) -> Cow<'_, str> {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return Cow::Borrowed(json);
    }
    let escaped = json.chars().fold(String::with_capacity(json.len() + 16), |mut out, letter| {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
        out
    });
    Cow::Owned(escaped)
}

/// Prints a tree as Go's `%v` does.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

/// The name of a tree's Go type.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
