//! `spec` and `status` as a whole.

use std::collections::BTreeSet;

use kedge_meta::field::{Error, ErrorList, GoText, Path};
use kedge_meta::names as name_rules;
use serde_json::Value;

use super::super::super::validation::At;
use super::form::{Form, Version};
use super::options::Options;
use super::selectable::selectable_fields;
use super::validation::Judge;
use super::{columns, conversion, go, names};
use crate::value::ValueExt;

/// Errors after which no more of a long kind are told of.
const MOST_ERRORS: usize = 100;

/// What is wrong with `spec`.
pub(super) fn spec(definition: &Value, form: &Form<'_>, options: &Options<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let at = conversion::place(definition);
    group_and_scope(&at, &mut errors);
    let structural = needs_structure(form, options);
    schemas(form, &at.path, options, &mut errors);
    let has_defaults = form.any(&mut |schema| schema.default().is_some());
    if has_defaults && form.preserves_unknown() {
        let path = at.path.child("preserveUnknownFields");
        errors.push(Error::invalid(&path, true, "must be false in order to use defaults in the schema"));
    }
    versions(form, &at.path, options, structural, &mut errors);
    let list = at.child("names");
    names::required(&list, &mut errors);
    names::names(&list, &mut errors);
    let judge = Judge { options, structural, version: form.version(), has_status: form.has_any_status() };
    judge.check(&form.shared, &at.path.child("validation"), &mut errors);
    columns::subresources(form.shared.subresources, &at.path, &mut errors);
    columns::columns(form.shared.columns, &at.path, &mut errors);
    if !form.shared.selectable.is_empty() {
        let path = at.path.child("selectableFields");
        // A schema that is not there is judged as an empty one.
        match form.shared.validation {
            None => {
                errors.push(Error::invalid(&path, "", "may only be set when validations.schema is included"));
            }
            Some(_) => selectable_fields(
                form.shared.selectable,
                form.shared.schema().unwrap_or_default(),
                &at.path.child("schema.openAPIV3Schema"),
                &path,
                options.too_many_selectable.contains(""),
                &mut errors,
            ),
        }
    }
    conversion::conversion(&at, form.preserves_unknown(), options, &mut errors);
    errors
}

fn group_and_scope(at: &At<'_>, errors: &mut ErrorList) {
    let (group, scope) = (at.child("group"), at.child("scope"));
    let complaints = name_rules::is_dns1123_subdomain(group.text());
    if group.text().is_empty() {
        errors.push(group.required(""));
    } else if !complaints.is_empty() {
        errors.push(group.invalid(complaints.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid("should be a domain with at least one dot"));
    }
    match scope.text() {
        "" => errors.push(scope.required("")),
        "Cluster" | "Namespaced" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespaced"])),
    }
}

/// Whether the schemas must be structural: nothing is pruned, defaulted or extended without.
fn needs_structure(form: &Form<'_>, options: &Options<'_>) -> bool {
    options.structural
        || !form.preserves_unknown()
        || form.any(&mut |schema| {
            schema.default().is_some()
                || schema.embeds()
                || schema.is_int_or_string()
                || schema.has_key("x-kubernetes-preserve-unknown-fields")
                || schema.has_key("x-kubernetes-list-type")
                || !schema.values("x-kubernetes-list-map-keys").is_empty()
                || !schema.rules().is_empty()
        })
}

/// Versions have schemas; of an old definition those that are served and pruned.
fn schemas(form: &Form<'_>, path: &Path, options: &Options<'_>, errors: &mut ErrorList) {
    if form.shared.schema().is_some() || (!options.schemas && form.preserves_unknown()) {
        return;
    }
    for (i, version) in form.versions.iter().enumerate().filter(|(_, version)| version.own.schema().is_none()) {
        let path = path.child("versions").index(i).child("schema").child("openAPIV3Schema");
        if options.schemas {
            errors.push(Error::required(&path, ""));
        } else if version.is_served() {
            errors.push(Error::required(&path, "because otherwise all fields are pruned"));
        }
    }
}

fn versions(form: &Form<'_>, path: &Path, options: &Options<'_>, structural: bool, errors: &mut ErrorList) {
    let list = path.child("versions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, version) in form.versions.iter().enumerate() {
        let (path, name) = (list.index(i), version.name());
        seen.push(name);
        let complaints = name_rules::is_dns1035_label(name);
        if !complaints.is_empty() {
            errors.push(Error::invalid(&path.child("name"), name, complaints.join(",")));
        }
        let judge = Judge { options, structural, version: name, has_status: form.has_status(version) };
        self::version(version, &path, &judge, errors);
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        errors.push(Error::invalid(&list, go::versions(form), "must contain unique version names"));
    }
    if form.versions.iter().filter(|version| version.is_stored()).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&list, go::versions(form), why));
    }
    let first = name_rules::is_dns1035_label(form.version());
    if !form.version().is_empty() && !first.is_empty() {
        errors.push(Error::invalid(&path.child("version"), form.version(), first.join(",")));
    }
}

fn version(version: &Version<'_>, path: &Path, judge: &Judge<'_>, errors: &mut ErrorList) {
    deprecation(version, path, errors);
    judge.check(&version.own, &path.child("schema"), errors);
    columns::subresources(version.own.subresources, path, errors);
    columns::columns(version.own.columns, path, errors);
    if version.own.selectable.is_empty() {
        return;
    }
    let at = path.child("selectableFields");
    match version.own.schema() {
        None => {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(Error::invalid(&at, "", why));
        }
        Some(schema) => selectable_fields(
            version.own.selectable,
            schema,
            &path.child("schema.openAPIV3Schema"),
            &at,
            judge.options.too_many_selectable.contains(version.name()),
            errors,
        ),
    }
}

fn deprecation(version: &Version<'_>, path: &Path, errors: &mut ErrorList) {
    let Some(warning) = version.value.get("deprecationWarning").and_then(Value::as_str) else { return };
    let path = path.child("deprecationWarning");
    let mut invalid = |why: String| errors.push(Error::invalid(&path, go::optional_text(Some(warning)), why));
    if version.value.flag(&["deprecated"]) != Some(true) {
        return invalid("can only be set for deprecated versions".to_owned());
    }
    if warning.len() > 256 {
        invalid("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        invalid("must not be an empty string".to_owned());
    }
    // The only blank that Go can print is the plain one.
    let hidden = |c: char| c.is_control() || (c.is_whitespace() && c != ' ') || is_format(c);
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| hidden(*c)) {
        invalid(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
}

/// Characters without a shape, of private use, or none at all.
fn is_format(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f
        | 0xe000..=0xf8ff | 0xfeff | 0xfff9..=0xfffb | 0xfffe..=0xffff | 0xe0000..=0xe007f | 0xf_0000..=0x10_ffff)
}

/// What a change must not change.
pub(super) fn immutable(new: &Value, old: &Value, options: &Options<'_>, errors: &mut ErrorList) {
    let (now, was) = (conversion::place(new), conversion::place(old));
    let mut fixed = |now: At<'_>, was: At<'_>| {
        if now.text() != was.text() {
            errors.push(Error::invalid(&now.path, now.text(), "field is immutable"));
        }
    };
    if options.immutable_names {
        fixed(now.child("scope"), was.child("scope"));
        fixed(now.child("names").child("kind"), was.child("names").child("kind"));
    }
    fixed(now.child("group"), was.child("group"));
    fixed(now.child("names").child("plural"), was.child("names").child("plural"));
}

/// `status`.
pub(super) fn status(definition: &Value, errors: &mut ErrorList) {
    names::names(&At::field(definition, "status").child("acceptedNames"), errors);
}

/// Versions that objects are, or may still be, stored in.
pub(super) fn stored_versions(definition: &Value, form: &Form<'_>, errors: &mut ErrorList) {
    let at = At::field(definition, "status").child("storedVersions");
    let shown = || GoText(go::json(at.value));
    if at.len() == 0 {
        errors.push(Error::invalid(&at.path, shown(), "must have at least one stored version"));
        return;
    }
    // Each accounts for one version, also where names are not unique.
    let mut left: BTreeSet<&str> = at.items().map(|version| version.text()).collect();
    for version in &form.versions {
        // Each fault shows all of them.
        if !left.remove(version.name()) && version.is_stored() && errors.len() < MOST_ERRORS {
            let why = format!("must have the storage version {}", version.name());
            errors.push(Error::invalid(&at.path, shown(), why));
        }
    }
    for version in at.items().filter(|version| left.contains(&version.text())) {
        let name = version.text();
        errors.push(version.invalid(format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a \
             storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        )));
    }
}
