//! The types that an expression gave the objects that it made.

use super::{Map, Value};

impl Value<'_> {
    /// What is wrong with the types of objects in an object: that of a field `spec` of `Object` must be `Object.spec`, and so on. Lists and maps
    /// in between have no names.
    pub fn type_name_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        collect(self, &self.type_name(), &mut errors);
        errors
    }
}

fn collect(value: &Value<'_>, expected: &str, errors: &mut Vec<String>) {
    match value {
        Value::Struct(it) => {
            if *it.name != *expected {
                errors.push(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    super::quote(&it.name),
                    super::quote(expected)
                ));
            }
            it.fields.iter().for_each(|(name, field)| collect(field, &format!("{expected}.{name}"), errors));
        }
        Value::List(list @ super::List::Owned(_)) => {
            list.iter().flatten().for_each(|element| collect(&element, expected, errors))
        }
        Value::Map(map @ Map::Owned(_)) => {
            map.entries().for_each(|(_, value)| value.iter().for_each(|value| collect(value, expected, errors)));
        }
        _ => {}
    }
}
