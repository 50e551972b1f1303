//! ValidatingAdmissionPolicy.

use kedge_cel::admission::{Compiler, Purpose};
use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use super::expressions::{Known, refused, texts};
use super::policy::{common, has_params, match_conditions, spec_of, variables};
use super::reserved::of_name;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt as _;

pub(crate) struct ValidatingPolicy;

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";
const MAX_ANNOTATIONS: usize = 20;
/// In bytes: what an expression makes is often longer than it, and its value may be twice as long.
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

/// Expressions that were stored before, by what they are for.
#[derive(Default)]
struct Stored<'a> {
    rules: Known<'a>,
    messages: Known<'a>,
    values: Known<'a>,
}

impl<'a> Stored<'a> {
    fn of(spec: &At<'a>) -> Self {
        let validations = spec.child("validations");
        Self {
            rules: texts(&validations, &["expression"]),
            messages: texts(&validations, &["messageExpression"]),
            values: texts(&spec.child("auditAnnotations"), &["valueExpression"]),
        }
    }
}

impl Strategy for ValidatingPolicy {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let warnings = At::field(new, "status").child("typeChecking").child("expressionWarnings");
        for warning in warnings.items() {
            errors.need_text(&warning.child("warning"));
            let reference = warning.child("fieldRef");
            if reference.text().trim().is_empty() {
                errors.push(reference.required(""));
            }
        }
        errors
    }

    fn warnings(&self, _ctx: &Context<'_>, object: &Value, _old: Option<&Value>) -> Vec<String> {
        of_name(object)
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, old) = (At::field(object, "spec"), spec_of(old));
    common(&spec, &mut errors);
    match_conditions(&spec, old.as_ref(), &mut errors);
    let stored = old.as_ref().map(Stored::of).unwrap_or_default();
    let params = has_params(&spec);
    // Without variables nothing can name any.
    let composing = spec.child("variables").len() > 0;
    let mut compiler = if composing { Compiler::composing(params) } else { Compiler::plain(params) };
    variables(&spec, &stored.rules, &mut compiler, &mut errors);
    let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
    if validations.len() + annotations.len() == 0 {
        errors.push(validations.required(NOTHING));
        errors.push(annotations.required(NOTHING));
    }
    validations.items().for_each(|one| validation(&one, &stored, &mut compiler, &mut errors));
    if annotations.len() > MAX_ANNOTATIONS {
        errors.push(annotations.invalid(format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations")));
    }
    let mut keys: Vec<&str> = Vec::new();
    for one in annotations.items() {
        annotation(&one, object.name(), &stored.values, &mut compiler, &mut errors);
        let key = one.child("key");
        if keys.contains(&key.text()) {
            errors.push(key.duplicate());
        }
        keys.push(key.text());
    }
    errors
}

fn validation(at: &At<'_>, stored: &Stored<'_>, compiler: &mut Compiler, errors: &mut ErrorList) {
    let (rule, message, made) = (at.child("expression"), at.child("message"), at.child("messageExpression"));
    let mut compile = |at: &At<'_>, purpose, known: &Known<'_>, errors: &mut ErrorList| {
        if let Err(why) = compiler.compile(at.text(), purpose, known.contains(&at.text())) {
            errors.push(refused(&at.path, at.text(), &why));
        }
    };
    if rule.text().trim().is_empty() {
        errors.push(rule.required("expression is not specified"));
    } else {
        compile(&rule, Purpose::Condition, &stored.rules, errors);
    }
    if !made.text().trim().is_empty() {
        compile(&made, Purpose::Message, &stored.messages, errors);
    } else if !made.text().is_empty() {
        errors.push(made.invalid("must be non-empty if specified"));
    }
    let text = message.text().trim();
    if !message.text().is_empty() && text.is_empty() {
        errors.push(message.invalid("must be non-empty if specified"));
    } else if text.contains(['\n', '\r']) {
        errors.push(message.invalid("must not contain line breaks"));
    }
    errors.one_of(&at.child("reason"), &REASONS);
}

fn annotation(at: &At<'_>, policy: &str, known: &Known<'_>, compiler: &mut Compiler, errors: &mut ErrorList) {
    let (key, value) = (at.child("key"), at.child("valueExpression"));
    if policy.is_empty() {
        errors.push(key.invalid("requires metadata.name be non-empty"));
    } else {
        let name = format!("{policy}/{}", key.text());
        let complaints = names::is_qualified_name(&name);
        errors.extend(complaints.into_iter().map(|why| Error::invalid(&key.path, &name, why)));
    }
    let text = value.text().trim();
    if text.is_empty() {
        errors.push(value.required("valueExpression is not specified"));
    } else if text.len() > MAX_VALUE_EXPRESSION {
        errors.push(value.required(&format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length")));
    } else if let Err(why) = compiler.compile(text, Purpose::Annotation, known.contains(&value.text())) {
        errors.push(refused(&value.path, value.text(), &why));
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
