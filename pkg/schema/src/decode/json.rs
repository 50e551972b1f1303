//! JSON bytes to a tree, with the parser's complaints worded as Go's are.

use super::tree::{Builder, Duplicate, TOO_DEEP};
use super::{DecodeError, Limits, MAX_DEPTH};
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_json::error::Category;

pub fn read(bytes: &[u8], limits: &Limits) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge { limit: limits.max_bytes });
    }
    let mut builder = Builder::new(limits.max_depth.min(MAX_DEPTH));
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = builder.seed().deserialize(&mut deserializer).map_err(|error| worded(bytes, &error, false))?;
    deserializer.end().map_err(|error| worded(bytes, &error, true))?;
    Ok((value, builder.duplicates))
}

fn worded(bytes: &[u8], error: &serde_json::Error, trailing: bool) -> DecodeError {
    let text = error.to_string();
    if text.starts_with(TOO_DEEP) || text.starts_with("recursion limit exceeded") {
        return DecodeError::TooDeep;
    }
    if error.classify() == Category::Eof {
        return DecodeError::Json("unexpected end of JSON input".into());
    }
    let Some(character) = character_at(bytes, error.line(), error.column()) else {
        return DecodeError::Json(text);
    };
    let quoted = match character {
        '\'' => r"'\''".to_string(),
        '"' => "'\"'".to_string(),
        other => format!("'{}'", other.escape_debug()),
    };
    let place = if trailing {
        "after top-level value"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if text.starts_with("control character") || text.starts_with("invalid unicode") {
        "in string literal"
    } else if text.starts_with("invalid escape") {
        "in string escape code"
    } else if text.starts_with("trailing comma") {
        if character == ']' { "looking for beginning of value" } else { "looking for beginning of object key string" }
    } else {
        "looking for beginning of value"
    };
    DecodeError::Json(format!("invalid character {quoted} {place}"))
}

/// The character at a position as the parser counts: lines from 1, columns in bytes, 1 for the first.
fn character_at(bytes: &[u8], line: usize, column: usize) -> Option<char> {
    let line = bytes.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
    let rest = line.get(column.checked_sub(1)?..)?;
    let rest = rest.get(..rest.len().min(4))?;
    match std::str::from_utf8(rest) {
        Ok(text) => text.chars().next(),
        Err(error) => std::str::from_utf8(rest.get(..error.valid_up_to())?).ok()?.chars().next(),
    }
}
