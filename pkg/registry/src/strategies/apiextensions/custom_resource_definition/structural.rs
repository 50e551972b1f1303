//! Whether a schema is structural: every field that a validation speaks of has a place, and that place a type.
//!
//! What is within `allOf`, `anyOf`, `oneOf` and `not` only restricts values, and says nothing of structure.

use kedge_meta::field::{Error, ErrorList, Path};

use super::schema::{Items, Schema};

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What a schema has that no structural schema can say, in upstream's words.
pub(super) fn unsupported(schema: Schema<'_>) -> Option<String> {
    let keyword = |name: &str| Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    if !schema.text("id").is_empty() {
        return keyword("id");
    }
    if !schema.text("$schema").is_empty() {
        return keyword("schema");
    }
    if !schema.text("$ref").is_empty() {
        return keyword("$ref");
    }
    for name in ["patternProperties", "dependencies"] {
        if schema.has_entries(name) {
            return keyword(name);
        }
    }
    if schema.has_key("additionalItems") {
        return keyword("additionalItems");
    }
    if schema.has_entries("definitions") {
        return keyword("definitions");
    }
    let below = schema.not().and_then(unsupported);
    let below =
        below.or_else(|| ["allOf", "anyOf", "oneOf"].iter().find_map(|key| schema.schemas(key).find_map(unsupported)));
    if below.is_some() {
        return below;
    }
    if schema.get("x-kubernetes-preserve-unknown-fields").and_then(serde_json::Value::as_bool) == Some(false) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    match schema.items() {
        Items::Many(many) if !many.is_empty() => {
            return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
        }
        Items::One(item) => {
            if let Some(why) = unsupported(item) {
                return Some(why);
            }
        }
        Items::Absent | Items::Many(_) => {}
    }
    let property = schema.map("properties").find_map(|(_, property)| unsupported(property));
    property.or_else(|| schema.additional().and_then(|additional| additional.schema()).and_then(unsupported))
}

/// What is wrong with the structure of a schema, sorted by its words.
pub(super) fn validate(schema: Schema<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    invariants(schema, Level::Root, path, &mut errors);
    restriction_has_places(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let required = |name: &str, why: &str| Error::required(&path.child(name), why);
    if schema.kind() == "array" && schema.item().is_none() {
        errors.push(required("items", "must be specified"));
    }
    if let Some(item) = schema.item() {
        invariants(item, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema.map("properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.additional() {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(Error::forbidden(&path, "must not be used at the root"));
        }
        if let Some(additional) = additional.schema() {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    if schema.is_int_or_string() {
        for (key, is) in [
            ("x-kubernetes-preserve-unknown-fields", schema.preserves()),
            ("x-kubernetes-embedded-resource", schema.embeds()),
        ] {
            if is {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(Error::invalid(&path.child(key), true, why));
            }
        }
    }
    let first = schema.schemas("allOf").next();
    restriction(schema, is_int_or_string(schema), first.is_some_and(is_int_or_string), path, errors);
    check_type(schema, level, path, errors);
    if schema.embeds() && schema.additional().is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
    if level == Level::Root && !schema.kind().is_empty() && schema.kind() != "object" {
        errors.push(Error::invalid(&path.child("type"), schema.kind(), "must be object at the root"));
    }
    own_fields(schema, level, path, errors);
    if schema.embeds() && !schema.preserves() && !schema.has_entries("properties") {
        errors.push(required(
            "properties",
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

fn check_type(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let (kind, path) = (schema.kind(), path.child("type"));
    if schema.embeds() && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() { Error::required(&path, why) } else { Error::invalid(&path, kind, why) });
    } else if kind.is_empty() && !schema.is_int_or_string() && !schema.preserves() {
        errors.push(Error::required(
            &path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
}

/// `kind`, `apiVersion` and `metadata`, which are every resource's.
fn own_fields(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let is_resource = level == Level::Root || schema.embeds();
    let wrong = |name: &str, kind: &str, errors: &mut ErrorList| {
        if let Some(property) = schema.property(name).filter(|property| is_resource && property.kind() != kind) {
            let path = path.child("properties").key(name).child("type");
            errors.push(Error::invalid(&path, property.kind(), format!("must be {kind}")));
        }
    };
    wrong("kind", "string", errors);
    wrong("apiVersion", "string", errors);
    wrong("metadata", "object", errors);
    let Some(metadata) = schema.property("metadata").filter(|_| level == Level::Root) else { return };
    let names = |name: &str| matches!(name, "name" | "generateName");
    let restricts = metadata.keywords().any(|(key, _)| match key {
        // A default is refused elsewhere.
        "type" | "default" => false,
        "properties" => !metadata.map("properties").all(|(name, _)| names(name)),
        _ => true,
    });
    if restricts {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Error::forbidden(&path.child("properties").key("metadata"), why));
    }
}

/// Whether `anyOf` says that it is an integer or a string, and nothing else.
fn is_int_or_string(schema: Schema<'_>) -> bool {
    let is = |schema: Schema<'_>, kind: &str| schema.kind() == kind && schema.keywords().all(|(key, _)| key == "type");
    let mut any = schema.schemas("anyOf");
    matches!((any.next(), any.next(), any.next()), (Some(one), Some(two), None) if is(one, "integer") && is(two, "string"))
}

/// What is within a schema's `anyOf` and the like. `skip_any` and `skip_first` leave out the two ways to say int-or-string.
fn restriction(schema: Schema<'_>, skip_any: bool, skip_first: bool, path: &Path, errors: &mut ErrorList) {
    if !skip_any {
        for (i, one) in schema.schemas("anyOf").enumerate() {
            nested(one, false, &path.child("anyOf").index(i), errors);
        }
    }
    for (i, one) in schema.schemas("allOf").enumerate() {
        nested(one, skip_first && i == 0, &path.child("allOf").index(i), errors);
    }
    for (i, one) in schema.schemas("oneOf").enumerate() {
        nested(one, false, &path.child("oneOf").index(i), errors);
    }
    if let Some(not) = schema.not() {
        nested(not, false, &path.child("not"), errors);
    }
    let text = schema.text("pattern");
    if let Err(why) = kedge_meta::regexp::compile(text) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Error::invalid(&path.child("pattern"), text, why));
    }
}

fn nested(schema: Schema<'_>, skip_any: bool, path: &Path, errors: &mut ErrorList) {
    restriction(schema, skip_any, false, path, errors);
    if let Some(item) = schema.item() {
        nested(item, false, &path.child("items"), errors);
    }
    for (name, property) in schema.map("properties") {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    let undefined = "must be undefined to be structural";
    for (key, is, why) in [
        ("type", !schema.kind().is_empty(), "must be empty to be structural"),
        ("additionalProperties", forbids_additional(schema), undefined),
        ("default", schema.default().is_some(), undefined),
        ("title", !schema.text("title").is_empty(), "must be empty to be structural"),
        ("description", !schema.text("description").is_empty(), "must be empty to be structural"),
        ("nullable", schema.flag("nullable"), "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", schema.preserves(), "must be false to be structural"),
        ("x-kubernetes-embedded-resource", schema.embeds(), "must be false to be structural"),
        ("x-kubernetes-int-or-string", schema.is_int_or_string(), "must be false to be structural"),
        (
            "x-kubernetes-list-map-keys",
            !schema.values("x-kubernetes-list-map-keys").is_empty(),
            "must be empty to be structural",
        ),
        ("x-kubernetes-list-type", schema.has_key("x-kubernetes-list-type"), undefined),
        ("x-kubernetes-map-type", schema.has_key("x-kubernetes-map-type"), undefined),
        ("x-kubernetes-validations", !schema.rules().is_empty(), "must be empty to be structural"),
    ] {
        if is {
            errors.push(Error::forbidden(&path.child(key), why));
        }
    }
    if schema.property("metadata").is_some() {
        let path = path.child("properties").key("metadata");
        errors.push(Error::forbidden(&path, "must not be specified in a nested context"));
    }
}

/// Forbidding what is not named is left out of nested schemas, as if it were not there.
fn forbids_additional(schema: Schema<'_>) -> bool {
    use super::schema::Additional;
    schema.additional().is_some_and(|additional| !matches!(additional, Additional::Bool(false)))
}

/// Whether what a schema's `anyOf` and the like restrict is in `place`, which upstream asks of the root only.
fn restriction_has_places(
    schema: Schema<'_>,
    place: Option<Schema<'_>>,
    path: &Path,
    from: &Path,
    errors: &mut ErrorList,
) {
    if let Some(not) = schema.not() {
        has_places(not, place, path, &from.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, one) in schema.schemas(key).enumerate() {
            has_places(one, place, path, &from.child(key).index(i), errors);
        }
    }
}

fn has_places(schema: Schema<'_>, place: Option<Schema<'_>>, path: &Path, from: &Path, errors: &mut ErrorList) {
    let missing = |path: &Path, from: &Path| Error::required(path, format!("because it is defined in {from}"));
    let Some(place) = place else { return errors.push(missing(path, from)) };
    restriction_has_places(schema, Some(place), path, from, errors);
    if let Some(item) = schema.item() {
        has_places(item, place.item(), &path.child("items"), &from.child("items"), errors);
    }
    for (name, property) in schema.map("properties") {
        let (path, from) = (path.child("properties").key(name), from.child("properties").key(name));
        match place.property(name) {
            Some(place) => has_places(property, Some(place), &path, &from, errors),
            None => errors.push(missing(&path, &from)),
        }
    }
}
