//! A schema as OpenAPI documents show it. Version 2 has no alternatives and no nulls, and its readers cannot cope with some of what is left:
//! that is cut out as upstream cuts it out.

use serde_json::{Map, Value, json};

use crate::openapi::{CONVENTIONS, Dialect, TypeMetaTexts};

const EXTENSIONS: [&str; 7] = [
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];
const ALTERNATIVES: [&str; 4] = ["allOf", "anyOf", "oneOf", "not"];

/// What is said of the fields that all objects have.
pub(super) struct Texts<'a> {
    pub(super) texts: &'a TypeMetaTexts,
    /// The reference to the definition of metadata.
    pub(super) reference: String,
    pub(super) dialect: Dialect,
}

impl Texts<'_> {
    /// The fields of an object within an object.
    fn embedded(&self, properties: &mut Map<String, Value>) {
        self.own(properties);
        let say = |text: &str, place: &str| json!({"type": "string", "description": format!("{text} More info: {CONVENTIONS}#{place}")});
        let version = "apiVersion defines the versioned schema of this representation of an object.";
        properties.insert("apiVersion".into(), say(version, "resources"));
        let kind = "kind is a string value representing the type of this object. In CamelCase.";
        properties.insert("kind".into(), say(kind, "types-kinds"));
    }

    /// The fields that all objects have.
    pub(super) fn own(&self, properties: &mut Map<String, Value>) {
        let described = |text: &str| match text {
            "" => json!({"type": "string"}),
            text => json!({"description": text, "type": "string"}),
        };
        properties.insert("apiVersion".into(), described(&self.texts.api_version));
        properties.insert("kind".into(), described(&self.texts.kind));
        let reference = json!({"$ref": self.reference});
        let text = self.texts.metadata.as_str();
        let metadata = match self.dialect {
            Dialect::V2 => json!({"$ref": self.reference, "description": text}),
            // Nothing stands beside a reference there.
            Dialect::V3 => json!({"allOf": [reference], "description": text}),
        };
        properties.insert("metadata".into(), metadata);
    }
}

/// The schema of a whole object.
pub(super) fn root(source: &Value, texts: &Texts<'_>) -> Map<String, Value> {
    let whole = |name: &str| source.get(name).and_then(Value::as_bool).unwrap_or_default();
    if !source.is_object() || (texts.dialect == Dialect::V2 && whole("x-kubernetes-preserve-unknown-fields")) {
        return Map::from_iter([("type".to_owned(), "object".into())]);
    }
    let mut schema = shown(source, texts);
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        texts.own(properties);
    }
    schema
}

fn flag(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn shown(source: &Value, texts: &Texts<'_>) -> Map<String, Value> {
    let Value::Object(source) = source else { return Map::new() };
    let mut schema = Map::new();
    let below = |value: &Value| Value::Object(shown(value, texts));
    for (name, value) in source {
        let value = match (name.as_str(), value) {
            (_, Value::Null) => continue,
            ("default", _) if texts.dialect == Dialect::V2 => continue,
            ("properties", Value::Object(fields)) => {
                Value::Object(fields.iter().map(|(name, field)| (name.clone(), below(field))).collect())
            }
            ("items" | "additionalProperties", Value::Object(_)) => below(value),
            // Nothing is said by what is as it always is.
            (_, Value::Bool(false)) if name != "default" && name != "additionalProperties" => continue,
            (extension, _) if extension.starts_with("x-") && !EXTENSIONS.contains(&extension) => continue,
            _ => value.clone(),
        };
        schema.insert(name.clone(), value);
    }
    if texts.dialect == Dialect::V2 {
        for_version_2(source, &mut schema);
    }
    let hidden = texts.dialect == Dialect::V2 && flag(&schema, "x-kubernetes-preserve-unknown-fields");
    if flag(&schema, "x-kubernetes-embedded-resource") && !hidden {
        if let Value::Object(properties) = schema.entry("properties").or_insert_with(|| json!({})) {
            texts.embedded(properties);
        }
        if let Value::Array(required) = schema.entry("required").or_insert_with(|| json!([])) {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
        }
    }
    schema
}

fn for_version_2(source: &Map<String, Value>, schema: &mut Map<String, Value>) {
    for name in ALTERNATIVES {
        schema.remove(name);
    }
    let preserves = flag(source, "x-kubernetes-preserve-unknown-fields");
    if flag(source, "nullable") {
        schema.remove("type");
        schema.remove("nullable");
    }
    if flag(source, "nullable") || preserves {
        schema.remove("items");
        schema.remove("properties");
    }
    let of_type = |schema: &Map<String, Value>, name: &str| schema.get("type").is_some_and(|ty| ty == name);
    let bare_list = of_type(schema, "array") && !schema.contains_key("items");
    if bare_list || (preserves && of_type(schema, "object")) {
        schema.remove("type");
    }
    let nullable = |name: &str| source.get("properties")?.get(name)?.get("nullable")?.as_bool();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !name.as_str().and_then(nullable).unwrap_or_default());
    }
    let of_nulls = source.get("additionalProperties").and_then(|schema| schema.get("nullable"));
    let is_empty = schema.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if is_empty || of_nulls.and_then(Value::as_bool).unwrap_or_default() {
        schema.remove("required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_cut_to_what_its_readers_understand() {
        let source = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "b": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "x-other": 1, "default": ["x"]},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}}},
            "d": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "e": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
        }});
        let words = TypeMetaTexts::default();
        let texts = |dialect| Texts { texts: &words, reference: "#/m".to_owned(), dialect };
        let version_2 = Value::Object(root(&source, &texts(Dialect::V2)));
        assert_eq!(version_2["required"], json!(["b"]));
        let fields = &version_2["properties"];
        assert_eq!(fields["a"], json!({}));
        assert_eq!(fields["b"], json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}));
        assert_eq!(fields["c"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(fields["d"], json!({"x-kubernetes-int-or-string": true}));
        assert_eq!(fields["e"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(
            (&fields["e"]["properties"]["metadata"]["$ref"], &fields["metadata"]["$ref"]),
            (&json!("#/m"), &json!("#/m"))
        );
        let said = "kind is a string value representing the type of this object. In CamelCase.";
        assert!(fields["e"]["properties"]["kind"]["description"].as_str().is_some_and(|text| text.starts_with(said)));
        let version_3 = Value::Object(root(&source, &texts(Dialect::V3)));
        assert_eq!(version_3["properties"]["b"]["default"], json!(["x"]));
        assert_eq!(version_3["properties"]["a"], source["properties"]["a"]);
        assert_eq!(version_3["properties"]["d"], source["properties"]["d"]);
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}});
        assert_eq!(Value::Object(root(&open, &texts(Dialect::V2))), json!({"type": "object"}));
    }
}
