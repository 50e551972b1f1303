//! Lists and maps: what `x-kubernetes-list-type` and `x-kubernetes-map-type` ask of a schema.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList, GoText, Path};

use super::go;
use super::options::Options;
use super::schema::{Items, Schema};

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const KEYS: &str = "x-kubernetes-list-map-keys";
/// Faults of the keys of one list that are told of.
const MOST_FAULTS: usize = 16;

/// What is wrong with a schema's list and map types.
pub(super) fn check(schema: Schema<'_>, path: &Path, options: &Options<'_>, errors: &mut ErrorList) {
    if schema.get("x-kubernetes-preserve-unknown-fields").and_then(serde_json::Value::as_bool) == Some(false) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&path, false, "must be true or undefined"));
    }
    let (map_type, list_type) = (schema.optional(MAP_TYPE), schema.optional(LIST_TYPE));
    if map_type.is_some() && schema.kind() != "object" {
        errors.push(of_another_type(schema, path, "object", MAP_TYPE));
    }
    if let Some(map_type) = map_type.filter(|map_type| !matches!(*map_type, "atomic" | "granular")) {
        errors.push(Error::not_supported_of(&path.child(MAP_TYPE), map_type, &["atomic", "granular"]));
    }
    if list_type.is_some() && schema.kind() != "array" {
        errors.push(of_another_type(schema, path, "array", LIST_TYPE));
    } else if options.atomic_sets
        && let Some(key) = not_atomic_item(schema)
    {
        // Upstream shows the list type of the items for both.
        let shown = go::optional_text(schema.item().and_then(|item| item.optional(LIST_TYPE)));
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errors.push(Error::invalid(&path.child("items").child(key), shown, why));
    }
    if let Some(list_type) = list_type.filter(|list_type| !matches!(*list_type, "atomic" | "set" | "map")) {
        errors.push(Error::not_supported_of(&path.child(LIST_TYPE), list_type, &["atomic", "set", "map"]));
    }
    if !schema.values(KEYS).is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.push(Error::required(&path.child(LIST_TYPE), why)),
            Some("map") => {}
            Some(other) => errors.push(Error::invalid(&path.child(LIST_TYPE), other, why)),
        }
    }
    if list_type == Some("map") {
        of_map(schema, path, errors);
    }
    if options.keyed_items {
        errors.extend(keyed_items(schema, path));
    }
}

fn of_another_type(schema: Schema<'_>, path: &Path, wanted: &str, key: &str) -> Error {
    let (path, why) = (path.child("type"), format!("must be {wanted} if {key} is specified"));
    match schema.kind() {
        "" => Error::required(&path, why),
        kind => Error::invalid(&path, kind, why),
    }
}

/// The keyword by which the items of a set are not compared as a whole.
pub(super) fn not_atomic_item(schema: Schema<'_>) -> Option<&'static str> {
    let item = schema.item().filter(|_| schema.optional(LIST_TYPE) == Some("set"))?;
    match item.kind() {
        // Lists are atomic unless they say otherwise, and maps are not.
        "array" if item.optional(LIST_TYPE).is_some_and(|kind| kind != "atomic") => Some(LIST_TYPE),
        "object" if item.optional(MAP_TYPE) != Some("atomic") => Some(MAP_TYPE),
        _ => None,
    }
}

/// A list whose items have keys.
fn of_map(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let items = path.child("items");
    if schema.values(KEYS).is_empty() {
        errors.push(Error::required(&path.child(KEYS), "must not be empty if x-kubernetes-list-type is map"));
    }
    let item = match schema.items() {
        Items::Absent => {
            errors.push(Error::required(&items, "must have a schema if x-kubernetes-list-type is map"));
            return;
        }
        Items::Many(_) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid(&items, GoText(go::items(schema)), why));
            return;
        }
        Items::One(item) => item,
    };
    if item.kind() != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&items.child("type"), item.kind(), why));
        return;
    }
    let keys = path.child(KEYS);
    let shown = || GoText(go::json(schema.get(KEYS).unwrap_or(&serde_json::Value::Null)));
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let found = errors.len();
    for key in schema.texts(KEYS) {
        // Each fault shows all keys.
        if errors.len() - found >= MOST_FAULTS {
            return;
        }
        match item.property(key) {
            Some(property) if matches!(property.kind(), "array" | "object") => {
                let path = items.child("properties").key(key).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&path, item.kind(), why));
            }
            Some(_) => {}
            None => errors.push(Error::invalid(&keys, shown(), "entries must all be names of item properties")),
        }
        if !seen.insert(key) {
            errors.push(Error::invalid(&keys, shown(), "must not contain duplicate entries"));
        }
    }
}

/// What is wrong with the items of a set or map: they cannot be null, and keys are always there.
pub(super) fn keyed_items(schema: Schema<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let list_type = schema.text(LIST_TYPE);
    let Some(item) = schema.item().filter(|_| matches!(list_type, "set" | "map")) else { return errors };
    let items = path.child("items");
    if item.flag("nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&items.child("nullable"), why));
    }
    if list_type == "set" {
        return errors;
    }
    let required: BTreeSet<&str> = item.texts("required").collect();
    for key in schema.texts(KEYS) {
        let Some(property) = item.property(key) else { continue };
        let path = items.child("properties").key(key);
        if !required.contains(key) && property.default().is_none() {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&path.child("default"), why));
        }
        if property.flag("nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&path.child("nullable"), why));
        }
    }
    errors
}
