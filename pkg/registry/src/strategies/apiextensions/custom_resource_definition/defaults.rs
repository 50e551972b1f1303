//! Defaults: each is a valid value of its schema, and has no field that the schema does not know.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::go;
use super::hooks::{Defaults, Engines};
use super::schema::Schema;
use kedge_meta::field::GoText;

/// What the rules that judge the defaults of a schema may cost together.
const BUDGET: i64 = 10_000_000;

/// A step from a resource to a place within it.
#[derive(Clone)]
enum Step<'a> {
    Field(&'a str),
    Item,
}

/// A walk over the defaults of a schema.
struct Walk<'w> {
    engine: &'w dyn Defaults,
    pruned: bool,
    budget: i64,
    errors: ErrorList,
}

/// Where the walk is.
#[derive(Clone)]
struct Place<'a> {
    path: Path,
    /// The resource around it, and the way from there.
    resource: Schema<'a>,
    steps: Vec<Step<'a>>,
    /// Within the resource's `apiVersion`, `kind` or `metadata`.
    in_meta: bool,
}

/// What is wrong with the defaults of a structural schema.
pub(super) fn validate(schema: Schema<'_>, path: &Path, pruned: bool, engines: &Engines) -> ErrorList {
    let Some(engine) = &engines.defaults else { return ErrorList::new() };
    let mut walk = Walk { engine: &**engine, pruned, budget: BUDGET, errors: ErrorList::new() };
    let root = Place { path: path.clone(), resource: schema, steps: Vec::new(), in_meta: false };
    walk.schema(schema, root, true);
    walk.errors
}

/// Whether a structural schema has defaults with fields that it does not know.
pub(super) fn are_unpruned(schema: Schema<'_>, engines: &Engines) -> bool {
    let Some(engine) = &engines.defaults else { return false };
    let differs = |schema: Schema<'_>| {
        let Some(default) = schema.default() else { return false };
        let mut pruned = default.clone();
        engine.prune(schema.0, &mut pruned, schema.embeds());
        pruned != *default
    };
    schema.any(&mut |schema| differs(schema))
}

impl Walk<'_> {
    fn schema<'a>(&mut self, schema: Schema<'a>, mut place: Place<'a>, is_root: bool) {
        let is_resource = is_root || schema.embeds();
        if is_resource {
            place = Place { path: place.path, resource: schema, steps: Vec::new(), in_meta: false };
        }
        if let Some(default) = schema.default() {
            self.default(schema, default, &place, is_resource);
        }
        // There are none within additionalProperties of metadata, and those within others apply to nothing.
        if let Some(item) = schema.item().filter(|_| self.budget >= 0) {
            let steps = [place.steps.as_slice(), &[Step::Item]].concat();
            let (path, in_meta) = (place.path.child("items"), place.in_meta);
            self.schema(item, Place { path, resource: place.resource, steps, in_meta }, false);
        }
        for (name, property) in schema.map("properties") {
            if self.budget < 0 {
                return;
            }
            let in_meta = place.in_meta || (is_resource && matches!(name, "metadata" | "apiVersion" | "kind"));
            let steps = [place.steps.as_slice(), &[Step::Field(name)]].concat();
            let path = place.path.child("properties").key(name);
            self.schema(property, Place { path, resource: place.resource, steps, in_meta }, false);
        }
    }

    fn default(&mut self, schema: Schema<'_>, default: &Value, place: &Place<'_>, is_resource: bool) {
        let path = place.path.child("default");
        if place.in_meta {
            let resource = surround(default, &place.steps);
            let errors = self.engine.check_metadata(&Path::default(), place.resource.0, &resource, true);
            if !errors.is_empty() {
                let why = format!("must result in valid metadata: {}", together(&errors));
                self.errors.push(Error::invalid(&path, GoText(go::json(default)), why));
                return;
            }
        } else {
            if self.pruned {
                let mut pruned = default.clone();
                self.engine.prune(schema.0, &mut pruned, is_resource);
                if pruned != *default {
                    let shown = GoText(go::json(default));
                    self.errors.push(Error::invalid(&path, shown, "must not have unknown fields"));
                }
            }
            let errors = self.engine.check_metadata(&path, schema.0, default, is_resource);
            if !errors.is_empty() {
                return self.errors.extend(errors);
            }
        }
        let mut errors = self.engine.check_value(&path, schema.0, default);
        if errors.is_empty() {
            errors = self.engine.check_rules(&path, schema.0, default, is_resource, &mut self.budget);
        }
        self.errors.extend(errors);
    }
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
