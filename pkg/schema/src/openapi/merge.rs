//! OpenAPI v2 documents of several servers become one.
//!
//! By upstream's rules: the first to describe a path describes it; a definition of a name that another document has with other content gets
//! another name, in its own document alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

const REFERENCE: &str = "#/definitions/";

/// Values by name, as they are written: a document may have megabytes, and as trees many times that.
type Section = BTreeMap<String, Box<RawValue>>;

/// What is read of a document.
#[derive(Default, Deserialize, Serialize)]
struct Part {
    #[serde(default)]
    paths: Section,
    #[serde(default)]
    definitions: Section,
}

/// What a document says of the paths that begin with `prefix`, with the definitions that it needs for that.
///
/// # Errors
/// When it is no such document.
pub fn part_of_v2(document: &[u8], prefix: &str) -> Result<String, serde_json::Error> {
    let mut all: Part = serde_json::from_slice(document)?;
    let mut part = Part::default();
    let mut open = Vec::new();
    for (path, raw) in all.paths.into_iter().filter(|(path, _)| path.starts_with(prefix)) {
        references(&serde_json::from_str(raw.get())?, &mut open);
        part.paths.insert(path, raw);
    }
    while let Some(name) = open.pop() {
        // What has been taken is not there any more.
        if let Some(raw) = all.definitions.remove(&name) {
            references(&serde_json::from_str(raw.get())?, &mut open);
            part.definitions.insert(name, raw);
        }
    }
    serde_json::to_string(&part)
}

/// The names of the definitions that a value refers to.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix(REFERENCE)) {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(at)) = map.get_mut("$ref")
                && let Some(new) = at.strip_prefix(REFERENCE).and_then(|name| names.get(name))
            {
                *at = format!("{REFERENCE}{new}");
            }
            map.values_mut().for_each(|value| rename(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

/// The value with new names in its references; the same, unread, where it has none of them.
fn renamed(raw: Box<RawValue>, names: &BTreeMap<String, String>) -> Box<RawValue> {
    // A name may be written with escapes, which is no text to look for.
    if names.is_empty() || !raw.get().contains("$ref") && !raw.get().contains('\\') {
        return raw;
    }
    let Ok(mut value) = serde_json::from_str(raw.get()) else { return raw };
    rename(&mut value, names);
    serde_json::value::to_raw_value(&value).unwrap_or(raw)
}

/// A document with the parts of others. A part that cannot be read is left out.
pub(super) fn merged(own: Vec<u8>, parts: &[&str]) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Section>(&own) else { return own };
    let section = |document: &Section, name: &str| {
        let raw = document.get(name).map(|raw| raw.get()).unwrap_or("{}");
        serde_json::from_str::<Section>(raw).unwrap_or_default()
    };
    let (mut paths, mut definitions) = (section(&document, "paths"), section(&document, "definitions"));
    for part in parts.iter().filter_map(|part| serde_json::from_str::<Part>(part).ok()) {
        add(&mut paths, &mut definitions, part);
    }
    for (name, section) in [("paths", &paths), ("definitions", &definitions)] {
        if let Ok(raw) = serde_json::value::to_raw_value(section) {
            document.insert(name.to_owned(), raw);
        }
    }
    serde_json::to_vec(&document).unwrap_or(own)
}

/// Whether two texts say the same.
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    one.get() == other.get() || read(one).is_some_and(|one| Some(one) == read(other))
}

fn add(paths: &mut Section, definitions: &mut Section, part: Part) {
    let Part { paths: new_paths, definitions: new } = part;
    let mut names = BTreeMap::new();
    for (name, raw) in &new {
        if definitions.get(name).is_some_and(|taken| !is_same(taken, raw)) {
            let free = (2..).map(|n| format!("{name}_v{n}"));
            let free = free.into_iter().find(|name| !definitions.contains_key(name) && !new.contains_key(name));
            names.extend(free.map(|free| (name.clone(), free)));
        }
    }
    for (path, raw) in new_paths {
        paths.entry(path).or_insert_with(|| renamed(raw, &names));
    }
    for (name, raw) in new {
        let raw = renamed(raw, &names);
        definitions.entry(names.get(&name).cloned().unwrap_or(name)).or_insert(raw);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_has_what_it_needs_and_no_more() {
        let document = json!({"swagger": "2.0",
            "paths": {"/apis/g/v1/w": {"get": {"schema": {"$ref": "#/definitions/W"}}}, "/apis/": {"get": {"$ref": "#/definitions/X"}}},
            "definitions": {"W": {"p": [{"$ref": "#/definitions/P"}, {"$ref": "#/definitions/W"}]}, "P": {}, "X": {}}});
        let part = part_of_v2(document.to_string().as_bytes(), "/apis/g/v1/").unwrap();
        let part: Part = serde_json::from_str(&part).unwrap();
        assert_eq!(part.paths.keys().collect::<Vec<_>>(), ["/apis/g/v1/w"]);
        assert_eq!(part.definitions.keys().collect::<Vec<_>>(), ["P", "W"]);
        assert!(part_of_v2(b"7", "/").is_err());
    }

    #[test]
    fn what_has_a_name_already_gets_another_one() {
        let own = json!({"swagger": "2.0", "paths": {"/a": {"own": true}}, "definitions": {"M": {"type": "object"}, "S": {}}});
        let part = json!({"paths": {"/a": {"own": false}, "/b": {"$ref": "#/definitions/M"}},
            "definitions": {"M": {"type": "string"}, "S": {}, "T": {"$ref": "#/definitions/M"}}});
        let merged = merged(own.to_string().into_bytes(), &["nonsense", &part.to_string()]);
        let merged: Value = serde_json::from_slice(&merged).unwrap();
        assert_eq!(merged["paths"], json!({"/a": {"own": true}, "/b": {"$ref": "#/definitions/M_v2"}}));
        let definitions =
            json!({"M": {"type": "object"}, "M_v2": {"type": "string"}, "S": {}, "T": {"$ref": "#/definitions/M_v2"}});
        assert_eq!((&merged["definitions"], &merged["swagger"]), (&definitions, &json!("2.0")));
    }
}
