//! The object types that an environment knows.

use std::collections::HashMap;
use std::sync::Arc;

use super::Type;
use super::decl::{Decl, Shape};
use super::escape::RESERVED;

/// Types with fields, by name.
#[derive(Debug, Clone, Default)]
pub struct Provider {
    objects: HashMap<Arc<str>, Arc<Decl>>,
    /// `Object`, `Object.<path>` and `JSONPatch` can be constructed.
    pub(crate) mutation: bool,
    /// `a.namespace` is the field `__namespace__`.
    pub(crate) keywords_as_fields: bool,
}

impl Provider {
    /// Adds a type and those in it.
    pub(crate) fn add(&mut self, decl: &Arc<Decl>) {
        match &decl.shape {
            Shape::Object(object) => {
                self.objects.insert(object.name.clone(), decl.clone());
                object.fields().for_each(|(_, field)| self.add(&field.decl));
            }
            Shape::Map { value, .. } => self.add(value),
            Shape::List { items, .. } => self.add(items),
            _ => {}
        }
    }

    fn is_dynamic_object(&self, name: &str) -> bool {
        self.mutation && (name == "Object" || name.starts_with("Object."))
    }

    /// The object type of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Type> {
        let known =
            self.objects.contains_key(name) || self.is_dynamic_object(name) || (self.mutation && name == "JSONPatch");
        known.then(|| Type::object(name))
    }

    /// The type of a field.
    pub(crate) fn field(&self, object: &str, field: &str) -> Option<Type> {
        if self.is_dynamic_object(object) {
            return Some(Type::Dyn);
        }
        if self.mutation && object == "JSONPatch" {
            return match field {
                "op" | "path" | "from" => Some(Type::String),
                "value" => Some(Type::Dyn),
                _ => None,
            };
        }
        let Shape::Object(object) = &self.objects.get(object)?.shape else { return None };
        let found = object.field(field).or_else(|| {
            let keyword = self.keywords_as_fields && RESERVED.contains(&field);
            keyword.then(|| object.field(&format!("__{field}__")))?
        });
        found?.decl.cel_type()
    }
}
