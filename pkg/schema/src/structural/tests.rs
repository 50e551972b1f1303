//! What a schema makes of objects.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn schema() -> Structural {
    let schema = json!({
        "type": "object", "description": "A thing.",
        "properties": {
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer"},
                "port": {"x-kubernetes-int-or-string": true},
                "colour": {"type": "string", "default": "blue"},
                "maybe": {"type": "string", "nullable": true, "default": "x"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "on": {"type": "boolean", "default": true}}}},
            }},
        },
    });
    Structural::parse(Text::of("org.example.v1.Thing"), &schema).unwrap()
}

#[test]
fn what_is_unknown_goes_and_is_named() {
    let mut value = json!({"apiVersion": "example.org/v1", "kind": "Thing", "extra": 1,
        "metadata": {"name": "x", "creationTimestamp": null, "nonsense": 1},
        "spec": {"size": 1, "no": 2, "labels": {"a": "b"}, "free": {"any": [1]}, "parts": [{"name": "a", "what": 1}]}});
    let mut strict = Vec::new();
    schema().prune(&mut value, &mut strict).unwrap();
    let named: Vec<String> = strict.iter().map(ToString::to_string).collect();
    assert_eq!(
        named,
        [
            r#"unknown field "extra""#,
            r#"unknown field "spec.no""#,
            r#"unknown field "spec.parts[0].what""#,
            r#"unknown field "metadata.nonsense""#
        ]
    );
    assert_eq!(value["spec"], json!({"size": 1, "labels": {"a": "b"}, "free": {"any": [1]}, "parts": [{"name": "a"}]}));
    assert_eq!((&value["kind"], &value["metadata"]["name"]), (&json!("Thing"), &json!("x")));
}

/// A null in what is applied was dropped like one in what is written, and the object became another than the one that was meant. Upstream refuses it.
#[test]
fn nulls_that_are_applied_stay() {
    let mut value = json!({"apiVersion": "example.org/v1", "kind": "Thing",
        "metadata": {"name": "x", "creationTimestamp": null}, "spec": {"size": null, "unknown": 1}});
    schema().prune_applied(&mut value).unwrap();
    assert_eq!(value["spec"], json!({"size": null}));
    assert_eq!(value["metadata"], json!({"name": "x"}));
    assert!(schema().prune_applied(&mut json!({"metadata": 1})).is_err());
}

/// Numbers that are whole only because floats are coarse are none.
#[test]
fn whole_numbers_end_where_floats_are_coarse() {
    let errors = |size: Value| {
        let errors = schema().validate(&json!({"spec": {"size": size}}), None);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(errors(json!(9_007_199_254_740_991.0)).is_empty());
    let wanted = r#"spec.size: Invalid value: "number": spec.size in body must be of type integer: "number""#;
    for size in [json!(1e30), json!(u64::MAX)] {
        assert_eq!(errors(size.clone()).first().map(String::as_str), Some(wanted), "{size}");
    }
}

#[test]
fn what_is_left_out_is_filled_in() {
    let mut value = json!({"spec": {"size": 1, "maybe": null, "colour": null, "parts": [{}, {"on": false}]}});
    schema().default(&mut value);
    assert_eq!(
        value["spec"],
        json!({"size": 1, "maybe": null, "colour": "blue", "parts": [{"on": true}, {"on": false}]})
    );
    let mut none = json!({"metadata": {}});
    schema().default(&mut none);
    assert_eq!(none, json!({"metadata": {}}), "a field without a default is not made for those below it");
}

#[test]
fn what_is_wrong_is_named_as_upstream_names_it() {
    let value = json!({"spec": {"port": true, "labels": {"a": 1}, "parts": [{"name": 3}]}});
    let errors: Vec<String> = schema().validate(&value, None).iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
            r#"spec.parts[0].name: Invalid value: "integer": spec.parts[0].name in body must be of type string: "integer""#,
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
            "spec.size: Required value",
        ]
    );
    assert!(schema().validate(&json!({"spec": {"size": 1.0, "port": "http", "maybe": null}}), None).is_empty());
}

#[test]
fn a_schema_that_makes_no_sense_is_refused() {
    let parse = |schema: Value| Structural::parse(Text::of("x"), &schema).unwrap_err().to_string();
    assert_eq!(
        parse(json!({"type": "object", "properties": {"a": {"type": "nonsense"}}})),
        r#"properties[a].type: "nonsense" is no type"#
    );
    assert!(parse(json!({"type": "array", "items": {}})).starts_with("items.type: Required value"));
    let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    assert!(parse(deep).contains("deeper than 64"));
}

/// Each of a million errors would say its path again, which can be as long as the object.
#[test]
fn a_large_object_that_is_all_wrong_is_refused_in_few_words() {
    let key = "k".repeat(100_000);
    let list = vec![json!(1); 10_000];
    let mut value =
        json!({"spec": {"size": 1, "labels": {&*key: list}, "parts": vec![json!({"what": 1, "name": 1}); 10_000]}});
    let mut strict = Vec::new();
    schema().prune(&mut value, &mut strict).unwrap();
    assert_eq!((strict.len(), schema().validate(&value, None).len()), (100, 100));
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = "spec|size|port|colour|maybe|labels|free|parts|name|on|metadata|kind|x";
    let leaf = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), "[a-z]{0,3}".prop_map(Value::from)];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_are_done_once(value in any_json()) {
        let (schema, mut once) = (schema(), value);
        if schema.prune(&mut once, &mut Vec::new()).is_ok() {
            schema.default(&mut once);
            let (mut twice, mut strict) = (once.clone(), Vec::new());
            schema.prune(&mut twice, &mut strict).unwrap();
            schema.default(&mut twice);
            prop_assert_eq!(twice, once);
            prop_assert!(strict.is_empty(), "{:?}", strict);
        }
        schema.validate(&json!({"spec": [1]}), None);
    }
}

/// Values and what upstream has against them, as a stock server words it.
#[test]
fn values_keep_to_what_their_schemas_say() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2},
        "f": {"type": "number", "maximum": 1.5, "exclusiveMaximum": true},
        "i": {"type": "integer", "format": "int32"},
        "s": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
        "e": {"type": "string", "enum": ["a", "b"]},
        "d": {"type": "string", "format": "date-time"},
        "l": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
        "m": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
        "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        "any": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "not": {"type": "string", "not": {"enum": ["bad"]}},
        "all": {"type": "string", "allOf": [{"minLength": 1}, {"pattern": "^x"}]},
    }});
    let schema = Structural::parse(Text::of("x"), &schema).unwrap();
    let errors = |field: &str, value: Value| -> Vec<String> {
        schema.validate(&json!({ field: value }), None).iter().map(ToString::to_string).collect()
    };
    for (field, value, wanted) in [
        ("n", json!(12), vec!["n: Invalid value: 12: n in body should be less than or equal to 10"]),
        ("n", json!(3), vec!["n: Invalid value: 3: n in body should be a multiple of 2"]),
        ("f", json!(1.5), vec!["f: Invalid value: 1.5: f in body should be less than 1.5"]),
        (
            "i",
            json!(3_000_000_000_i64),
            vec![r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in i"#],
        ),
        ("s", json!("a"), vec![r#"s: Invalid value: "a": s in body should be at least 2 chars long"#]),
        ("s", json!("abcde"), vec!["s: Too long: may not be more than 4 bytes"]),
        ("s", json!("AB"), vec![r#"s: Invalid value: "AB": s in body should match '^[a-z]+$'"#]),
        ("e", json!("c"), vec![r#"e: Unsupported value: "c": supported values: "a", "b""#]),
        ("d", json!("now"), vec![r#"d: Invalid value: "now": d in body must be of type date-time: "now""#]),
        ("l", json!([]), vec!["l: Invalid value: 0: l in body should have at least 1 items"]),
        ("l", json!(["a", "b", "c"]), vec!["l: Too many: 3: must have at most 2 items"]),
        ("m", json!({"a": "b", "c": "d"}), vec!["m: Too many: 2: must have at most 1 item"]),
        (
            "one",
            json!({"a": "x", "b": "y"}),
            vec![
                r#"<nil>: Invalid value: "": "one" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            "one",
            json!({}),
            vec![
                r#"<nil>: Invalid value: "": "one" must validate one and only one schema (oneOf). Found none valid"#,
                "one.a: Required value",
            ],
        ),
        ("any", json!("x"), vec![]),
        ("not", json!("bad"), vec![r#"<nil>: Invalid value: "": "not" must not validate the schema (not)"#]),
        (
            "all",
            json!("y"),
            vec![
                r#"all: Invalid value: "y": all in body should match '^x'"#,
                r#"<nil>: Invalid value: "": "all" must validate all the schemas (allOf)"#,
            ],
        ),
    ] {
        assert_eq!(errors(field, value), wanted, "{field}");
    }
}

#[test]
fn faults_of_what_did_not_change_are_let_go() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
            "type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
        "atomic": {"type": "array", "items": {"type": "string", "maxLength": 1}},
    }}}});
    let schema = Structural::parse(Text::of("x"), &schema).unwrap();
    let old = json!({"spec": {"a": "long", "b": "long", "list": [{"k": "x", "v": "long"}], "atomic": ["long", "b"]}});
    assert_eq!(schema.validate(&old, None).len(), 4);
    assert!(schema.validate(&old, Some(&old)).is_empty());
    let mut new = old.clone();
    new["spec"]["b"] = json!("longer");
    new["spec"]["list"] = json!([{"k": "y", "v": "b"}, {"k": "x", "v": "long"}]);
    new["spec"]["atomic"] = json!(["long", "c"]);
    let fields: Vec<String> = schema.validate(&new, Some(&old)).into_iter().map(|error| error.field).collect();
    assert_eq!(fields, ["spec.atomic[0]", "spec.b"], "lists that are one value are looked at as a whole");
}
