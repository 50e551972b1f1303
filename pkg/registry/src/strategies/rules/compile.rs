//! From the JSON of a schema to its rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::{CompileErrors, Env, Expressions, Program, Type};
use serde_json::Value;

use super::{Rule, Rules};
use crate::value::ValueExt as _;

/// How deep schemas go.
const MAX_DEPTH: usize = 64;

pub(super) const RULES: &str = "x-kubernetes-validations";

/// The environment of rules on data of this form.
pub(super) fn environment(expressions: Expressions, decl: &Arc<Decl>, optional_old_self: bool) -> Env {
    let builder = Env::builder(expressions).typed_variable("self", decl);
    match decl.cel_type().filter(|_| optional_old_self) {
        Some(of) => builder.variable("oldSelf", Type::optional(of)).build(),
        None => builder.typed_variable("oldSelf", decl).build(),
    }
}

/// Whether there is a rule somewhere in a schema.
fn has_rules(schema: &Value, depth: usize) -> bool {
    let below = |value: &Value| depth < MAX_DEPTH && has_rules(value, depth + 1);
    !schema.list(&[RULES]).is_empty()
        || ["items", "additionalProperties"].into_iter().any(|name| schema.get(name).is_some_and(below))
        || schema.map(&["properties"]).into_iter().flatten().any(|(_, field)| below(field))
        || schema.list(&["allOf"]).iter().any(below)
}

/// The rules that `said` has for data that `node` describes: the same schema, or one within its `allOf`.
pub(super) fn validator(
    said: &Value,
    node: &Value,
    is_root: bool,
    expressions: Expressions,
    depth: usize,
) -> Option<Rules> {
    if depth > MAX_DEPTH || !has_rules(said, 0) {
        return None;
    }
    let embedded = |schema: &Value| schema.flag(&["x-kubernetes-embedded-resource"]) == Some(true);
    let below = |name: &str| {
        let (said, node) = (said.get(name)?, node.get(name)?);
        validator(said, node, embedded(node), expressions, depth + 1).map(Box::new)
    };
    let mut properties = BTreeMap::new();
    for (name, said) in said.map(&["properties"]).into_iter().flatten() {
        let Some(node) = node.at(&["properties", name]) else { continue };
        if let Some(rules) = validator(said, node, embedded(node), expressions, depth + 1) {
            properties.insert(name.as_str().into(), rules);
        }
    }
    let all_of = said.list(&["allOf"]).iter();
    let all_of = all_of.filter_map(|said| validator(said, node, is_root, expressions, depth + 1)).collect();
    let rules = said.list(&[RULES]);
    let decl = (!rules.is_empty()).then(|| Arc::new(Decl::from_schema(node, "selfType", is_root)));
    let own = match &decl {
        None => Ok(Vec::new()),
        Some(decl) if decl.cel_type().is_none() => {
            Err("failed to convert to declType for CEL validation rules".to_owned())
        }
        Some(decl) => Ok(rules.iter().map(|text| rule(text, decl, expressions)).collect()),
    };
    let keys = node.list(&["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(Into::into);
    Some(Rules {
        type_name: node.text(&["type"]).into(),
        own,
        decl,
        items: below("items"),
        additional: below("additionalProperties"),
        properties,
        all_of,
        map_keys: (node.text(&["x-kubernetes-list-type"]) == "map").then(|| keys.collect()),
    })
}

fn rule(written: &Value, decl: &Arc<Decl>, expressions: Expressions) -> Rule {
    let optional_old_self = written.flag(&["optionalOldSelf"]) == Some(true);
    let env = environment(expressions, decl, optional_old_self);
    let program = compiled(&env, written.text(&["rule"]));
    let message = written.text(&["messageExpression"]);
    let message_expression = (!message.is_empty()).then(|| env.compile(message, Some(&Type::String)).ok()).flatten();
    Rule {
        text: written.text(&["rule"]).into(),
        message: written.text(&["message"]).into(),
        message_expression,
        reason: written.text(&["reason"]).into(),
        optional_old_self,
        field_path: written.text(&["fieldPath"]).trim_start_matches('.').into(),
        uses_old_self: program.as_ref().is_ok_and(|program| program.uses("oldSelf")),
        program,
    }
}

/// A program that says yes or no.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(super) fn compiled(env: &Env, text: &str) -> Result<Program, String> {
    let checked = env.check(text).map_err(|err| format!("compilation failed: {err}"))?;
    if *checked.result_type() != Type::Bool {
        return Err("cel expression must evaluate to a bool".to_owned());
    }
    checked.program().map_err(|err: CompileErrors| format!("program instantiation failed: {err}"))
}
