//! Custom resource definitions.
//!
//! Invariants: rules read and report, no definition makes one panic; errors have upstream's words, paths and order; what was
//! accepted once stays acceptable where upstream lets it stay.

mod approval;
mod ca_bundle;
mod columns;
mod conversion;
mod cost;
mod defaults;
mod field_path;
mod form;
mod formats;
mod go;
pub mod hooks;
mod lists;
mod names;
mod openapi;
mod options;
mod rules;
mod schema;
mod selectable;
mod spec;
mod structural;
mod validation;

use std::sync::Arc;

use kedge_meta::Text;
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_schema::ResourceInfo;
use kedge_schema::structural::Structural;
use serde_json::{Value, json};

use super::super::rules::DefinitionRules;
use super::super::warnings::MOST_WARNINGS;
use crate::strategy::{Context, Strategy};
use crate::value::{ValueExt, set_condition};
use form::Form;
use hooks::Engines;
use options::Options;

/// Held until the custom resources are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) struct CustomResourceDefinition {
    engines: Engines,
}

impl Default for CustomResourceDefinition {
    fn default() -> Self {
        Self { engines: Engines { rules: Some(Arc::new(DefinitionRules)) } }
    }
}

impl Strategy for CustomResourceDefinition {
    /// The name, and the base of one, are made of plural and group.
    fn validate_name_of(&self, definition: &Value, name: &str, prefix: bool) -> Vec<String> {
        let mut complaints = self.validate_name(name, prefix);
        let names = definition.text(&["spec", "names", "plural"]);
        if name != format!("{names}.{}", definition.text(&["spec", "group"])) {
            complaints.push("must be spec.names.plural+\".\"+spec.group".into());
        }
        complaints
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    /// The version that objects are stored in is remembered from the start.
    fn prepare_for_create(&self, _ctx: &Context<'_>, definition: &mut Value) {
        remember_storage_version(definition);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, _old: &Value) {
        if ctx.subresource != "status" {
            remember_storage_version(new);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, definition: &Value) -> ErrorList {
        validate(definition, &self.engines)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate_update(new, old, &self.engines)
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec::status(new, &mut errors);
        errors
    }

    fn keeps_metadata_on_status(&self) -> bool {
        true
    }

    fn warnings(&self, ctx: &Context<'_>, new: &Value, old: Option<&Value>) -> Vec<String> {
        match ctx.subresource {
            "" => formats::warnings(new, old, MOST_WARNINGS),
            _ => Vec::new(),
        }
    }

    /// The first deletion only marks it, whatever else it asks for: what is of this kind goes first.
    fn mark_first(&self, definition: &mut Value, now: &str) -> bool {
        let metadata = definition.entry("metadata");
        metadata.insert("deletionTimestamp".into(), now.into());
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if finalizers.is_null() {
            *finalizers = json!([]);
        }
        if let Value::Array(list) = finalizers
            && !list.iter().any(|finalizer| finalizer == FINALIZER)
        {
            list.push(FINALIZER.into());
        }
        let condition = json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        });
        set_condition(definition, condition, now);
        true
    }
}

fn remember_storage_version(definition: &mut Value) {
    let versions = definition.list(&["spec", "versions"]);
    let stored = versions.iter().find(|version| version.flag(&["storage"]) == Some(true));
    let Some(name) = stored.map(|version| version.text(&["name"]).to_owned()) else { return };
    let known = definition.entry("status").entry("storedVersions").or_insert_with(|| Value::Array(Vec::new()));
    if known.is_null() {
        *known = Value::Array(Vec::new());
    }
    if let Value::Array(list) = known
        && !list.iter().any(|version| *version == *name)
    {
        list.push(name.into());
    }
}

/// What is wrong with a new definition.
fn validate(definition: &Value, engines: &Engines) -> ErrorList {
    let mut errors = ErrorList::new();
    let form = Form::of(definition);
    errors.extend(spec::spec(definition, &form, &Options::of_new(engines)));
    spec::status(definition, &mut errors);
    spec::stored_versions(definition, &form, &mut errors);
    approval::check(definition, None, &mut errors);
    preserve_unknown_fields(&form, None, &mut errors);
    if errors.is_empty() {
        unreadable(definition, &mut errors);
    }
    errors
}

/// What is in order, and cannot be read here: schemas that go deeper than any walk does.
fn unreadable(definition: &Value, errors: &mut ErrorList) {
    for (index, version) in definition.list(&["spec", "versions"]).iter().enumerate() {
        let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) else { continue };
        if let Err(why) = Structural::parse(Text::default(), schema)
            && why.too_deep
        {
            let path = Path::new("spec").child("versions").index(index).child("schema").child("openAPIV3Schema");
            errors.push(Error::forbidden(&path, why.to_string()));
        }
    }
}

/// What is wrong with a changed definition.
fn validate_update(new: &Value, old: &Value, engines: &Engines) -> ErrorList {
    let form = Form::of(new);
    let options = Options::of_changed(engines, &form, old);
    let mut errors = spec::spec(new, &form, &options);
    spec::immutable(new, old, &options, &mut errors);
    spec::status(new, &mut errors);
    spec::stored_versions(new, &form, &mut errors);
    approval::check(new, Some(old), &mut errors);
    preserve_unknown_fields(&form, Some(old), &mut errors);
    if errors.is_empty() && new["spec"] != old["spec"] {
        unreadable(new, &mut errors);
    }
    errors
}

/// Nothing comes to keep all fields any more; what did so may go on.
fn preserve_unknown_fields(form: &Form<'_>, old: Option<&Value>, errors: &mut ErrorList) {
    let did = old.is_some_and(|old| old.flag(&["spec", "preserveUnknownFields"]) == Some(true));
    if form.preserves_unknown() && !did {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&Path::new("spec").child("preserveUnknownFields"), true, why));
    }
}

/// Why a definition that is stored is not structural, as the reason and the message of the condition `NonStructuralSchema` say. What is
/// stored today always is: definitions of the first version of this API may not have been.
pub fn violations(definition: &Value) -> Option<(&'static str, String)> {
    let mut errors = ErrorList::new();
    if definition.flag(&["spec", "preserveUnknownFields"]) == Some(true) {
        let path = Path::new("spec").child("preserveUnknownFields");
        errors.push(Error::invalid(&path, true, "must be false"));
    }
    let versions = Path::new("spec").child("versions");
    for (index, version) in definition.list(&["spec", "versions"]).iter().enumerate() {
        let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) else { continue };
        let schema = schema::Schema(schema);
        if let Some(why) = structural::unsupported(schema) {
            let name = version.text(&["name"]);
            let message = format!("failed to check validation schema for version {name}: {why}");
            return Some(("StructuralError", message));
        }
        let path = versions.index(index).child("schema").child("openAPIV3Schema");
        errors.extend(structural::validate(schema, &path));
    }
    let mut all: Vec<String> = Vec::new();
    for error in errors.iter().map(ToString::to_string) {
        if !all.contains(&error) {
            all.push(error);
        }
    }
    match all.len() {
        0 => None,
        1 => all.pop().map(|one| ("Violations", one)),
        _ => Some(("Violations", format!("[{}]", all.join(", ")))),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
