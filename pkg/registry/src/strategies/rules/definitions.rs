//! Rules as definitions have them: whether they compile, and what they may cost.

use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::{Budget, CompileErrors, Env, Expressions, SizeEstimate, SizeHints, Type};
use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::compile::{self, RULES, environment};
use super::validate;
use crate::strategies::apiextensions::custom_resource_definition::hooks::{self, Compiled, Fault, Known};
use crate::value::ValueExt as _;

/// Judges rules for definitions.
pub(crate) struct DefinitionRules;

impl hooks::Rules for DefinitionRules {
    fn compile(&self, schema: &Value, is_resource: bool, known: &Known<'_>) -> Result<Vec<Compiled>, String> {
        let decl = Arc::new(Decl::from_schema(schema, "selfType", is_resource));
        if decl.cel_type().is_none() {
            return Err("failed to convert to declType for CEL validation rules".to_owned());
        }
        Ok(schema.list(&[RULES]).iter().map(|rule| one(rule, &decl, known)).collect())
    }

    fn check_default(
        &self,
        path: &Path,
        schema: &Value,
        value: &Value,
        is_resource: bool,
        budget: &mut i64,
    ) -> ErrorList {
        let Some(rules) = compile::validator(schema, schema, is_resource, Expressions::Stored, 0) else {
            return ErrorList::new();
        };
        let left = u64::try_from(*budget).unwrap_or_default();
        let mut least = left;
        let mut errors = ErrorList::new();
        // As one that was there before, and as a new one; the dearer counts.
        for old in [Some(value), None] {
            let shared = Budget::new(left);
            errors = validate::check(&rules, value, old, &shared, false).errors;
            least = least.min(shared.left());
            if !errors.is_empty() {
                break;
            }
        }
        *budget = match i64::try_from(least) {
            Ok(0) | Err(_) => -1,
            Ok(left) => left,
        };
        let below = |error: Error| {
            let field = match error.field.as_str() {
                "<nil>" => path.to_string(),
                field => path.child(field).to_string(),
            };
            Error { field, ..error }
        };
        errors.into_iter().map(below).collect()
    }
}

/// Sizes of what is in a value. As upstream, whatever a path begins with stands for the value: an item of a list that an expression has
/// put together is as large as the value itself.
struct Sizes<'a>(&'a Decl);

impl SizeHints for Sizes<'_> {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeEstimate> {
        let (_, steps) = path.split_first()?;
        let decl = steps.iter().try_fold(self.0, |decl, step| decl.step(step))?;
        Some(SizeEstimate { min: 0, max: decl.max_elements })
    }
}

fn one(rule: &Value, decl: &Arc<Decl>, known: &Known<'_>) -> Compiled {
    let (text, message) = (rule.text(&["rule"]), rule.text(&["messageExpression"]));
    if text.trim().is_empty() {
        return Compiled::default();
    }
    let optional = rule.flag(&["optionalOldSelf"]) == Some(true);
    let env =
        |is_known: bool| environment(if is_known { Expressions::Stored } else { Expressions::NEW }, decl, optional);
    let hints = Sizes(decl);
    let own = env(known.rules.contains(text));
    let cost = |env: &Env, text: &str| env.check(text).map(|checked| checked.estimate(&hints).max);
    let program = match compile::compiled(&own, text) {
        Ok(program) => program,
        Err(why) => return Compiled { fault: Some(Fault::Invalid(why)), ..Compiled::default() },
    };
    let message = (!message.is_empty()).then(|| {
        let env = env(known.messages.contains(message));
        let checked = env.check(message).map_err(|err| format!("messageExpression compilation failed: {err}"))?;
        if *checked.result_type() != Type::String {
            return Err("messageExpression must evaluate to a string".to_owned());
        }
        let instantiation = |err: CompileErrors| format!("messageExpression instantiation failed: {err}");
        checked.program().map_err(instantiation)?;
        Ok(checked.estimate(&hints).max)
    });
    Compiled {
        fault: None,
        cost: cost(&own, text).unwrap_or(u64::MAX),
        cardinality: decl.max_cardinality(),
        uses_old_self: program.uses("oldSelf"),
        message,
    }
}
