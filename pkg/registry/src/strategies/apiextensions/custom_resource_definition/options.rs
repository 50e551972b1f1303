//! What is asked of a definition: all of a new one; of a changed one not what its former self did not fulfil either.

use std::collections::BTreeSet;

use kedge_meta::field::Path;
use serde_json::Value;

use super::form::Form;
use super::hooks::{Engines, Known};
use super::schema::Schema;
use super::{conversion, defaults, lists, selectable, structural};
use crate::value::ValueExt;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What is asked.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Options<'a> {
    pub engines: &'a Engines,
    /// A webhook is sent reviews of a version that is known.
    pub known_review: bool,
    pub immutable_names: bool,
    pub schemas: bool,
    pub known_types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    /// Items of sets are compared as a whole.
    pub atomic_sets: bool,
    /// Items of sets and maps are never null, and keys always there.
    pub keyed_items: bool,
    pub any_ca_bundle: bool,
    pub known: Known<'a>,
    /// Versions whose schema has not changed: what a rule costs is not held against it there.
    pub unchanged: BTreeSet<&'a str>,
    /// Versions, or none for all, that keep more selectable fields than there may be.
    pub too_many_selectable: BTreeSet<&'a str>,
}

impl<'a> Options<'a> {
    /// Of a new definition. It is not established, so that its CA bundle may still come.
    pub fn of_new(engines: &'a Engines) -> Self {
        Self {
            engines,
            known_review: true,
            immutable_names: false,
            schemas: true,
            known_types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            keyed_items: true,
            any_ca_bundle: true,
            known: Known::default(),
            unchanged: BTreeSet::new(),
            too_many_selectable: BTreeSet::new(),
        }
    }

    /// Of a changed definition.
    pub fn of_changed(engines: &'a Engines, new: &Form<'a>, old: &'a Value) -> Self {
        let form = Form::of(old);
        let established = is_established(old);
        Self {
            engines,
            known_review: conversion::knows_review(old),
            immutable_names: established,
            schemas: form.shared.schema().is_some()
                || form.versions.iter().all(|version| version.own.schema().is_some()),
            known_types: !form.any(&mut |schema| !is_known_type(schema.kind())),
            structural: !form.schemas().any(is_not_structural),
            pruned_defaults: !form.schemas().any(|schema| !is_not_structural(schema) && defaults::are_unpruned(schema)),
            atomic_sets: !form.any(&mut |schema| lists::not_atomic_item(schema).is_some()),
            keyed_items: !form.any(&mut |schema| !lists::keyed_items(schema, &Path::default()).is_empty()),
            any_ca_bundle: !established || conversion::has_invalid_ca_bundle(old),
            known: known(&form),
            unchanged: unchanged(new, &form),
            too_many_selectable: too_many_selectable(new, &form),
        }
    }
}

pub(super) fn is_known_type(kind: &str) -> bool {
    kind.is_empty() || TYPES.contains(&kind)
}

/// Why a type is none.
pub(super) const KNOWN_TYPES: &[&str] = &TYPES;

fn is_established(definition: &Value) -> bool {
    let conditions = definition.list(&["status", "conditions"]);
    let found = conditions.iter().find(|condition| condition.text(&["type"]) == "Established");
    found.is_some_and(|condition| condition.text(&["status"]) == "True")
}

fn is_not_structural(schema: Schema<'_>) -> bool {
    structural::unsupported(schema).is_some() || !structural::validate(schema, &Path::default()).is_empty()
}

fn known<'a>(form: &Form<'a>) -> Known<'a> {
    let mut known = Known::default();
    form.schemas().for_each(|schema| {
        schema.any(&mut |schema| {
            for rule in schema.rules() {
                known.rules.insert(rule.text(&["rule"]));
                let message = rule.text(&["messageExpression"]);
                if !message.is_empty() {
                    known.messages.insert(message);
                }
            }
            false
        });
    });
    known
}

fn unchanged<'a>(new: &Form<'a>, old: &Form<'_>) -> BTreeSet<&'a str> {
    let same = |name: &&str| match (new.validation(name), old.validation(name)) {
        (Some(new), Some(old)) => new == old,
        _ => false,
    };
    new.versions.iter().map(|version| version.name()).filter(same).collect()
}

fn too_many_selectable<'a>(new: &Form<'a>, old: &Form<'_>) -> BTreeSet<&'a str> {
    let same =
        |name: &&str, now: &[Value]| old.selectable(name).is_some_and(|was| was.len() > selectable::MOST && was == now);
    let own = new.versions.iter().map(|version| (version.name(), version.own.selectable));
    let all = std::iter::once(("", new.shared.selectable)).chain(own);
    all.filter(|(name, now)| same(name, now)).map(|(name, _)| name).collect()
}
