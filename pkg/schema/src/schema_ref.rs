//! What objects of a kind look like: the one door to the built-in types and to schemas that came while the server runs.

use kedge_meta::Text;
use serde_json::Value;

use crate::table::TypeId;

/// A schema of a kind's objects.
#[derive(Clone, Debug)]
pub enum SchemaRef {
    /// A type of the table of built-in types.
    Builtin(TypeId),
}

impl SchemaRef {
    /// The built-in type, if it is one.
    pub fn builtin(&self) -> Option<TypeId> {
        match self {
            Self::Builtin(ty) => Some(*ty),
        }
    }

    /// The name of its definition in OpenAPI documents.
    pub fn definition_name(&self) -> Text {
        match self {
            Self::Builtin(ty) => Text::of(ty.def().name),
        }
    }

    /// Brings a value that conforms into the form in which upstream writes it.
    pub fn normalize(&self, value: &mut Value) {
        match self {
            Self::Builtin(ty) => crate::normalize(*ty, value),
        }
    }
}
