//! Defaults: each is a valid value of its schema, and has no field that the schema does not know.

use kedge_meta::Text;
use kedge_meta::field::{Error, ErrorList, GoText, Path};
use kedge_meta::names;
use kedge_schema::structural::{Node, Structural, check, check_embedded};
use serde_json::{Value, json};

use super::go;
use super::hooks::Engines;
use super::schema::Schema;
use crate::metadata;
use crate::strategy::Strategy;
use crate::value::ValueExt;

/// What the rules that judge the defaults of a schema may cost together.
const BUDGET: i64 = 10_000_000;
/// Fields that all resources have.
const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A step from a resource to a place within it.
#[derive(Clone)]
enum Step<'a> {
    Field(&'a str),
    Item,
}

/// A walk over the defaults of a schema.
struct Walk<'w> {
    engines: &'w Engines,
    pruned: bool,
    budget: i64,
    errors: ErrorList,
}

/// Where the walk is.
#[derive(Clone)]
struct Place<'a> {
    path: Path,
    /// The resource around it, and the way from there.
    resource: &'a Node,
    steps: Vec<Step<'a>>,
    /// Within the resource's `apiVersion`, `kind` or `metadata`.
    in_meta: bool,
}

/// What is wrong with the defaults of a structural schema.
pub(super) fn validate(schema: Schema<'_>, path: &Path, pruned: bool, engines: &Engines) -> ErrorList {
    if !schema.any(&mut |schema| schema.default().is_some()) {
        return ErrorList::new();
    }
    let mut walk = Walk { engines, pruned, budget: BUDGET, errors: ErrorList::new() };
    match Structural::parse(Text::default(), schema.0) {
        Ok(structural) => {
            // The root is a resource as well.
            let root = Node { embedded: true, ..structural.root().clone() };
            let place = Place { path: path.clone(), resource: &root, steps: Vec::new(), in_meta: false };
            walk.schema(schema, &root, place, true);
        }
        Err(why) => walk.errors.push(Error::invalid(path, "", why.to_string())),
    }
    walk.errors
}

/// Whether a structural schema has defaults with fields that it does not know.
pub(super) fn are_unpruned(schema: Schema<'_>) -> bool {
    schema
        .any(&mut |schema| schema.default().is_some_and(|default| is_unpruned(default, Some(schema), schema.embeds())))
}

/// Whether a value has a field that pruning drops.
fn is_unpruned(value: &Value, schema: Option<Schema<'_>>, is_resource: bool) -> bool {
    let keeps = schema.is_some_and(Schema::preserves);
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let Some(schema) = schema else { return true };
            if (is_resource || schema.embeds()) && OWN.contains(&name.as_str()) {
                return false;
            }
            match (schema.property(name), schema.additional()) {
                (Some(property), _) => is_unpruned(value, Some(property), false),
                (None, Some(additional)) => is_unpruned(value, additional.schema(), false),
                (None, None) => !keeps,
            }
        }),
        // What no schema speaks of in what keeps all stays.
        Value::Array(items) => match schema.and_then(Schema::item) {
            None if keeps => false,
            item => items.iter().any(|value| is_unpruned(value, item, false)),
        },
        _ => false,
    }
}

impl Walk<'_> {
    fn schema<'a>(&mut self, schema: Schema<'a>, node: &'a Node, mut place: Place<'a>, is_root: bool) {
        let is_resource = is_root || schema.embeds();
        if is_resource {
            place = Place { path: place.path, resource: node, steps: Vec::new(), in_meta: false };
        }
        if let Some(default) = schema.default() {
            self.default(schema, node, default, &place, is_resource);
        }
        // Upstream does not look into additionalProperties, whose defaults stand for null alone.
        if let (Some(item), Some(node)) = (schema.item(), node.items.as_deref().filter(|_| self.budget >= 0)) {
            let steps = [place.steps.as_slice(), &[Step::Item]].concat();
            self.schema(item, node, Place { path: place.path.child("items"), steps, ..place.clone() }, false);
        }
        for (name, property) in schema.map("properties") {
            let Some(node) = node.properties.get(name).filter(|_| self.budget >= 0) else { continue };
            let in_meta = place.in_meta || (is_resource && OWN.contains(&name));
            let steps = [place.steps.as_slice(), &[Step::Field(name)]].concat();
            let path = place.path.child("properties").key(name);
            self.schema(property, node, Place { path, resource: place.resource, steps, in_meta }, false);
        }
    }

    fn default(&mut self, schema: Schema<'_>, node: &Node, default: &Value, place: &Place<'_>, is_resource: bool) {
        let path = place.path.child("default");
        let shown = || GoText(go::json(default));
        if place.in_meta {
            let errors = resources(place.resource, &surround(default, &place.steps));
            if !errors.is_empty() {
                let why = format!("must result in valid metadata: {}", together(&errors));
                return self.errors.push(Error::invalid(&path, shown(), why));
            }
        } else {
            if self.pruned && is_unpruned(default, Some(schema), is_resource) {
                self.errors.push(Error::invalid(&path, shown(), "must not have unknown fields"));
            }
            let errors = resources(node, default);
            if !errors.is_empty() {
                return self.errors.extend(below(&path, errors));
            }
        }
        let mut errors = below(&path, check(node, default, None));
        // Upstream leaves defaults of such places unlooked at.
        errors.retain(|error| !error.detail.contains(" in body must be of type integer,string:"));
        if errors.is_empty()
            && let Some(rules) = &self.engines.rules
        {
            errors = rules.check_default(&path, schema.0, default, is_resource, &mut self.budget);
        }
        self.errors.extend(errors);
    }
}

/// What is wrong with the resources in a value: what they are called and what kind they say they are, then their metadata.
fn resources(node: &Node, value: &Value) -> ErrorList {
    let mut errors = check_embedded(node, value);
    if errors.is_empty() {
        metadata_of(node, value, &Path::default(), &mut errors);
    }
    errors
}

fn metadata_of(node: &Node, value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::Object(fields) => {
            if let Some(mut meta) = fields.get("metadata").filter(|meta| node.embedded && meta.is_object()).cloned() {
                // Any name will do, so that none is as good.
                if meta.text(&["name"]).is_empty() {
                    meta.set("name", "some");
                }
                let resource =
                    json!({"apiVersion": fields.get("apiVersion"), "kind": fields.get("kind"), "metadata": meta});
                errors.extend(below(path, metadata::validate(&resource, &Embedded)));
            }
            for (name, value) in fields {
                if let Some(field) = node.properties.get(name.as_str()).or(node.additional.as_deref()) {
                    metadata_of(field, value, &path.child(name), errors);
                }
            }
        }
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                if let Some(items) = &node.items {
                    metadata_of(items, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

/// Of an embedded resource nothing is known but that names are parts of paths.
struct Embedded;

impl Strategy for Embedded {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }
}

/// Errors of a value, whose paths begin there, at the place of the value.
fn below(path: &Path, errors: ErrorList) -> ErrorList {
    let root = Path::default().to_string();
    if path.to_string() == root {
        return errors;
    }
    let place = |mut error: Error| {
        error.field = match error.field.strip_prefix(&root) {
            Some(_) => path.to_string(),
            None if error.field.starts_with('[') => format!("{path}{}", error.field),
            None => format!("{path}.{}", error.field),
        };
        // The name of the value itself is empty in what is said of it.
        if let Some(rest) = error.detail.strip_prefix(&root) {
            error.detail = rest.to_owned();
        }
        error
    };
    errors.into_iter().map(place).collect()
}

/// Several errors in one text.
fn together(errors: &ErrorList) -> String {
    match errors.as_slice() {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A resource that has the value at the end of the steps.
fn surround(value: &Value, steps: &[Step<'_>]) -> Value {
    let mut resource = steps.iter().rev().fold(value.clone(), |value, step| match step {
        Step::Field(name) => json!({ *name: value }),
        Step::Item => json!([value]),
    });
    if let Value::Object(fields) = &mut resource {
        fields.entry("kind").or_insert_with(|| "Validation".into());
        fields.entry("apiVersion").or_insert_with(|| "validation/v1".into());
    }
    resource
}
