//! Definitions, and what a stock server says of them: its answers were recorded, ours must be the same.

#![allow(clippy::unwrap_used)]

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

/// An engine whose rules are words: what each comes to.
struct Words;

impl hooks::Rules for Words {
    fn compile(
        &self,
        schema: &Value,
        is_resource: bool,
        known: &hooks::Known<'_>,
    ) -> Result<Vec<hooks::Compiled>, String> {
        let compile = |rule: &Value| {
            let words = rule.text(&["rule"]);
            let number = |name: &str| words.split_once(name).and_then(|(_, n)| n.split(' ').next()?.parse().ok());
            let fault = match words {
                words if known.rules.contains(words) => None,
                words if words.contains("none") => Some(hooks::Fault::Required("there is none".into())),
                words if words.contains("broken") => Some(hooks::Fault::Invalid(format!("resource: {is_resource}"))),
                _ => None,
            };
            let message = match rule.text(&["messageExpression"]) {
                "" => None,
                "broken" => Some(Err("no message".to_owned())),
                cost => cost.parse().ok().map(Ok),
            };
            let (cost, uses_old_self) = (number("cost=").unwrap_or(1), words.contains("oldSelf"));
            hooks::Compiled { fault, cost, cardinality: number("times=").unwrap_or(1), uses_old_self, message }
        };
        match schema.text(&["description"]) {
            "no type" => Err("there is no type".to_owned()),
            _ => Ok(schema.list(&["x-kubernetes-validations"]).iter().map(compile).collect()),
        }
    }

    fn check_default(&self, path: &Path, _: &Value, value: &Value, _: bool, budget: &mut i64) -> ErrorList {
        *budget -= 6_000_000;
        if value == "bad" { vec![Error::invalid(path, value, "a rule says so")] } else { ErrorList::new() }
    }
}

fn with_rules(case: &str, old: Option<&str>) -> Vec<String> {
    let engines = Engines { rules: Some(std::sync::Arc::new(Words)) };
    let read = |text: &str| written(definition(&read(text)));
    let errors = match old {
        None => validate(&read(case), &engines),
        Some(old) => validate_update(&read(case), &read(old), &engines),
    };
    errors.iter().map(|error| error.to_string().replace("spec.validation.openAPIV3Schema", "S")).collect()
}

const RULE: &str = "S.properties[x].x-kubernetes-validations[0]";

#[test]
fn what_compiling_rules_comes_to_is_told() {
    let of =
        |rule: &str| with_rules(&format!("{{prop: {{type: string, x-kubernetes-validations: [{{{rule}}}]}}}}"), None);
    let shown = |rule: &str, message: &str| {
        let rest = "\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null";
        format!("{{\"Rule\":\"{rule}\",\"Message\":\"\",\"MessageExpression\":\"{message}\",{rest}}}")
    };
    assert_eq!(of("rule: fine"), Vec::<String>::new());
    assert_eq!(of("rule: none"), [format!("{RULE}.rule: Required value: there is none")]);
    let broken = shown("broken", "");
    assert_eq!(of("rule: broken"), [format!("{RULE}.rule: Invalid value: {broken}: resource: false")]);
    let silent = shown("fine", "broken");
    assert_eq!(
        of("rule: fine, messageExpression: broken"),
        [format!("{RULE}.messageExpression: Invalid value: {silent}: no message")]
    );
    let old = "may not be set if oldSelf is not used in rule";
    assert_eq!(
        of("rule: fine, optionalOldSelf: true"),
        [format!("{RULE}.optionalOldSelf: Invalid value: true: {old}")]
    );
    assert_eq!(of("rule: oldSelf, optionalOldSelf: true"), Vec::<String>::new());
    let no_type = "{prop: {type: string, description: no type, x-kubernetes-validations: [{rule: a}]}}";
    let why = "Internal error: there is no type";
    assert_eq!(with_rules(no_type, None), [format!("S.properties[x].x-kubernetes-validations: {why}")]);
    // A schema that is wrong elsewhere does not hide a rule, one that is wrong here does.
    assert_eq!(of("rule: broken, reason: Mood").len(), 1);
}

#[test]
fn rules_cost_as_often_as_their_places_can_occur() {
    let of = |schema: &str| with_rules(&format!("{{prop: {schema}}}"), None);
    let rule = "x-kubernetes-validations: [{rule: cost=1000 times=70000}]";
    let list = |limit: &str| {
        format!("{{type: array, {limit} items: {{type: array, maxItems: 20, items: {{type: string, {rule}}}}}}}")
    };
    assert_eq!(of(&list("maxItems: 10,")), Vec::<String>::new());
    let over = of(&list("maxItems: 600,"));
    assert!(
        over[0].starts_with(
            "S.properties[x].items.items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost"
        )
    );
    assert!(over[0].contains("by factor of 1.200000x (try"), "{over:?}");
    // Without a limit above it is what the type says, and all rules together have a limit of their own.
    assert!(of(&list(""))[0].contains("by factor of 7.0x (try"));
    let many = of(
        "{type: string, x-kubernetes-validations: [{rule: cost=99000000}, {rule: cost=2000000 b, messageExpression: '11000000'}]}",
    );
    assert_eq!(many.len(), 6, "{many:?}");
    assert!(many[5].starts_with("S: Forbidden: x-kubernetes-validations estimated rule cost total"), "{many:?}");
    // What was there before may cost what it costs, but not all together.
    let costly = "{prop: {type: string, x-kubernetes-validations: [{rule: cost=20000000 broken}]}}";
    assert_eq!(with_rules(costly, None).len(), 2);
    assert_eq!(with_rules(costly, Some(costly)), Vec::<String>::new());
}

#[test]
fn old_values_are_told_apart_only_where_items_have_keys() {
    let of = |list: &str| {
        with_rules(
            &format!(
                "{{prop: {{type: array, {list} items: {{type: object, properties: {{a: {{type: string, x-kubernetes-validations: [{{rule: oldSelf}}]}}}}, required: [a]}}}}}}"
            ),
            None,
        )
    };
    assert_eq!(of("x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [a],"), Vec::<String>::new());
    let why =
        "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema";
    let said = of("");
    assert!(said.len() == 1 && said[0].contains(&why.replace("spec.validation.openAPIV3Schema", "S")), "{said:?}");
}

#[test]
fn rules_judge_defaults_until_their_budget_is_spent() {
    let bad = with_rules("{prop: {type: string, default: bad}}", None);
    assert_eq!(bad, ["S.properties[x].default: Invalid value: \"bad\": a rule says so"]);
    let many = "{schema: {type: object, properties: {a: {type: string, default: bad}, b: {type: string, default: bad},
                 c: {type: string, default: bad}}}}";
    assert_eq!(with_rules(many, None).len(), 2);
}

/// Each place has a path, and few long names above many places would make them all long.
#[test]
fn many_fields_below_a_long_name_are_refused_at_once() {
    let fields: serde_json::Map<String, Value> = (0..100_000).map(|i| (format!("f{i}"), json!({}))).collect();
    let inner = json!({"type": "object", "properties": fields});
    let case = json!({"schema": {"type": "object", "properties": {"n".repeat(1_000_000): inner}}});
    let errors = validate(&written(definition(&case)), &Engines::default());
    assert_eq!(errors.len(), 1, "{:?}", errors.len());
    assert!(errors[0].detail.contains("too many for the length of their names"));
    let keys: Vec<String> = (0..100_000).map(|i| format!("k{i}")).collect();
    let list = json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys});
    assert_eq!(validate(&written(definition(&json!({ "prop": list }))), &Engines::default()).len(), 16);
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

/// What is wrong with the base of a name is said before what is wrong with the name.
#[test]
fn names_are_judged_one_after_the_other() {
    let mut wrong = written(valid());
    wrong["metadata"] = json!({"name": "A_x", "generateName": "A_"});
    let said = said_of_new(&wrong);
    let fields: Vec<&str> = said.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(fields, ["metadata.generateName", "metadata.generateName", "metadata.name", "metadata.name"]);
    assert!(said[1].ends_with("\"A_\": must be spec.names.plural+\".\"+spec.group"), "{said:?}");
}
