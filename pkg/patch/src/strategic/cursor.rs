//! Where in the type a merge is, and what the type says about a field there.

use crate::PatchError;
use kedge_schema::{FieldDef, FieldType, TypeId};

/// The type at the place that is being merged.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    ty: FieldType,
}

/// How a field merges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strategy {
    /// `merge`, `replace` or empty. `retainKeys` is a directive's affair and left out.
    pub name: &'static str,
    /// The key of list elements, empty for scalars.
    pub key: &'static str,
}

impl Strategy {
    fn of(field: &FieldDef) -> Result<Self, PatchError> {
        let names: Vec<&str> = field.patch_strategies().filter(|name| *name != "retainKeys").collect();
        match names.as_slice() {
            [] => Ok(Strategy { name: "", key: field.merge_key().unwrap_or_default() }),
            [name] => Ok(Strategy { name, key: field.merge_key().unwrap_or_default() }),
            names => Err(PatchError::Inconsistent(format!("unexpected patch strategy: [{}]", names.join(" ")))),
        }
    }
}

impl Cursor {
    pub fn object(ty: TypeId) -> Self {
        Cursor { ty: FieldType::Object(ty) }
    }

    /// The Go name of the type, for messages.
    pub fn name(&self) -> String {
        match self.ty {
            FieldType::Object(id) => id.def().short_name().to_string(),
            other => go_kind(other).to_string(),
        }
    }

    fn lookup(&self, key: &str) -> Result<&'static FieldDef, PatchError> {
        let missing = |name: &str| {
            PatchError::Inconsistent(format!("unable to find api field in struct {name} for the json field {key:?}"))
        };
        match self.ty {
            FieldType::Object(id) => id.def().field(key).ok_or_else(|| missing(id.def().short_name())),
            FieldType::Raw => Err(missing("RawExtension")),
            FieldType::Json => Err(missing("JSON")),
            FieldType::FieldsV1 => Err(missing("FieldsV1")),
            other => Err(PatchError::Inconsistent(format!(
                "merging an object in json but data type is not struct, instead is: {}",
                go_kind(other)
            ))),
        }
    }

    /// The type and strategy of an object field.
    pub fn field(&self, key: &str) -> Result<(Cursor, Strategy), PatchError> {
        let field = self.lookup(key)?;
        Ok((Cursor { ty: field.ty }, Strategy::of(field)?))
    }

    /// The element type and strategy of a list field.
    pub fn elements(&self, key: &str) -> Result<(Cursor, Strategy), PatchError> {
        let field = self.lookup(key)?;
        match field.ty {
            FieldType::List(FieldType::List(_)) => Err(PatchError::Inconsistent("unexpected slice of slice".into())),
            FieldType::List(inner) => Ok((Cursor { ty: *inner }, Strategy::of(field)?)),
            FieldType::Bytes => Ok((Cursor { ty: FieldType::Int32 }, Strategy::of(field)?)),
            other => {
                Err(PatchError::Inconsistent(format!("expected slice or array type, but got: {}", go_kind(other))))
            }
        }
    }
}

fn go_kind(ty: FieldType) -> &'static str {
    match ty {
        FieldType::String => "string",
        FieldType::Bool => "bool",
        FieldType::Int32 => "int32",
        FieldType::Int64 => "int64",
        FieldType::Double => "float64",
        FieldType::Bytes | FieldType::List(_) => "slice",
        FieldType::Map(_) => "map",
        _ => "struct",
    }
}
