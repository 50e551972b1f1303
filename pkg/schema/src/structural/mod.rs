//! Schemas of kinds that came while the server runs: a tree of nodes, each saying what a place in an object may hold.
//!
//! What they say of structure is done here: what is unknown goes, what is left out is filled in, what breaks a rule is named.
//! Metadata is the same for all kinds and is left to the built-in type. Rules in CEL are read from the source by whoever evaluates them.
//!
//! Invariants: a schema is no deeper than [`MAX_DEPTH`]; pruning and defaulting are idempotent; no object makes a walk panic. A schema is
//! read from its source when it is first needed: most of the kinds of a cluster are never used by most of its servers.

mod at;
mod check;
mod document;
mod embedded;
mod format;
mod lists;
mod parse;
mod walk;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kedge_meta::Text;
use kedge_meta::field::ErrorList;
use kedge_meta::regexp::{self, Regex};
use serde_json::Value;

use crate::openapi::{Dialect, Json, TypeMetaTexts};
use crate::table::{ListType, TypeId, type_by_name};
use crate::{StrictError, TypeError};

pub use at::At;
pub use check::check;
pub use embedded::check_embedded;
pub use format::{Format, is_known as is_known_format};
pub use lists::check_lists;
pub use parse::Malformed;
use walk::Nulls;

pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// How deep a schema may go.
const MAX_DEPTH: usize = 64;

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
    /// Anything.
    Any,
}

/// A place in an object.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub nullable: bool,
    /// Fields that are not named stay.
    pub preserves_unknown: bool,
    /// It holds a whole object, with a kind and metadata of its own.
    pub embedded: bool,
    pub properties: BTreeMap<Box<str>, Node>,
    /// What fields that are not named hold.
    pub additional: Option<Box<Node>>,
    pub items: Option<Box<Node>>,
    pub required: Box<[Box<str>]>,
    pub default: Option<Box<Value>>,
    pub list_type: ListType,
    pub map_keys: Box<[Box<str>]>,
    /// Replaced as a whole.
    pub is_atomic: bool,
    /// What else its value must be; most have nothing of it.
    pub checks: Option<Box<Checks>>,
}

/// What a value must be, beside its type.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub format: Option<Format>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub one_of_values: Box<[Value]>,
    pub all_of: Box<[Node]>,
    pub any_of: Box<[Node]>,
    pub one_of: Box<[Node]>,
    pub not: Option<Box<Node>>,
}

/// An expression that is compiled when it is first needed.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: Box<str>,
    compiled: Arc<OnceLock<Result<Regex, String>>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: Arc::default() }
    }

    fn compiled(&self) -> &Result<Regex, String> {
        self.compiled.get_or_init(|| regexp::compile(&self.text).map_err(|err| err.to_string()))
    }
}

/// Where the JSON of a schema comes from; nothing when it is no longer to be had.
type Source = Box<dyn Fn() -> Option<Value> + Send + Sync>;

/// The schema of one version of a kind.
pub struct Structural {
    /// The name of its definition in OpenAPI documents, such as `org.example.v1.Thing`.
    definition: Text,
    source: Source,
    root: OnceLock<Node>,
    /// What its objects can be selected by.
    selectable: Box<[Text]>,
}

impl std::fmt::Debug for Structural {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Structural").field("definition", &self.definition).finish_non_exhaustive()
    }
}

impl Structural {
    /// Reads a schema as definitions of custom resources have it.
    ///
    /// # Errors
    /// What of it makes no sense, and where.
    pub fn parse(definition: Text, schema: &Value) -> Result<Self, Malformed> {
        let root = parse::node(schema, "", 0)?;
        let text: Box<str> = schema.to_string().into();
        let source = Box::new(move || serde_json::from_str(&text).ok());
        Ok(Self { definition, source, root: root.into(), selectable: Box::default() })
    }

    /// A schema that has been checked, and is read from `source` when it is needed.
    pub fn later(definition: Text, source: impl Fn() -> Option<Value> + Send + Sync + 'static) -> Self {
        Self { definition, source: Box::new(source), root: OnceLock::new(), selectable: Box::default() }
    }

    /// The same, of objects that can be selected by some fields.
    #[must_use]
    pub fn selectable(self, fields: impl IntoIterator<Item = Text>) -> Self {
        Self { selectable: fields.into_iter().collect(), ..self }
    }

    /// The name of its definition.
    pub fn definition(&self) -> &Text {
        &self.definition
    }

    /// As it is written.
    pub fn source(&self) -> Option<Value> {
        (self.source)()
    }

    /// What the whole object may hold, but for what all kinds have. Of a schema that makes no sense nothing is known: all fields stay, as those
    /// of kinds without a schema do.
    pub fn root(&self) -> &Node {
        self.root.get_or_init(|| match self.source().map(|schema| parse::node(&schema, "", 0)) {
            Some(Ok(node)) => node,
            Some(Err(_)) | None => parse::any(),
        })
    }

    /// Drops what is unknown, which is added to `strict`.
    ///
    /// # Errors
    /// Metadata of a wrong form, or no object at all.
    pub fn prune(&self, value: &mut Value, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
        self.pruned(value, Nulls::Go, strict)
    }

    /// Drops what is unknown of an object that was applied: a null in it is a value like others.
    ///
    /// # Errors
    /// As [`Structural::prune`].
    pub fn prune_applied(&self, value: &mut Value) -> Result<(), TypeError> {
        self.pruned(value, Nulls::Stay, &mut Vec::new())
    }

    fn pruned(&self, value: &mut Value, nulls: Nulls, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
        let Value::Object(object) = value else {
            return Err(TypeError { message: "json: cannot unmarshal into an object".to_owned() });
        };
        let own: Vec<(&str, Option<Value>)> = at::OWN.into_iter().map(|name| (name, object.remove(name))).collect();
        walk::prune_root(self.root(), object, nulls, strict);
        for (name, field) in own {
            let Some(mut field) = field else { continue };
            if let Some(meta) = object_meta().filter(|_| name == "metadata" && !field.is_null()) {
                // The paths of what is unknown there begin below metadata.
                let mut below = Vec::new();
                crate::conform(meta, &mut field, &mut below)?;
                strict.extend(below.into_iter().map(|error| match error {
                    StrictError::UnknownField(path) => StrictError::UnknownField(format!("metadata.{path}")),
                    other => other,
                }));
            }
            object.insert(name.to_owned(), field);
        }
        Ok(())
    }

    /// Fills in what is left out.
    pub fn default(&self, value: &mut Value) {
        walk::default_root(self.root(), value);
    }

    /// Brings metadata into the form in which it is written.
    pub fn normalize(&self, value: &mut Value) {
        if let (Some(meta), Some(field)) = (object_meta(), value.get_mut("metadata")) {
            crate::normalize(meta, field);
        }
    }

    /// What is wrong with an object. Faults that it has from `old` on are let go where the values are the same.
    pub fn validate(&self, value: &Value, old: Option<&Value>) -> ErrorList {
        check(self.root(), value, old)
    }

    /// Writes the definition for an OpenAPI document.
    pub(crate) fn write(&self, json: &mut Json, dialect: Dialect, texts: &TypeMetaTexts, kind: &dyn Fn(&mut Json)) {
        let source = self.source().unwrap_or_default();
        let texts = document::Texts { texts, reference: dialect.reference(OBJECT_META), dialect };
        json.object(|json| {
            for (name, value) in document::root(&source, &texts) {
                json.key(&name).raw(&value.to_string());
            }
            json.key("x-kubernetes-group-version-kind").list(kind);
            self.write_selectable(json);
        });
    }

    /// Says what objects can be selected by, if there is anything.
    pub(crate) fn write_selectable(&self, json: &mut Json) {
        if !self.selectable.is_empty() {
            json.key("x-kubernetes-selectable-fields").list(|json| {
                for field in &self.selectable {
                    json.object(|json| json.key("fieldPath").text(field));
                }
            });
        }
    }
}

fn object_meta() -> Option<TypeId> {
    type_by_name(OBJECT_META)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
