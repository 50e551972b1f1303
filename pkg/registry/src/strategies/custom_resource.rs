//! Objects of kinds that came while the server runs: what their definition says of them.

use std::sync::{Arc, OnceLock};

use kedge_meta::field::{Error, ErrorList, ErrorType, Path};
use kedge_meta::{GroupResource, Status, names};
use kedge_schema::ResourceInfo;
use kedge_schema::structural::{self, Structural};
use serde_json::Value;

use super::rules::Rules;
use crate::served::{Custom, ScalePaths};
use crate::strategy::{Context, Reservation, Strategy};
use crate::value::ValueExt as _;

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// A version of such a kind.
pub struct CustomResource {
    schema: Arc<Structural>,
    custom: Arc<Custom>,
    /// Compiled when they are first needed.
    rules: OnceLock<Option<Rules>>,
}

impl CustomResource {
    /// Of a schema, and what else is said of the version.
    pub fn new(schema: Arc<Structural>, custom: Arc<Custom>) -> Self {
        Self { schema, custom, rules: OnceLock::new() }
    }

    /// Adds what an object breaks of the rules in CEL, which are only asked about objects that are otherwise in order. The client is warned of
    /// what is let go because it was so before.
    fn rules(&self, ctx: &Context<'_>, new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
        let rules = self.rules.get_or_init(|| self.schema.source().as_ref().and_then(Rules::of));
        let Some(rules) = rules else { return };
        let blocks = |error: &Error| {
            use ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
            matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
        };
        if errors.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
                       to complete validation";
            errors.push(Error::invalid(&Path::default(), Value::Null, why));
            return;
        }
        let verdict = rules.check(new, old);
        errors.extend(verdict.errors);
        ctx.notes.warn_all(verdict.let_go.iter().map(ToString::to_string));
    }

    /// What an object breaks.
    fn faults(&self, ctx: &Context<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
        let mut errors = self.schema.validate(new, old);
        if let Some(scale) = &self.custom.scale {
            spec_replicas(scale, new, &mut errors);
            status_replicas(scale, new, &mut errors);
        }
        let root = self.schema.root();
        errors.extend(structural::check_embedded(root, new));
        let twice_before = old.is_some_and(|old| !structural::check_lists(root, old).is_empty());
        if !twice_before {
            errors.extend(structural::check_lists(root, new));
        }
        self.rules(ctx, new, old, &mut errors);
        errors
    }

    fn status_faults(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = self.schema.root();
        if let (Some(status), Some(node)) = (new.get("status"), root.properties.get("status")) {
            let found = structural::check(node, status, old.get("status"));
            errors.extend(found.into_iter().map(below_status));
        }
        if let Some(scale) = &self.custom.scale {
            status_replicas(scale, new, &mut errors);
        }
        let twice_before = !structural::check_lists(root, old).is_empty();
        if !twice_before {
            errors.extend(structural::check_lists(root, new));
        }
        self.rules(ctx, new, Some(old), &mut errors);
        errors
    }
}

/// An error about a status, as one about its object. The status itself has no name in what is said of it.
fn below_status(error: Error) -> Error {
    let status = Path::new("status");
    if error.field != "<nil>" {
        return Error { field: status.child(&error.field).to_string(), ..error };
    }
    let detail = error.detail.strip_prefix("<nil> in body").map(|rest| format!(" in body{rest}"));
    Error { field: status.to_string(), detail: detail.unwrap_or_else(|| error.detail.clone()), ..error }
}

impl Strategy for CustomResource {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, ctx: &Context<'_>, object: &Value) -> ErrorList {
        self.faults(ctx, object, None)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        self.faults(ctx, new, Some(old))
    }

    fn validate_status_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        self.status_faults(ctx, new, old)
    }

    fn reserve(&self, ctx: &Context<'_>, new: &mut Value, old: Option<&Value>) -> Result<Reservation, Status> {
        if old.is_none() && self.custom.terminating {
            let resource = GroupResource::new(&ctx.resource.group, &ctx.resource.plural);
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&resource, new.name(), why));
        }
        Ok(Reservation::none())
    }

    fn warnings(&self, ctx: &Context<'_>, new: &Value, old: Option<&Value>) -> Vec<String> {
        if !ctx.subresource.is_empty() {
            return Vec::new();
        }
        let had = |name: &str| {
            old.is_some_and(|old| old.list(&["metadata", "finalizers"]).iter().any(|finalizer| finalizer == name))
        };
        let mut finalizers: Vec<&str> =
            new.list(&["metadata", "finalizers"]).iter().filter_map(Value::as_str).filter(|name| !had(name)).collect();
        finalizers.sort_unstable();
        finalizers.dedup();
        finalizers.into_iter().flat_map(finalizer_warnings).collect()
    }
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let says = |why: &str| format!("metadata.finalizers: {name:?}: {why}");
    let mut warnings: Vec<String> = names::is_qualified_name(name).iter().map(|why| says(why)).collect();
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        let others = "to avoid accidental conflicts with other finalizer writers";
        warnings.push(says(&format!("prefer a domain-qualified finalizer name{path} {others}")));
    }
    warnings
}

/// The value at a place, if there is one.
///
/// # Errors
/// When something on the way, or itself, is not of its type; in the words of upstream.
pub(crate) fn nested<'a, T>(
    object: &'a Value,
    path: &str,
    type_name: &str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, String> {
    let steps: Vec<&str> = ScalePaths::steps(path).collect();
    let mut value = object;
    for (at, step) in steps.iter().enumerate() {
        let shown = |steps: &[&str]| format!(".{}", steps.join("."));
        let Some(fields) = value.as_object() else {
            let (way, is) = (shown(&steps[..=at]), go_type(value));
            return Err(format!(
                "{way} accessor error: {} is of the type {is}, expected map[string]interface{{}}",
                go_text(value)
            ));
        };
        match fields.get(*step) {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    let is = || {
        format!(
            ".{} accessor error: {} is of the type {}, expected {type_name}",
            steps.join("."),
            go_text(value),
            go_type(value)
        )
    };
    read(value).map(Some).ok_or_else(is)
}

fn go_text(value: &Value) -> String {
    kedge_patch::go_text(value)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn replicas(path: &str, object: &Value, errors: &mut ErrorList) {
    let place = Path::new(path);
    match nested(object, path, "int64", Value::as_i64) {
        Err(why) => errors.push(Error::invalid(&place, 0, why)),
        Ok(Some(count)) if count < 0 => {
            errors.push(Error::invalid(&place, count, "should be a non-negative integer"));
        }
        Ok(Some(count)) if count > i64::from(i32::MAX) => {
            errors.push(Error::invalid(&place, count, format!("should be less than or equal to {}", i32::MAX)));
        }
        Ok(_) => {}
    }
}

fn spec_replicas(scale: &ScalePaths, object: &Value, errors: &mut ErrorList) {
    replicas(&scale.spec_replicas, object, errors);
}

fn status_replicas(scale: &ScalePaths, object: &Value, errors: &mut ErrorList) {
    replicas(&scale.status_replicas, object, errors);
    if let Some(path) = &scale.label_selector
        && let Err(why) = nested(object, path, "string", Value::as_str)
    {
        errors.push(Error::invalid(&Path::new(path), "", why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_meta::Text;
    use serde_json::json;

    #[test]
    fn finalizers_are_better_named_by_domains() {
        assert!(finalizer_warnings("example.org/clean").is_empty());
        assert!(finalizer_warnings("orphan").is_empty());
        let path = "metadata.finalizers: \"a.b\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers";
        assert_eq!(finalizer_warnings("a.b"), [path]);
        assert_eq!(finalizer_warnings("-").len(), 2);
    }

    #[test]
    fn faults_of_a_status_are_those_of_its_object() {
        let error = |field: &str| {
            let path = if field.is_empty() { Path::default() } else { Path::new(field) };
            let told =
                below_status(Error::type_invalid(&path, "string", format!("{path} in body must be of type object")));
            told.to_string()
        };
        assert_eq!(error(""), r#"status: Invalid value: "string":  in body must be of type object"#);
        assert_eq!(error("a"), r#"status.a: Invalid value: "string": a in body must be of type object"#);
    }

    #[test]
    fn replicas_are_counts() {
        let scale = ScalePaths {
            spec_replicas: Text::of(".spec.replicas"),
            status_replicas: Text::of(".status.replicas"),
            label_selector: Some(Text::of(".status.selector")),
        };
        let check = |object: Value| {
            let mut errors = ErrorList::new();
            spec_replicas(&scale, &object, &mut errors);
            status_replicas(&scale, &object, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(check(json!({})).is_empty());
        assert_eq!(
            check(json!({"spec": {"replicas": -1}})),
            [".spec.replicas: Invalid value: -1: should be a non-negative integer"]
        );
        assert_eq!(
            check(json!({"spec": {"replicas": "x"}})),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: x is of the type string, expected int64"
            ]
        );
        assert_eq!(check(json!({"status": {"selector": 1}})).len(), 1);
        assert_eq!(
            check(json!({"spec": 3})),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: 3 is of the type int64, expected map[string]interface{}"
            ]
        );
    }
}
