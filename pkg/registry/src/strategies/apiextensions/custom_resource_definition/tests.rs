//! Definitions, and what a stock server says of them: its answers were recorded, ours must be the same.

use std::collections::BTreeMap;

use kedge_schema::SchemaRef;

use super::*;
use crate::metadata;

type Answers = BTreeMap<String, Vec<String>>;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_yaml::from_str(text).unwrap()
}

/// The valid definition that cases differ from.
fn valid() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.x.example.com"},
        "spec": {
            "group": "x.example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object"}}}}}],
        },
    })
}

fn merge(into: &mut Value, case: &Value, part: &str) {
    for (key, value) in case.get(part).and_then(Value::as_object).into_iter().flatten() {
        into.set(key, value.clone());
    }
}

/// The definition of a case, as a client writes it.
fn definition(case: &Value) -> Value {
    let mut definition = valid();
    {
        let version = &mut definition["spec"]["versions"][0];
        if let Some(schema) = case.get("schema") {
            version["schema"] = json!({ "openAPIV3Schema": schema });
        }
        if let Some(schema) = case.get("prop") {
            version["schema"]["openAPIV3Schema"]["properties"]["x"] = schema.clone();
        }
        merge(version, case, "version");
    }
    merge(&mut definition["metadata"], case, "meta");
    merge(&mut definition["spec"], case, "spec");
    definition
}

/// The definition as a write brings it before the rules.
fn written(mut definition: Value) -> Value {
    let schema = SchemaRef::builtin_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    schema.conform(&mut definition, &mut Vec::new()).unwrap();
    schema.default(&mut definition);
    definition.set_or_remove("status", None);
    remember_storage_version(&mut definition);
    schema.normalize(&mut definition);
    definition
}

fn said_of_new(definition: &Value) -> Vec<String> {
    let strategy = CustomResourceDefinition::default();
    let mut errors = metadata::validate(definition, &strategy);
    errors.extend(validate(definition, &strategy.engines));
    errors.iter().map(ToString::to_string).collect()
}

/// What differs of all cases.
fn compare(cases: &str, answers: &str, judge: fn(&Value) -> Vec<String>) {
    let cases: Vec<Value> = read(cases);
    let answers: Answers = read(answers);
    assert_eq!(cases.len(), answers.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let say = case.text(&["say"]);
        let (ours, theirs) = (judge(case), &answers[say]);
        if ours != *theirs {
            let line = "\n          ";
            wrong.push(format!("{say}\n  ours:   {}\n  theirs: {}", ours.join(line), theirs.join(line)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn new_definitions_are_judged_as_a_stock_server_does() {
    compare(include_str!("cases.yaml"), include_str!("answers.yaml"), |case| said_of_new(&written(definition(case))));
}

/// The definition as it was stored.
fn stored(case: &Value) -> Value {
    let mut old = definition(case.get("old").unwrap_or(&Value::Null));
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "m"});
    let names = &mut old["spec"]["names"];
    for (field, name) in [("singular", "thing"), ("listKind", "ThingList")] {
        if names.get(field).is_none() {
            names.set(field, name);
        }
    }
    let conditions = match case.flag(&["young"]) {
        Some(true) => Vec::new(),
        _ => vec![condition("NamesAccepted"), condition("Established")],
    };
    let stored = case.get("stored").cloned().unwrap_or_else(|| json!(["v1"]));
    let names = names.clone();
    let mut status = json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored});
    std::mem::swap(&mut old["status"], &mut status);
    let schema = SchemaRef::builtin_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    schema.conform(&mut old, &mut Vec::new()).unwrap();
    schema.default(&mut old);
    schema.normalize(&mut old);
    old
}

fn said_of_change(case: &Value) -> Vec<String> {
    let old = stored(case);
    let mut new = written(definition(case.get("new").unwrap_or(&Value::Null)));
    new["metadata"].set("name", old.name().to_owned());
    new.set("status", old["status"].clone());
    remember_storage_version(&mut new);
    validate_update(&new, &old, &Engines::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn changed_definitions_are_judged_as_a_stock_server_does() {
    compare(include_str!("changes.yaml"), include_str!("changes_answers.yaml"), said_of_change);
}

#[test]
fn formats_that_come_and_say_nothing_are_warned_about() {
    let of = |formats: &str| definition(&json!({ "schema": read::<Value>(formats) }));
    let old = of("{type: object, properties: {a: {type: string, format: nope}}}");
    let new = of(
        "{type: object, properties: {a: {type: string, format: nope}, b: {type: integer, format: int8},
          c: {type: array, items: {type: string, format: date-time}}, d: {type: boolean, format: x}, e: {format: k8s-short-name},
          f: {type: number, format: float, anyOf: [{format: x}]}}}",
    );
    let quoted = |formats: &[&str]| formats.iter().map(|f| format!("unrecognized format {f:?}")).collect::<Vec<_>>();
    assert_eq!(formats::warnings(&new, Some(&old), 9), quoted(&["int8", "x"]));
    assert_eq!(formats::warnings(&new, None, 9), quoted(&["nope", "int8", "x"]));
    assert_eq!(formats::warnings(&new, None, 2).len(), 2);
}

#[test]
fn the_storage_version_is_remembered_once() {
    let mut definition = valid();
    remember_storage_version(&mut definition);
    remember_storage_version(&mut definition);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
}

#[test]
fn the_first_deletion_marks_and_waits() {
    let mut definition = written(valid());
    assert!(CustomResourceDefinition::default().mark_first(&mut definition, "2026-01-01T00:00:00Z"));
    assert_eq!(definition["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(definition["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    let condition = &definition["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Terminating"), &json!("True")));
    assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
}
