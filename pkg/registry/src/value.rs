//! Short ways to read and write trees of JSON.

use serde_json::{Map, Value};

/// Reading by path.
pub trait ValueExt {
    /// The text at a path of fields; empty when it is not there.
    fn text(&self, path: &[&str]) -> &str;
    /// The number at a path.
    fn int(&self, path: &[&str]) -> Option<i64>;
    /// The boolean at a path.
    fn flag(&self, path: &[&str]) -> Option<bool>;
    /// The list at a path; empty when it is not there.
    fn list(&self, path: &[&str]) -> &[Value];
    /// The map at a path.
    fn map(&self, path: &[&str]) -> Option<&Map<String, Value>>;
    /// Whatever is at a path.
    fn at(&self, path: &[&str]) -> Option<&Value>;
    /// The map of a field, made when it is not there.
    fn entry(&mut self, field: &str) -> &mut Map<String, Value>;
    /// Sets a field of an object.
    fn set(&mut self, field: &str, value: impl Into<Value>);
    /// Sets a field of an object, or removes it.
    fn set_or_remove(&mut self, field: &str, value: Option<Value>);
    /// `metadata.name`.
    fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }
    /// `metadata.namespace`.
    fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }
}

impl ValueExt for Value {
    fn text(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    fn int(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    fn flag(&self, path: &[&str]) -> Option<bool> {
        self.at(path).and_then(Value::as_bool)
    }

    fn list(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn map(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        self.at(path).and_then(Value::as_object)
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, field| value.get(field))
    }

    fn entry(&mut self, field: &str) -> &mut Map<String, Value> {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        let slot = &mut self[field];
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("it was just made an object"),
        }
    }

    fn set(&mut self, field: &str, value: impl Into<Value>) {
        if let Value::Object(map) = self {
            map.insert(field.to_owned(), value.into());
        }
    }

    fn set_or_remove(&mut self, field: &str, value: Option<Value>) {
        if let Value::Object(map) = self {
            match value {
                Some(value) => map.insert(field.to_owned(), value),
                None => map.remove(field),
            };
        }
    }
}

/// Puts a condition in the place of the one of its type, whose time of transition it keeps where that had the same status.
pub fn set_condition(object: &mut Value, mut condition: Value, now: &str) {
    let conditions = object.entry("status").entry("conditions").or_insert(Value::Null);
    // Kinds whose list is not left out show an empty one as null.
    if !conditions.is_array() {
        *conditions = Value::Array(Vec::new());
    }
    let Value::Array(conditions) = conditions else { return };
    let was = conditions.iter_mut().find(|c| c.text(&["type"]) == condition.text(&["type"]));
    let since = was.as_ref().filter(|c| c.text(&["status"]) == condition.text(&["status"]));
    let since = since.map_or(now, |c| c.text(&["lastTransitionTime"])).to_owned();
    condition.set("lastTransitionTime", since);
    match was {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}
