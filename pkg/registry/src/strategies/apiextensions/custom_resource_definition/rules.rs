//! `x-kubernetes-validations`: their form, and what compiling them came to.

use kedge_meta::field::{Error, ErrorList, GoText, Path};
use serde_json::Value;

use super::cost::{self, EXPRESSION_LIMIT, Total};
use super::field_path::follow;
use super::go;
use super::hooks::{Compiled, Fault};
use super::schema::Schema;
use super::structural;
use crate::value::ValueExt;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Where the rules of a schema are.
pub(super) fn place(path: &Path) -> Path {
    path.child("x-kubernetes-validations")
}

/// What is wrong with the form of a schema's rules.
pub(super) fn check_form(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    // What has no structure has no paths either, and is refused for that.
    let mut has_paths = None;
    for (i, rule) in schema.rules().iter().enumerate() {
        let at = place(path).index(i);
        texts(rule, &at, errors);
        if let Some(reason) = rule.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported_of(&at.child("reason"), reason, &REASONS));
        }
        let field_path = rule.text(&["fieldPath"]);
        let invalid = |why: &str| Error::invalid(&at.child("fieldPath"), field_path, why);
        if !field_path.is_empty() && field_path.trim().is_empty() {
            errors.push(invalid("must be non-empty if specified"));
        }
        if has_newline(field_path) {
            errors.push(invalid("must not contain line breaks"));
        }
        if !field_path.is_empty()
            && follow(field_path, schema, true).is_err()
            && *has_paths.get_or_insert_with(|| structural::unsupported(schema).is_none())
        {
            errors.push(invalid("must be a valid path"));
        }
    }
}

fn has_newline(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn texts(rule: &Value, at: &Path, errors: &mut ErrorList) {
    let (text, message) = (rule.text(&["rule"]), rule.text(&["message"]));
    let invalid = |why: &str| Error::invalid(&at.child("message"), message, why);
    if text.trim().is_empty() {
        errors.push(Error::required(&at.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(invalid("must be non-empty if specified"));
    } else if has_newline(message.trim()) {
        errors.push(invalid("must not contain line breaks"));
    } else if has_newline(text.trim()) && message.trim().is_empty() {
        errors.push(Error::required(&at.child("message"), "message must be specified if rule contains line breaks"));
    }
    let expression = rule.text(&["messageExpression"]);
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(Error::required(&at.child("messageExpression"), why));
    }
}

/// How the rules of a schema are judged.
pub(super) struct Judge<'j> {
    /// How many such places a resource has at most; none for as many as one likes.
    pub cardinality: Option<u64>,
    /// The schema above that makes `oldSelf` impossible.
    pub uncorrelated: Option<&'j Path>,
    pub limits_cost: bool,
}

impl Judge<'_> {
    /// What is wrong with the rules of a schema once they are compiled.
    pub fn check(&self, schema: Schema<'_>, path: &Path, all: &[Compiled], total: &mut Total, errors: &mut ErrorList) {
        for (i, (rule, compiled)) in schema.rules().iter().zip(all).enumerate() {
            let at = place(path).index(i);
            self.cost(compiled, &at.child("rule"), total, errors);
            match &compiled.fault {
                Some(Fault::Required(why)) => errors.push(Error::required(&at.child("rule"), why.as_str())),
                Some(Fault::Invalid(why)) => {
                    errors.push(Error::invalid(&at.child("rule"), GoText(go::rule(rule)), why.as_str()));
                }
                None => {}
            }
            self.message(rule, compiled, &at.child("messageExpression"), total, errors);
            if compiled.uses_old_self {
                if let Some(above) = self.uncorrelated {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {above}");
                    errors.push(Error::invalid(&at.child("rule"), rule.text(&["rule"]), why));
                }
            } else if let Some(optional) = rule.get("optionalOldSelf").and_then(Value::as_bool) {
                let why = "may not be set if oldSelf is not used in rule";
                errors.push(Error::invalid(&at.child("optionalOldSelf"), optional, why));
            }
        }
    }

    fn cost(&self, compiled: &Compiled, path: &Path, total: &mut Total, errors: &mut ErrorList) {
        let times = self.cardinality.unwrap_or(compiled.cardinality);
        let cost = compiled.cost.saturating_mul(times);
        if self.limits_cost && cost > EXPRESSION_LIMIT {
            errors.push(Error::forbidden(path, cost::message("estimated rule cost", cost, EXPRESSION_LIMIT)));
        }
        total.observe(path, cost);
    }

    fn message(&self, rule: &Value, compiled: &Compiled, path: &Path, total: &mut Total, errors: &mut ErrorList) {
        match &compiled.message {
            None => {}
            Some(Err(why)) => errors.push(Error::invalid(path, GoText(go::rule(rule)), why.as_str())),
            Some(Ok(cost)) => {
                if self.limits_cost && *cost > EXPRESSION_LIMIT {
                    let why = cost::message("estimated messageExpression cost", *cost, EXPRESSION_LIMIT);
                    errors.push(Error::forbidden(path, why));
                }
                total.observe(path, *cost);
            }
        }
    }
}
