//! Fields that custom resources can be selected by.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::super::validation::At;
use super::field_path::follow;
use super::schema::Schema;
use super::structural;

/// Most fields that upstream keeps an index of.
pub(super) const MOST: usize = 8;

/// The selectable fields at `path`, of a version whose schema, called as it is within `schema_path`, is given.
pub(super) fn selectable_fields(
    list: &[Value],
    schema: Schema<'_>,
    schema_path: &Path,
    path: &Path,
    too_many: bool,
    errors: &mut ErrorList,
) {
    if let Some(why) = structural::unsupported(schema) {
        errors.push(Error::invalid(schema_path, "", why));
        return;
    }
    let mut unique: BTreeSet<String> = BTreeSet::new();
    for (i, value) in list.iter().enumerate() {
        let at = At { value, path: path.index(i) }.child("jsonPath");
        if at.text().is_empty() {
            errors.push(at.required(""));
            continue;
        }
        let found = match follow(at.text(), schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(at.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.root == "metadata" {
            errors.push(at.invalid("must not point to fields in metadata"));
        }
        if !found.schema.is_some_and(|schema| matches!(schema.kind(), "string" | "boolean" | "integer")) {
            errors.push(at.invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if !unique.insert(found.path.to_string()) {
            errors.push(at.duplicate());
        }
    }
    if unique.len() > MOST && !too_many {
        errors.push(Error::too_many(path, unique.len(), MOST));
    }
}
