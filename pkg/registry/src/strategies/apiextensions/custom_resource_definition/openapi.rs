//! A walk over a schema, keyword by keyword.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::cost::{self, Total};
use super::lists;
use super::options::{KNOWN_TYPES, Options, is_known_type};
use super::rules::{self, Judge};
use super::schema::{Additional, Items, Schema};

/// What was found. What is wrong with rules comes after all that is wrong with schemas.
#[derive(Default)]
pub(super) struct Found {
    pub schema: ErrorList,
    pub rules: ErrorList,
}

impl Found {
    fn add(&mut self, below: Found) {
        self.schema.extend(below.schema);
        self.rules.extend(below.rules);
    }
}

/// Where the walk is.
#[derive(Clone)]
struct Place {
    path: Path,
    is_root: bool,
    /// Within `apiVersion`, `kind` or `metadata` of a resource.
    in_meta: bool,
    /// Why there is no default here.
    no_default: Option<String>,
    /// The first schema above whose old and new values cannot be told which belongs to which.
    uncorrelated: Option<Path>,
    /// Where rules are compiled: how many such places a resource has at most, none for as many as one likes.
    rules: Option<Option<u64>>,
}

impl Place {
    /// Below a keyword, where no rules are compiled.
    fn nested(&self, path: Path) -> Self {
        Self { path, is_root: false, rules: None, ..self.clone() }
    }

    /// Below a keyword that says of what a value consists.
    fn child(&self, schema: Schema<'_>, path: Path) -> Self {
        let times = |above: Option<u64>| Some(above?.saturating_mul(cost::elements(schema)?));
        Self { path, is_root: false, rules: self.rules.map(times), ..self.clone() }
    }

    fn without_default(mut self, why: String) -> Self {
        self.no_default = Some(why);
        self
    }

    fn uncorrelated(mut self, by: &Path) -> Self {
        self.uncorrelated.get_or_insert_with(|| by.clone());
        self
    }
}

/// The walk.
pub(super) struct Walk<'w> {
    pub options: &'w Options<'w>,
    /// Whether rules are held to what each may cost.
    pub limits_cost: bool,
    pub total: Total,
}

impl Walk<'_> {
    /// What is wrong with a schema; its rules are compiled only where it is structural.
    pub fn root(&mut self, schema: Schema<'_>, path: &Path, compiles: bool) -> Found {
        let place = Place {
            path: path.clone(),
            is_root: true,
            in_meta: false,
            no_default: None,
            uncorrelated: None,
            rules: compiles.then_some(Some(1)),
        };
        self.schema(schema, &place)
    }

    fn schema(&mut self, schema: Schema<'_>, place: &Place) -> Found {
        let mut found = Found::default();
        self.keywords(schema, place, &mut found.schema);
        self.properties(schema, place, &mut found);
        self.junctors(schema, place, &mut found);
        self.items(schema, place, &mut found);
        for (name, dependency) in schema.map("dependencies").filter(|(_, dependency)| dependency.0.is_object()) {
            found.add(self.schema(dependency, &place.nested(place.path.child("dependencies").key(name))));
        }
        lists::check(schema, &place.path, self.options, &mut found.schema);
        rules::check_form(schema, &place.path, &mut found.schema);
        // A schema that is wrong here or below makes errors of rules that go when it is right.
        if let Some(cardinality) = place.rules.filter(|_| found.schema.is_empty() && !schema.rules().is_empty()) {
            self.rules(schema, place, cardinality, &mut found.rules);
        }
        found
    }

    /// What a schema must not have, here or at all.
    fn keywords(&self, schema: Schema<'_>, place: &Place, errors: &mut ErrorList) {
        let path = &place.path;
        if self.options.known_types && !is_known_type(schema.kind()) {
            errors.push(Error::not_supported_of(&path.child("type"), schema.kind(), KNOWN_TYPES));
        }
        if let Some(why) = place.no_default.as_deref().filter(|_| schema.default().is_some()) {
            errors.push(Error::forbidden(&path.child("default"), format!("must not be set {why}")));
        }
        for (key, is) in [
            ("id", !schema.text("id").is_empty()),
            ("additionalItems", schema.has_key("additionalItems")),
            ("patternProperties", schema.has_entries("patternProperties")),
            ("definitions", schema.has_entries("definitions")),
            ("dependencies", schema.has_key("dependencies")),
            ("$ref", schema.has_key("$ref")),
        ] {
            if is {
                errors.push(Error::forbidden(&path.child(key), format!("{key} is not supported")));
            }
        }
        if schema.kind() == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            errors.push(Error::forbidden(&path.child("type"), why));
        }
        if matches!(schema.items(), Items::Many(many) if !many.is_empty()) {
            errors.push(Error::forbidden(&path.child("items"), "items must be a schema object and not an array"));
        }
        if place.in_meta && schema.embeds() {
            let path = path.child("x-kubernetes-embedded-resource");
            errors.push(Error::forbidden(&path, "must not be used inside of resource meta"));
        }
        if schema.flag("uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(Error::forbidden(&path.child("uniqueItems"), why));
        }
    }

    fn properties(&mut self, schema: Schema<'_>, place: &Place, found: &mut Found) {
        let additional = schema.additional();
        if let Some(additional) = additional {
            let path = place.path.child("additionalProperties");
            // Fields that are not named are ignored where some are named; either is a struct or a map.
            if schema.has_entries("properties") && !matches!(additional, Additional::Bool(true)) {
                let why = "additionalProperties and properties are mutual exclusive";
                found.schema.push(Error::forbidden(&path, why));
            }
            let mut below = place.child(schema, path);
            if place.in_meta {
                below = below.without_default("inside additionalProperties applying to object metadata".to_owned());
            }
            if let Some(additional) = additional.schema() {
                found.add(self.schema(additional, &below));
            }
        }
        let correlates = matches!(schema.optional("x-kubernetes-map-type"), None | Some("granular" | "atomic"));
        for (name, property) in schema.map("properties") {
            let mut below = place.child(schema, place.path.child("properties").key(name));
            if !correlates {
                below = below.uncorrelated(&place.path);
            }
            if (place.is_root || schema.embeds()) && matches!(name, "metadata" | "kind" | "apiVersion") {
                below.in_meta = true;
                if place.is_root {
                    below = below.without_default(format!("in top-level {name}"));
                }
            }
            found.add(self.schema(property, &below));
        }
    }

    fn junctors(&mut self, schema: Schema<'_>, place: &Place, found: &mut Found) {
        if let Some(not) = schema.not() {
            found.add(self.schema(not, &place.nested(place.path.child("not"))));
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            for (i, one) in schema.schemas(key).enumerate() {
                found.add(self.schema(one, &place.nested(place.path.child(key).index(i))));
            }
        }
        for (name, definition) in schema.map("definitions") {
            found.add(self.schema(definition, &place.nested(place.path.child("definitions").key(name))));
        }
    }

    fn items(&mut self, schema: Schema<'_>, place: &Place, found: &mut Found) {
        let below = |path: Path| {
            let below = place.child(schema, path);
            // Only items with keys can be told which is which; what says nothing is replaced as a whole.
            match schema.optional("x-kubernetes-list-type") {
                Some("map") => below,
                _ => below.uncorrelated(&place.path),
            }
        };
        let path = place.path.child("items");
        match schema.items() {
            Items::Absent => {}
            Items::One(item) => found.add(self.schema(item, &below(path))),
            Items::Many(many) => {
                for (i, item) in many.iter().map(Schema).enumerate() {
                    found.add(self.schema(item, &below(path.index(i))));
                }
            }
        }
    }

    fn rules(&mut self, schema: Schema<'_>, place: &Place, cardinality: Option<u64>, errors: &mut ErrorList) {
        let Some(engine) = &self.options.engines.rules else { return };
        match engine.compile(schema.0, place.is_root || schema.embeds(), &self.options.known) {
            Err(why) => errors.push(internal(&rules::place(&place.path), &why)),
            Ok(all) => {
                let uncorrelated = place.uncorrelated.as_ref();
                let judge = Judge { cardinality, uncorrelated, limits_cost: self.limits_cost };
                judge.check(schema, &place.path, &all, &mut self.total, errors);
            }
        }
    }
}

fn internal(path: &Path, why: &str) -> Error {
    let kind = kedge_meta::field::ErrorType::Internal;
    Error { kind, field: path.to_string(), value: Value::Null, detail: why.to_owned() }
}
