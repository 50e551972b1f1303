//! One YAML document to a tree.
//!
//! Known difference: scalars follow YAML 1.2 (`yes` and `0644` are not a boolean and an octal number).

use super::tree::{Builder, Duplicate, TOO_DEEP};
use super::{DecodeError, Limits, MAX_DEPTH, StrictError};
use serde::de::DeserializeSeed;
use serde_json::Value;

pub fn read(bytes: &[u8], limits: &Limits) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge { limit: limits.max_bytes });
    }
    let mut builder = Builder::new(limits.max_depth.min(MAX_DEPTH), true);
    let mut documents = serde_yaml::Deserializer::from_slice(bytes);
    let value = match documents.next() {
        Some(document) => builder.seed().deserialize(document).map_err(|error| worded(&error))?,
        None => Value::Null,
    };
    // A stream that only ends in `---` has an empty second document, which does no harm.
    if let Some(second) = documents.next() {
        let second = Builder::new(MAX_DEPTH, true).seed().deserialize(second).map_err(|error| worded(&error))?;
        if !second.is_null() {
            return Err(DecodeError::SeveralDocuments);
        }
    }
    Ok((value, builder.duplicates))
}

fn worded(error: &serde_yaml::Error) -> DecodeError {
    let text = error.to_string();
    if text.contains(TOO_DEEP) || text.contains("recursion limit exceeded") {
        return DecodeError::TooDeep;
    }
    DecodeError::Yaml(format!("error converting YAML to JSON: yaml: {text}"))
}

/// All duplicate keys as the one error that upstream's YAML parser returns, with the lines found again in the text.
pub fn strict_errors(bytes: &[u8], duplicates: &[Duplicate]) -> Vec<StrictError> {
    if duplicates.is_empty() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut next_line = 0;
    let lines: Vec<String> = duplicates
        .iter()
        .map(|duplicate| {
            let key = duplicate.key();
            let line = later_line(&text, key, next_line);
            next_line = line;
            format!("  line {line}: key \"{key}\" already set in map")
        })
        .collect();
    vec![StrictError::Yaml(lines.join("\n"))]
}

/// The number of the first line after `from` that sets `key` a second time.
fn later_line(text: &str, key: &str, from: usize) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start();
        let rest = line.strip_prefix(key).or_else(|| line.trim_start_matches(['"', '\'']).strip_prefix(key));
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    let mut seen = 0;
    for (number, line) in text.lines().enumerate() {
        if sets(line) {
            seen += 1;
            if seen > 1 && number + 1 > from {
                return number + 1;
            }
        }
    }
    from.max(1)
}
