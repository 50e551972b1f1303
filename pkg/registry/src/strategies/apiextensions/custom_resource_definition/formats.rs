//! Formats that are not known: they are accepted, and say nothing of values.

use std::collections::BTreeSet;

use kedge_schema::structural::is_known_format;
use serde_json::Value;

use super::form::Form;
use super::schema::Schema;

/// Warnings about formats that a definition did not have before.
pub(super) fn warnings(new: &Value, old: Option<&Value>, most: usize) -> Vec<String> {
    let had: BTreeSet<&str> = old.map(unknown).unwrap_or_default().into_iter().collect();
    let new = unknown(new).into_iter().filter(|format| !had.contains(format));
    new.map(|format| format!("unrecognized format {format:?}")).take(most).collect()
}

fn unknown(definition: &Value) -> Vec<&str> {
    let (mut seen, mut formats) = (BTreeSet::new(), Vec::new());
    Form::of(definition).any(&mut |schema| {
        if !is_known(schema) && seen.insert(schema.text("format")) {
            formats.push(schema.text("format"));
        }
        false
    });
    formats
}

fn is_known(schema: Schema<'_>) -> bool {
    let format = schema.text("format");
    format.is_empty() || is_known_format(format, schema.kind())
}
