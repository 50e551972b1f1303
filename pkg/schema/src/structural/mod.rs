//! Schemas of kinds that came while the server runs: a tree of nodes, each saying what a place in an object may hold.
//!
//! What they say of structure is done here: what is unknown goes, what is left out is filled in, what is of a wrong type is named.
//! Metadata is the same for all kinds and is left to the built-in type.
//!
//! Invariants: a schema is no deeper than [`MAX_DEPTH`]; pruning and defaulting are idempotent; no object makes a walk panic.

mod parse;
mod walk;

use std::collections::BTreeMap;

use kedge_meta::Text;
use kedge_meta::field::ErrorList;
use serde_json::Value;

use crate::openapi::Json;
use crate::table::{ListType, TypeId, type_by_name};
use crate::{StrictError, TypeError};

pub use parse::Malformed;

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
}

/// The schema of one version of a kind.
#[derive(Clone, Debug)]
pub struct Structural {
    /// The name of its definition in OpenAPI documents, such as `org.example.v1.Thing`.
    definition: Text,
    root: Node,
    /// As it was written, for documents.
    source: Box<str>,
}

impl Structural {
    /// Reads a schema as definitions of custom resources have it.
    ///
    /// # Errors
    /// What of it makes no sense, and where.
    pub fn parse(definition: Text, schema: &Value) -> Result<Self, Malformed> {
        Ok(Self { definition, root: parse::node(schema, "", 0)?, source: schema.to_string().into() })
    }

    /// The name of its definition.
    pub fn definition(&self) -> &Text {
        &self.definition
    }

    /// What the whole object may hold, but for what all kinds have.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Drops what is unknown, which is added to `strict`.
    ///
    /// # Errors
    /// Metadata of a wrong form, or no object at all.
    pub fn prune(&self, value: &mut Value, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
        let Value::Object(object) = value else {
            return Err(TypeError { message: "json: cannot unmarshal into an object".to_owned() });
        };
        let own: Vec<(&str, Option<Value>)> = walk::OWN.into_iter().map(|name| (name, object.remove(name))).collect();
        walk::prune_root(&self.root, object, strict);
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
        walk::default_root(&self.root, value);
    }

    /// Brings metadata into the form in which it is written.
    pub fn normalize(&self, value: &mut Value) {
        if let (Some(meta), Some(field)) = (object_meta(), value.get_mut("metadata")) {
            crate::normalize(meta, field);
        }
    }

    /// What is of a wrong type, or is missing.
    pub fn validate(&self, value: &Value) -> ErrorList {
        walk::validate(&self.root, value)
    }

    /// Writes the definition for an OpenAPI document.
    pub(crate) fn write(&self, json: &mut Json, reference: &dyn Fn(&str) -> String, kind: &dyn Fn(&mut Json)) {
        let source: Value = serde_json::from_str(&self.source).unwrap_or_default();
        json.object(|json| {
            for (name, value) in source.as_object().into_iter().flatten() {
                if name != "properties" {
                    json.key(name).raw(&value.to_string());
                }
            }
            json.key("properties").object(|json| {
                for name in ["apiVersion", "kind"] {
                    json.key(name).object(|json| json.key("type").text("string"));
                }
                json.key("metadata").object(|json| json.key("$ref").text(&reference(OBJECT_META)));
                let own = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
                let properties = source.get("properties").and_then(Value::as_object);
                for (name, value) in properties.into_iter().flatten().filter(|(name, _)| !own(name)) {
                    json.key(name).raw(&value.to_string());
                }
            });
            json.key("x-kubernetes-group-version-kind").list(kind);
        });
    }
}

fn object_meta() -> Option<TypeId> {
    type_by_name(OBJECT_META)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
