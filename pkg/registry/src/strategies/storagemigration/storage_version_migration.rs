//! Requests to bring all objects of a resource into the version in which they would be stored now. What is asked for never changes, and
//! what came of it is said once.

use std::collections::HashSet;

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_REASON: usize = 1 << 10;
const MAX_MESSAGE: usize = 32 << 10;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name', or 'MY_NAME', or 'MyName', or 'ReasonA,ReasonB', or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

pub(crate) struct StorageVersionMigration;

impl Strategy for StorageVersionMigration {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, migration: &mut Value) {
        migration.set("status", json!({}));
    }

    fn validate(&self, _ctx: &Context<'_>, migration: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let resource = At::field(migration, "spec").child("resource");
        let (group, plural) = (resource.child("group"), resource.child("resource"));
        match plural.text() {
            "" => errors.push(plural.required("resource is required to be set")),
            text => joined(&plural, names::is_dns1035_label(text), &mut errors),
        }
        if !group.text().is_empty() {
            joined(&group, names::is_dns1123_subdomain(group.text()), &mut errors);
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "spec"), &At::field(old, "spec"));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (now, was) = (At::field(new, "status"), At::field(old, "status"));
        let version = now.child("resourceVersion");
        let well_formed = !version.text().starts_with('0') && version.text().bytes().all(|byte| byte.is_ascii_digit());
        if !version.text().is_empty() && !well_formed {
            errors.push(version.invalid(format!("resource version is not well formed: {}", version.text())));
        }
        let conditions = now.child("conditions");
        each(&conditions, &mut errors);
        let known = was.child("resourceVersion");
        if !known.text().is_empty() && known.text() != version.text() {
            errors.push(version.invalid("field is immutable"));
        }
        let is = |status: &At<'_>, kind: &str| {
            let one = |c: &At<'_>| c.child("type").text() == kind && c.child("status").text() == "True";
            status.child("conditions").items().any(|condition| one(&condition))
        };
        if is(&now, "Succeeded") && is(&now, "Failed") {
            let text = "Both success and failed conditions cannot be true at the same time";
            errors.push(conditions.invalid(text));
        }
        for (kind, word) in [("Succeeded", "Success"), ("Failed", "Failed")] {
            if is(&was, kind) && !is(&now, kind) {
                let text = format!("{word} condition cannot be set to false once it is true");
                errors.push(conditions.invalid(text));
            }
        }
        errors
    }
}

/// All complaints as one.
fn joined(at: &At<'_>, complaints: Vec<String>, errors: &mut ErrorList) {
    if !complaints.is_empty() {
        errors.push(at.invalid(complaints.join(",")));
    }
}

/// Upstream's rules for conditions of `meta/v1`.
fn each(conditions: &At<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for condition in conditions.items() {
        let kind = condition.child("type");
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
        errors.complaints(&kind, names::is_qualified_name(kind.text()));
        let status = condition.child("status");
        if !STATUSES.contains(&status.text()) {
            errors.push(status.not_supported(&STATUSES));
        }
        let generation = condition.child("observedGeneration");
        if generation.int().is_some_and(|generation| generation < 0) {
            errors.push(generation.invalid("must be greater than or equal to zero"));
        }
        errors.need_text(&condition.child("lastTransitionTime"));
        let reason = condition.child("reason");
        if errors.need_text(&reason) && !is_reason(reason.text()) {
            errors.push(reason.invalid(REASON));
        }
        for (field, most) in [("reason", MAX_REASON), ("message", MAX_MESSAGE)] {
            let text = condition.child(field);
            if text.text().len() > most {
                errors.push(Error::too_long(&text.path, most));
            }
        }
    }
}

fn is_reason(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|last| word(*last))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        for good in ["A", "MigrationRunning", "a_b,c:d", "A1"] {
            assert!(is_reason(good), "{good}");
        }
        for bad in ["", "1a", "a:", "a b", "_a"] {
            assert!(!is_reason(bad), "{bad}");
        }
    }
}
