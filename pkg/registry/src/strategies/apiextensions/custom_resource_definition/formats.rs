//! Formats that are not known: they are accepted, and say nothing of values.

use serde_json::Value;

use super::form::Form;
use super::schema::Schema;

/// Formats of texts, without dashes.
const FORMATS: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Warnings about formats that a definition did not have before.
pub(super) fn warnings(new: &Value, old: Option<&Value>, most: usize) -> Vec<String> {
    let had = old.map(unknown).unwrap_or_default();
    let new = unknown(new).into_iter().filter(|format| !had.contains(format));
    new.map(|format| format!("unrecognized format {format:?}")).take(most).collect()
}

fn unknown(definition: &Value) -> Vec<&str> {
    let mut formats = Vec::new();
    Form::of(definition).any(&mut |schema| {
        if !is_known(schema) && !formats.contains(&schema.text("format")) {
            formats.push(schema.text("format"));
        }
        false
    });
    formats
}

fn is_known(schema: Schema<'_>) -> bool {
    let format = schema.text("format");
    match schema.kind() {
        _ if format.is_empty() => true,
        "" | "string" => FORMATS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}
