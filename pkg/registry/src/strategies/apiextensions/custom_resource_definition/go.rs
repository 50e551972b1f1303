//! Parts of definitions as Go writes its internal form into messages: all fields, under their names in Go, in their order.

use kedge_meta::field::GoText;
use serde_json::{Map, Value};

use super::form::{Form, Parts};
use super::schema::{Additional, Items, Schema};
use crate::value::ValueExt;

/// Writes one value.
type Write<'w> = &'w dyn Fn(&Value) -> String;

/// A text as Go's JSON has it, in which nothing can be taken for HTML.
pub(super) fn text(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// For a pointer to a text.
pub(super) fn optional_text(value: Option<&str>) -> GoText {
    GoText(value.map_or_else(|| "null".to_owned(), text))
}

/// All versions.
pub(super) fn versions(form: &Form<'_>) -> GoText {
    if !form.has_versions {
        return GoText("null".to_owned());
    }
    let all = form.versions.iter().map(|version| self::version(version.value, &version.own));
    GoText(format!("[{}]", all.collect::<Vec<_>>().join(",")))
}

fn version(value: &Value, own: &Parts<'_>) -> String {
    let flag = |field: &str| value.flag(&[field]).unwrap_or_default().to_string();
    object(&[
        ("Name", text(value.text(&["name"]))),
        ("Served", flag("served")),
        ("Storage", flag("storage")),
        ("Deprecated", flag("deprecated")),
        ("DeprecationWarning", pointer(value.get("deprecationWarning"), &json)),
        ("Schema", pointer(own.validation, &|_| object(&[("OpenAPIV3Schema", or_null(own.schema()))]))),
        ("Subresources", pointer(own.subresources, &subresources)),
        ("AdditionalPrinterColumns", slice(own.columns, &column)),
        ("SelectableFields", slice(own.selectable, &|field| object(&[("JSONPath", text(field.text(&["jsonPath"])))]))),
    ])
}

fn subresources(value: &Value) -> String {
    let scale = |scale: &Value| {
        object(&[
            ("SpecReplicasPath", text(scale.text(&["specReplicasPath"]))),
            ("StatusReplicasPath", text(scale.text(&["statusReplicasPath"]))),
            ("LabelSelectorPath", pointer(scale.get("labelSelectorPath"), &json)),
        ])
    };
    let status = pointer(value.get("status"), &|_| "{}".to_owned());
    object(&[("Status", status), ("Scale", pointer(value.get("scale"), &scale))])
}

fn column(value: &Value) -> String {
    let field = |name: &str| text(value.text(&[name]));
    object(&[
        ("Name", field("name")),
        ("Type", field("type")),
        ("Format", field("format")),
        ("Description", field("description")),
        ("Priority", value.int(&["priority"]).unwrap_or_default().to_string()),
        ("JSONPath", field("jsonPath")),
    ])
}

/// A schema.
pub(super) fn schema(schema: Schema<'_>) -> String {
    let word = |key: &str| text(schema.text(key));
    let flag = |key: &str| schema.flag(key).to_string();
    let any = |key: &str| pointer(schema.get(key), &json);
    let nested = |value: &Value| self::schema(Schema(value));
    let list = |key: &str| slice_or_null(schema.get(key), &nested);
    let map = |key: &str| map_or_null(schema.get(key), &nested);
    let docs = |docs: &Value| {
        object(&[("Description", text(docs.text(&["description"]))), ("URL", text(docs.text(&["url"])))])
    };
    object(&[
        ("ID", word("id")),
        ("Schema", word("$schema")),
        ("Ref", any("$ref")),
        ("Description", word("description")),
        ("Type", word("type")),
        ("Nullable", flag("nullable")),
        ("Format", word("format")),
        ("Title", word("title")),
        ("Default", any("default")),
        ("Maximum", any("maximum")),
        ("ExclusiveMaximum", flag("exclusiveMaximum")),
        ("Minimum", any("minimum")),
        ("ExclusiveMinimum", flag("exclusiveMinimum")),
        ("MaxLength", any("maxLength")),
        ("MinLength", any("minLength")),
        ("Pattern", word("pattern")),
        ("MaxItems", any("maxItems")),
        ("MinItems", any("minItems")),
        ("UniqueItems", flag("uniqueItems")),
        ("MultipleOf", any("multipleOf")),
        ("Enum", slice_or_null(schema.get("enum"), &json)),
        ("MaxProperties", any("maxProperties")),
        ("MinProperties", any("minProperties")),
        ("Required", slice_or_null(schema.get("required"), &json)),
        ("Items", items(schema)),
        ("AllOf", list("allOf")),
        ("OneOf", list("oneOf")),
        ("AnyOf", list("anyOf")),
        ("Not", or_null(schema.not())),
        ("Properties", map("properties")),
        ("AdditionalProperties", or_bool(schema.additional())),
        ("PatternProperties", map("patternProperties")),
        ("Dependencies", map_or_null(schema.get("dependencies"), &dependency)),
        ("AdditionalItems", pointer(schema.get("additionalItems"), &additional_items)),
        ("Definitions", map("definitions")),
        ("ExternalDocs", pointer(schema.get("externalDocs"), &docs)),
        ("Example", any("example")),
        ("XPreserveUnknownFields", any("x-kubernetes-preserve-unknown-fields")),
        ("XEmbeddedResource", flag("x-kubernetes-embedded-resource")),
        ("XIntOrString", flag("x-kubernetes-int-or-string")),
        ("XListMapKeys", slice_or_null(schema.get("x-kubernetes-list-map-keys"), &json)),
        ("XListType", any("x-kubernetes-list-type")),
        ("XMapType", any("x-kubernetes-map-type")),
        ("XValidations", slice_or_null(schema.get("x-kubernetes-validations"), &rule)),
    ])
}

/// What `items` holds.
pub(super) fn items(schema: Schema<'_>) -> String {
    let (one, many) = match schema.items() {
        Items::Absent => return "null".to_owned(),
        Items::One(one) => (self::schema(one), "null".to_owned()),
        Items::Many(many) => {
            let all = many.iter().map(|one| self::schema(Schema(one))).collect::<Vec<_>>();
            ("null".to_owned(), format!("[{}]", all.join(",")))
        }
    };
    object(&[("Schema", one), ("JSONSchemas", many)])
}

fn or_bool(additional: Option<Additional<'_>>) -> String {
    match additional {
        None => "null".to_owned(),
        Some(Additional::Bool(allows)) => object(&[("Allows", allows.to_string()), ("Schema", "null".to_owned())]),
        Some(Additional::Schema(one)) => object(&[("Allows", "true".to_owned()), ("Schema", schema(one))]),
    }
}

fn additional_items(value: &Value) -> String {
    or_bool(Some(value.as_bool().map_or(Additional::Schema(Schema(value)), Additional::Bool)))
}

fn dependency(value: &Value) -> String {
    match value {
        Value::Array(_) => object(&[("Schema", "null".to_owned()), ("Property", slice_or_null(Some(value), &json))]),
        one => object(&[("Schema", schema(Schema(one))), ("Property", "null".to_owned())]),
    }
}

/// One of `x-kubernetes-validations`.
pub(super) fn rule(value: &Value) -> String {
    let field = |name: &str| text(value.text(&[name]));
    object(&[
        ("Rule", field("rule")),
        ("Message", field("message")),
        ("MessageExpression", field("messageExpression")),
        ("Reason", pointer(value.get("reason"), &json)),
        ("FieldPath", field("fieldPath")),
        ("OptionalOldSelf", pointer(value.get("optionalOldSelf"), &json)),
    ])
}

fn or_null(value: Option<Schema<'_>>) -> String {
    value.map_or_else(|| "null".to_owned(), schema)
}

fn pointer(value: Option<&Value>, write: Write<'_>) -> String {
    value.filter(|value| !value.is_null()).map_or_else(|| "null".to_owned(), write)
}

fn slice(list: &[Value], write: Write<'_>) -> String {
    if list.is_empty() {
        return "null".to_owned();
    }
    format!("[{}]", list.iter().map(write).collect::<Vec<_>>().join(","))
}

fn slice_or_null(value: Option<&Value>, write: Write<'_>) -> String {
    match value {
        Some(Value::Array(list)) => format!("[{}]", list.iter().map(write).collect::<Vec<_>>().join(",")),
        _ => "null".to_owned(),
    }
}

fn map_or_null(value: Option<&Value>, write: Write<'_>) -> String {
    let Some(Value::Object(map)) = value else { return "null".to_owned() };
    entries(map, write)
}

fn entries(map: &Map<String, Value>, write: Write<'_>) -> String {
    let all = map.iter().map(|(key, value)| format!("{}:{}", text(key), write(value)));
    format!("{{{}}}", all.collect::<Vec<_>>().join(","))
}

fn object(fields: &[(&str, String)]) -> String {
    let all = fields.iter().map(|(name, value)| format!("{name:?}:{value}"));
    format!("{{{}}}", all.collect::<Vec<_>>().join(","))
}

/// Any value.
pub(super) fn json(value: &Value) -> String {
    match value {
        Value::String(words) => text(words),
        Value::Array(list) => format!("[{}]", list.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(map) => entries(map, &json),
        Value::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(float)) => self::float(float),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Whole numbers have no fraction, and large and small ones an exponent.
fn float(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    format!("{float}")
}
