//! What admission policies of both kinds say alike.

use kedge_cel::RESERVED;
use kedge_cel::admission::Compiler;
use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report};
use super::expressions::{Known, conditions, refused, texts};
use super::matching;
use crate::value::ValueExt as _;

/// What a policy has before its own rules.
pub(super) fn common(spec: &At<'_>, errors: &mut ErrorList) {
    let failure = spec.child("failurePolicy");
    if failure.is_set() {
        errors.one_of(&failure, &["Fail", "Ignore"]);
    } else {
        errors.push(failure.required(""));
    }
    let kind = spec.child("paramKind");
    if kind.is_set() {
        matching::param_kind(&kind, errors);
    }
    matching::constraints(&spec.child("matchConstraints"), errors);
}

/// `matchConditions`; what was stored, and means the same, is not looked at.
pub(super) fn match_conditions(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut ErrorList) {
    let same = |field: &str| old.is_some_and(|old| old.child(field).value == spec.child(field).value);
    if same("paramKind") && same("matchConditions") {
        return;
    }
    let known = old.map(|old| texts(&old.child("matchConditions"), &["expression"])).unwrap_or_default();
    conditions(&spec.child("matchConditions"), has_params(spec), &known, errors);
}

pub(super) fn has_params(spec: &At<'_>) -> bool {
    spec.child("paramKind").is_set()
}

/// `variables`, in their order: each may name those before it.
pub(super) fn variables(spec: &At<'_>, known: &Known<'_>, compiler: &mut Compiler, errors: &mut ErrorList) {
    for variable in spec.child("variables").items() {
        let (name, expression) = (variable.child("name"), variable.child("expression"));
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        let text = expression.text();
        if text.trim().is_empty() {
            errors.push(expression.required("expression is not specified"));
        } else if let Err(why) = compiler.variable(name.text(), text, known.contains(&text)) {
            errors.push(refused(&expression.path, text, &why));
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !RESERVED.contains(&name)
}

/// The `spec` of what was stored.
pub(super) fn spec_of(old: Option<&Value>) -> Option<At<'_>> {
    old.filter(|old| old.at(&["spec"]).is_some()).map(|old| At::field(old, "spec"))
}
