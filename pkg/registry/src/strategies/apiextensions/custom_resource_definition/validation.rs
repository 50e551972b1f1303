//! `CustomResourceValidation`: a schema, of one version or of all.

use kedge_meta::field::{Error, ErrorList, GoText, Path};

use serde_json::Value;

use super::cost::Total;
use super::form::Parts;
use super::openapi::Walk;
use super::options::Options;
use super::schema::Schema;
use super::{defaults, go, structural};

/// Go's names of the keywords in the order in which Go looks at them, and whether the root may have them beside a status
/// that is written for itself: its schema is taken from `properties`, and must not lose anything.
const ROOT: [(&str, bool); 44] = [
    ("id", false),
    ("$schema", false),
    ("$ref", false),
    ("description", true),
    ("type", true),
    ("nullable", false),
    ("format", true),
    ("title", true),
    ("default", false),
    ("maximum", true),
    ("exclusiveMaximum", true),
    ("minimum", true),
    ("exclusiveMinimum", true),
    ("maxLength", true),
    ("minLength", true),
    ("pattern", true),
    ("maxItems", true),
    ("minItems", true),
    ("uniqueItems", true),
    ("multipleOf", true),
    ("enum", false),
    ("maxProperties", false),
    ("minProperties", false),
    ("required", true),
    ("items", true),
    ("allOf", false),
    ("oneOf", false),
    ("anyOf", false),
    ("not", false),
    ("properties", true),
    ("additionalProperties", false),
    ("patternProperties", false),
    ("dependencies", false),
    ("additionalItems", false),
    ("definitions", false),
    ("externalDocs", true),
    ("example", true),
    ("x-kubernetes-preserve-unknown-fields", true),
    ("x-kubernetes-embedded-resource", false),
    ("x-kubernetes-int-or-string", false),
    ("x-kubernetes-list-map-keys", false),
    ("x-kubernetes-list-type", false),
    ("x-kubernetes-map-type", false),
    ("x-kubernetes-validations", true),
];

const ALLOWED: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                       Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                       XPreserveUnknownFields XValidations]";

/// Bytes of the paths of a schema: a hundred times those of the largest that are known.
const MOST_WEIGHT: usize = 64 << 20;

/// How a schema is judged.
pub(super) struct Judge<'j> {
    pub options: &'j Options<'j>,
    /// Whether the definition asks for more than `options` does by itself.
    pub structural: bool,
    /// The name of the version.
    pub version: &'j str,
    pub has_status: bool,
}

impl Judge<'_> {
    /// What is wrong with what is at `path`.
    pub fn check(&self, parts: &Parts<'_>, path: &Path, errors: &mut ErrorList) {
        let Some(schema) = parts.schema() else { return };
        let path = path.child("openAPIV3Schema");
        if weight(schema, path.to_string().len()) > MOST_WEIGHT {
            return errors.push(Error::invalid(&path, "", "its fields are too many for the length of their names"));
        }
        let mut found = ErrorList::new();
        if self.has_status {
            beside_status(schema, &path, &mut found);
        }
        if schema.flag("nullable") {
            found.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
        }
        let mut unsupported = None;
        let mut compiles = false;
        if self.structural {
            unsupported = structural::unsupported(schema);
            if unsupported.is_none() {
                let mut wrong = structural::validate(schema, &path);
                if wrong.is_empty() {
                    let options = self.options;
                    wrong = defaults::validate(schema, &path, options.pruned_defaults, options.engines);
                }
                compiles = wrong.is_empty();
                found.extend(wrong);
            }
        }
        let limits_cost = !self.options.unchanged.contains(self.version);
        let mut walk = Walk { options: self.options, limits_cost, total: Total::default() };
        let walked = walk.root(schema, &path, compiles);
        found.extend(walked.schema);
        found.extend(walked.rules);
        // What has no structure is mostly named by the walk.
        if let Some(why) = unsupported.filter(|_| found.is_empty()) {
            found.push(Error::invalid(&path, "", why));
        }
        walk.total.check(&path, &mut found);
        errors.extend(found);
    }
}

/// The paths of all places in a schema, one after the other; each is made, and stands in what is wrong there.
fn weight(schema: Schema<'_>, above: usize) -> usize {
    let mut sum = above;
    let mut add = |name: usize, below: Schema<'_>| sum = sum.saturating_add(weight(below, above + name));
    for key in ["properties", "definitions", "patternProperties", "dependencies"] {
        let schemas = schema.map(key).filter(|(_, below)| below.0.is_object());
        schemas.for_each(|(name, below)| add(key.len() + name.len() + 3, below));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        schema.schemas(key).for_each(|below| add(key.len() + 4, below));
    }
    for key in ["items", "not", "additionalProperties", "additionalItems"] {
        match schema.get(key) {
            Some(one) if one.is_object() => add(key.len() + 1, Schema(one)),
            Some(Value::Array(many)) => many.iter().for_each(|below| add(key.len() + 4, Schema(below))),
            _ => {}
        }
    }
    sum
}

fn beside_status(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let has = |wanted: &str| schema.keywords().any(|(key, _)| key == wanted);
    for (key, allowed) in ROOT.into_iter().filter(|(key, _)| has(key)) {
        if key == "type" && schema.kind() != "object" {
            let why =
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            return errors.push(Error::invalid(&path.child("type"), schema.kind(), why));
        }
        if !allowed {
            let why = format!(
                "only {ALLOWED} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            return errors.push(Error::invalid(path, GoText(go::schema(schema)), why));
        }
    }
}
