//! What objects of a kind look like: the one door to the built-in types and to schemas that came while the server runs.

use std::sync::Arc;

use kedge_meta::Text;
use serde_json::Value;

use crate::structural::Structural;
use crate::table::TypeId;
use crate::{StrictError, TypeError};

/// A schema of a kind's objects.
#[derive(Clone, Debug)]
pub enum SchemaRef {
    /// A type of the table of built-in types.
    Builtin(TypeId),
    /// One that came while the server runs.
    Structural(Arc<Structural>),
}

impl SchemaRef {
    /// The built-in type, if it is one.
    pub fn builtin(&self) -> Option<TypeId> {
        match self {
            Self::Builtin(ty) => Some(*ty),
            Self::Structural(_) => None,
        }
    }

    /// Of a built-in kind, also of one that is only a body.
    pub fn builtin_kind(group: &str, version: &str, kind: &str) -> Option<Self> {
        crate::kind(group, version, kind).map(Self::Builtin)
    }

    /// Drops unknown fields and those that are null, and checks the others.
    ///
    /// # Errors
    /// The first value of a wrong type. What strict validation has against others is added to `strict`.
    pub fn conform(&self, value: &mut Value, strict: &mut Vec<StrictError>) -> Result<(), TypeError> {
        match self {
            Self::Builtin(ty) => crate::conform(*ty, value, strict),
            Self::Structural(schema) => schema.prune(value, strict),
        }
    }

    /// Fills in what is left out.
    pub fn default(&self, value: &mut Value) {
        match self {
            Self::Builtin(ty) => crate::defaults::apply_type(*ty, value),
            Self::Structural(schema) => schema.default(value),
        }
    }

    /// The schema, if it came while the server runs.
    pub fn structural(&self) -> Option<&Arc<Structural>> {
        match self {
            Self::Builtin(_) => None,
            Self::Structural(schema) => Some(schema),
        }
    }

    /// The name of its definition in OpenAPI documents.
    pub fn definition_name(&self) -> Text {
        match self {
            Self::Builtin(ty) => Text::of(ty.def().name),
            Self::Structural(schema) => schema.definition().clone(),
        }
    }

    /// Brings a value that conforms into the form in which upstream writes it.
    pub fn normalize(&self, value: &mut Value) {
        match self {
            Self::Builtin(ty) => crate::normalize(*ty, value),
            Self::Structural(schema) => schema.normalize(value),
        }
    }
}
