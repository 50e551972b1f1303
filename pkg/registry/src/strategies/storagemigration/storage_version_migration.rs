//! Requests to bring all objects of a resource into the version in which they would be stored now. What is asked for never changes, and
//! what came of it is said once.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::{At, Report, conditions};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

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
        conditions::each(&conditions, &mut errors);
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
