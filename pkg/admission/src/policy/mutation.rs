//! What a MutatingAdmissionPolicy makes of an object.

use kedge_cel::admission::{Compiler, Purpose};
use kedge_cel::limits::RUNTIME_COST_BUDGET;
use kedge_cel::{Budget, Struct, Value as Expressed};
use kedge_fields::{Type, atomics, merge, validate};
use kedge_meta::Status;
use kedge_patch::PatchError;
use kedge_registry::value::ValueExt as _;
use kedge_schema::SchemaRef;
use serde_json::{Map, Value};

use super::definition::{Policy, Rules};
use crate::expressions::{Expression, Given, Scope};
use crate::matching::Target;

/// The rules of a MutatingAdmissionPolicy.
#[derive(Debug)]
pub(crate) struct Mutations {
    pub steps: Box<[Mutation]>,
    /// Whether it wants to see an object again that others have changed.
    pub reinvoked: bool,
}

#[derive(Debug)]
pub(crate) enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

/// Why an object is not changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Failed {
    /// What the failure policy is about.
    Policy(String),
    /// The request cannot go on.
    Request(Box<Status>),
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Policy(why)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Request(Box::new(status))
    }
}

impl Rules for Mutations {
    fn read(spec: &Value, compiler: &mut Compiler) -> Self {
        let mut step = |one: &Value| {
            let text = |field: &str| one.text(&[field, "expression"]).to_owned();
            match one.text(&["patchType"]) {
                "JSONPatch" => Mutation::Patch(Expression::compile(compiler, &text("jsonPatch"), Purpose::JsonPatch)),
                _ => {
                    let text = text("applyConfiguration");
                    Mutation::Apply(Expression::compile(compiler, &text, Purpose::ApplyConfiguration))
                }
            }
        };
        Self {
            steps: spec.list(&["mutations"]).iter().map(&mut step).collect(),
            reinvoked: spec.text(&["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

impl Policy<Mutations> {
    /// The object after a step, in the version that the policy sees.
    pub(crate) fn changed(&self, mutation: &Mutation, given: &Given<'_>, target: &Target) -> Result<Value, Failed> {
        let Some(schema) = &target.schema else { return Err(no_schema(target).into()) };
        let budget = Budget::new(RUNTIME_COST_BUDGET);
        let scope = Scope::new(given, &self.variables, &budget);
        let scope = scope.closed();
        match mutation {
            Mutation::Apply(expression) => {
                let applied = match evaluated(scope, expression)? {
                    Expressed::Struct(object) => object,
                    other => {
                        let of = other.type_name();
                        return Err(format!("unsupported return type from ApplyConfiguration expression: {of}").into());
                    }
                };
                check_names(&applied)?;
                let applied = Expressed::Struct(applied).to_json().map_err(|err| err.to_string())?;
                Ok(apply(schema, given.object, applied).map_err(|why| format!("error applying patch: {why}"))?)
            }
            Mutation::Patch(expression) => {
                let patch = operations(&evaluated(scope, expression)?)?;
                match kedge_patch::json::apply(given.object, &Value::Array(patch)) {
                    Ok(patched) => strictly(schema, patched),
                    // A patch whose test fails is none.
                    Err(PatchError::TestFailed(_)) => Ok(given.object.clone()),
                    Err(why) => Err(format!("JSON Patch: {why}").into()),
                }
            }
        }
    }
}

fn evaluated<'a>(scope: &'a Scope<'a>, expression: &Expression) -> Result<Expressed<'a>, String> {
    if let Err(why) = &expression.program {
        return Err(why.to_string());
    }
    scope.evaluate(expression).map_err(|exhausted| exhausted.to_string())?
}

fn no_schema(target: &Target) -> Status {
    let kind = &target.kind;
    let gvk = format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind);
    Status::unavailable(format!(
        "Resource kind {gvk} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
    ))
}

/// Lays what a policy applies over an object.
fn apply(schema: &SchemaRef, object: &Value, mut applied: Value) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        applied[field] = object[field].clone();
    }
    let ty = Type::of(schema);
    validate(ty, &applied, false).map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    // Somebody who means to set some fields of one value would remove all the others.
    let found = atomics(ty, &applied);
    if !found.is_empty() {
        let which = found.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {which}"));
    }
    validate(ty, object, true).map_err(|why| format!("failed to convert original object to typed object: {why}"))?;
    merge(ty, object, &applied).map_err(|why| format!("failed to merge patch: {why}"))
}

/// What is patched is read strictly, where there is a built-in type to read it by.
fn strictly(schema: &SchemaRef, patched: Value) -> Result<Value, Failed> {
    if matches!(schema, SchemaRef::Builtin(_)) {
        let mut strict = Vec::new();
        schema.conform(&mut patched.clone(), &mut strict).map_err(Status::internal)?;
        if !strict.is_empty() {
            let all: Vec<String> = strict.iter().map(ToString::to_string).collect();
            return Err(Status::internal(format!("strict decoding error: {}", all.join(", "))).into());
        }
    }
    Ok(patched)
}

fn operations(list: &Expressed<'_>) -> Result<Vec<Value>, String> {
    const MISMATCH: &str = "type mismatch: JSONPatchType.expression should evaluate to array";
    let Expressed::List(list) = list else { return Err(MISMATCH.to_owned()) };
    let operation =
        |element: Result<Expressed<'_>, kedge_cel::EvalError>| match element.map_err(|err| err.to_string())? {
            Expressed::Struct(one) if &*one.name == "JSONPatch" => operation(&one),
            other => Err(format!("{MISMATCH} of JSONPatch, got element of {}", other.type_name())),
        };
    list.iter().map(operation).collect()
}

fn operation(one: &Struct<'_>) -> Result<Value, String> {
    let mut written = Map::new();
    for (name, value) in &one.fields {
        match value {
            Expressed::Struct(object) if &**name == "value" => check_names(object)?,
            Expressed::String(text) if text.is_empty() && &**name == "from" => continue,
            _ => {}
        }
        let value = value.to_json().map_err(|err| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {err}")
        })?;
        written.insert(name.to_string(), value);
    }
    // What is not said is empty.
    for name in ["op", "path"] {
        written.entry(name).or_insert_with(|| "".into());
    }
    Ok(written.into())
}

/// Objects are named after the place that they are put in.
fn check_names(object: &Struct<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    names(object, &object.name, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

fn names(object: &Struct<'_>, wanted: &str, wrong: &mut Vec<String>) {
    if *object.name != *wanted {
        wrong.push(format!(
            "unexpected type name {:?}, expected {wanted:?}, which matches field name path from root Object type",
            object.name
        ));
    }
    object.fields.iter().for_each(|(name, value)| names_in(value, &format!("{wanted}.{name}"), wrong));
}

fn names_in(value: &Expressed<'_>, wanted: &str, wrong: &mut Vec<String>) {
    match value {
        Expressed::Struct(object) => names(object, wanted, wrong),
        Expressed::List(list) => list.iter().flatten().for_each(|element| names_in(&element, wanted, wrong)),
        Expressed::Map(map) => {
            map.entries().filter_map(|(_, value)| value.ok()).for_each(|value| names_in(&value, wanted, wrong));
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
