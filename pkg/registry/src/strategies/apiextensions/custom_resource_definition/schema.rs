//! A view on a schema as definitions write it, and what its keywords mean.

use serde_json::Value;

static EMPTY: Value = Value::Null;

/// A schema; one that is null is an empty one.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Schema<'a>(pub &'a Value);

/// What `items` holds.
#[derive(Clone, Copy)]
pub(super) enum Items<'a> {
    Absent,
    One(Schema<'a>),
    Many(&'a [Value]),
}

/// What `additionalProperties` holds.
#[derive(Clone, Copy)]
pub(super) enum Additional<'a> {
    Bool(bool),
    Schema(Schema<'a>),
}

impl<'a> Additional<'a> {
    pub fn schema(self) -> Option<Schema<'a>> {
        match self {
            Self::Bool(_) => None,
            Self::Schema(schema) => Some(schema),
        }
    }
}

impl<'a> Schema<'a> {
    /// What stands under a keyword.
    pub fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub fn has_key(self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn text(self, key: &str) -> &'a str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn kind(self) -> &'a str {
        self.text("type")
    }

    pub fn flag(self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The text of a keyword that may be there and empty.
    pub fn optional(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The values of a list.
    pub fn values(self, key: &str) -> &'a [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The texts of a list.
    pub fn texts(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.values(key).iter().map(|value| value.as_str().unwrap_or_default())
    }

    /// The schemas of a list such as `allOf`.
    pub fn schemas(self, key: &str) -> impl Iterator<Item = Schema<'a>> {
        self.values(key).iter().map(Schema)
    }

    /// The schemas of a map such as `properties`, by name.
    pub fn map(self, key: &str) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        let map = self.get(key).and_then(Value::as_object).into_iter().flatten();
        map.map(|(name, value)| (name.as_str(), Schema(value)))
    }

    pub fn has_entries(self, key: &str) -> bool {
        self.get(key).and_then(Value::as_object).is_some_and(|map| !map.is_empty())
    }

    pub fn property(self, name: &str) -> Option<Schema<'a>> {
        self.get("properties").and_then(|map| map.get(name)).map(Schema)
    }

    pub fn not(self) -> Option<Schema<'a>> {
        self.get("not").map(Schema)
    }

    pub fn items(self) -> Items<'a> {
        match self.get("items") {
            Some(Value::Array(many)) => Items::Many(many),
            Some(one) => Items::One(Schema(one)),
            None => Items::Absent,
        }
    }

    /// The schema of all items.
    pub fn item(self) -> Option<Schema<'a>> {
        match self.items() {
            Items::One(schema) => Some(schema),
            Items::Absent | Items::Many(_) => None,
        }
    }

    pub fn additional(self) -> Option<Additional<'a>> {
        self.get("additionalProperties").map(|value| match value {
            Value::Bool(allows) => Additional::Bool(*allows),
            schema => Additional::Schema(Schema(schema)),
        })
    }

    pub fn default(self) -> Option<&'a Value> {
        self.get("default")
    }

    pub fn rules(self) -> &'a [Value] {
        self.values("x-kubernetes-validations")
    }

    pub fn preserves(self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
    }

    pub fn embeds(self) -> bool {
        self.flag("x-kubernetes-embedded-resource")
    }

    pub fn is_int_or_string(self) -> bool {
        self.flag("x-kubernetes-int-or-string")
    }

    /// The keywords that say something: what Go leaves at its zero value says nothing.
    pub fn keywords(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let map = self.0.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.as_str(), value)).filter(|(key, value)| !is_zero(key, value))
    }

    /// Whether this schema or one within it is as asked, in upstream's order.
    pub fn any(self, is: &mut dyn FnMut(Schema<'a>) -> bool) -> bool {
        if is(self) {
            return true;
        }
        let items: Vec<Schema<'a>> = match self.items() {
            Items::Absent => Vec::new(),
            Items::One(schema) => vec![schema],
            Items::Many(many) => many.iter().map(Schema).collect(),
        };
        let nested = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| self.schemas(key));
        let dependencies = self.map("dependencies").map(|(_, schema)| schema).filter(|schema| schema.0.is_object());
        let or_bool = |key: &str| self.get(key).filter(|value| value.is_object()).map(Schema);
        items.into_iter().any(|schema| schema.any(is))
            || nested.into_iter().any(|schema| schema.any(is))
            || self.not().is_some_and(|schema| schema.any(is))
            || self.map("properties").any(|(_, schema)| schema.any(is))
            || or_bool("additionalProperties").is_some_and(|schema| schema.any(is))
            || self.map("patternProperties").any(|(_, schema)| schema.any(is))
            || or_bool("additionalItems").is_some_and(|schema| schema.any(is))
            || self.map("definitions").any(|(_, schema)| schema.any(is))
            || dependencies.into_iter().any(|schema| schema.any(is))
    }
}

impl Default for Schema<'_> {
    fn default() -> Self {
        Self(&EMPTY)
    }
}

/// Whether a keyword has the value that it has when it is not there.
fn is_zero(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        // These are pointers in Go.
        Value::String(text) => {
            text.is_empty() && !matches!(key, "$ref" | "x-kubernetes-list-type" | "x-kubernetes-map-type")
        }
        Value::Bool(flag) => {
            !flag
                && !matches!(
                    key,
                    "x-kubernetes-preserve-unknown-fields" | "additionalProperties" | "additionalItems" | "default"
                )
        }
        Value::Number(_) => false,
        Value::Array(list) => list.is_empty() && !matches!(key, "items" | "default" | "example"),
        Value::Object(map) => {
            map.is_empty() && matches!(key, "properties" | "patternProperties" | "definitions" | "dependencies")
        }
    }
}
