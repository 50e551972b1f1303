//! What rules say of objects.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.max", "message": "min must not exceed max", "fieldPath": ".min"},
                {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max)", "reason": "FieldValueForbidden"}],
            "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"},
                "name": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "name is immutable"},
                    {"rule": "self.startsWith('a')"}]},
                "list": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer",
                        "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]}}}},
                "map": {"type": "object", "additionalProperties": {"type": "integer",
                    "x-kubernetes-validations": [{"rule": "self > 0", "message": "must be positive"}]}},
                "first": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true, "message": "begins with 1"}]},
            }},
    }})
}

fn check(new: Value, old: Option<Value>) -> Vec<String> {
    let object =
        |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec});
    let (new, old) = (object(new), old.map(object));
    Rules::of(&schema()).unwrap().check(&new, old.as_ref()).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_are_kept_or_named() {
    let good = json!({"min": 1, "max": 2, "name": "abc", "map": {"x": 1}, "first": 1});
    assert!(check(good.clone(), None).is_empty());
    for (change, wanted) in [
        (json!({"min": 3}), "spec.min: Invalid value: min must not exceed max"),
        (json!({"max": 100}), "spec: Forbidden: max is 100"),
        (json!({"name": "xyz"}), r#"spec.name: Invalid value: "xyz": failed rule: self.startsWith('a')"#),
        (json!({"map": {"x": 0}}), "spec.map[x]: Invalid value: 0: must be positive"),
        (json!({"first": 2}), "spec.first: Invalid value: 2: begins with 1"),
    ] {
        let mut spec = good.clone();
        for (name, value) in change.as_object().unwrap() {
            spec[name] = value.clone();
        }
        assert_eq!(check(spec, None), [wanted]);
    }
}

#[test]
fn changes_are_judged_by_what_was_there() {
    let spec = |name: &str, v: i64| json!({"min": 1, "max": 2, "name": name, "list": [{"k": "b", "v": 1}, {"k": "a", "v": v}]});
    assert!(check(spec("abc", 5), Some(spec("abc", 5))).is_empty());
    assert_eq!(check(spec("abd", 5), Some(spec("abc", 5))), [r#"spec.name: Invalid value: "abd": name is immutable"#]);
    let mut old = spec("abc", 6);
    old["list"].as_array_mut().unwrap().reverse();
    assert_eq!(check(spec("abc", 5), Some(old)), ["spec.list[1].v: Invalid value: 5: may only grow"]);
    // What was wrong and stays as it was is let go, but not what is new.
    assert!(check(json!({"min": 3, "max": 2}), Some(json!({"min": 3, "max": 2}))).is_empty());
    assert_eq!(check(json!({"min": 4, "max": 2}), Some(json!({"min": 3, "max": 2}))).len(), 1);
}

/// What is let go is said all the same: objects that were there before a rule would otherwise never be repaired.
#[test]
fn what_is_let_go_is_told_of() {
    let object = json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": {"min": 3, "max": 2}});
    let verdict = Rules::of(&schema()).unwrap().check(&object, Some(&object));
    assert!(verdict.errors.is_empty());
    let told: Vec<String> = verdict.let_go.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["spec.min: Invalid value: min must not exceed max"]);
}

/// Nothing that a client writes keeps the server busy: what rules cost is counted as they run.
#[test]
fn rules_that_cost_too_much_end() {
    let bomb = "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0))))";
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [{"rule": bomb}],
        "properties": {"l": {"type": "array", "items": {"type": "integer"}}}}}});
    let object = json!({"spec": {"l": (0..1000).collect::<Vec<_>>()}});
    let errors: Vec<String> =
        Rules::of(&schema).unwrap().check(&object, None).errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].contains("no further validation rules will be run due to call cost exceeds limit"),
        "{}",
        errors[0]
    );
}

/// Istio's ServiceEntry has a rule about `(has(self.addresses) ? self.addresses : [])`. An item of a list that an expression has put together comes
/// from no place in the schema, and was taken for one without bounds: the definition was refused. Upstream takes it to be as large as `self`.
#[test]
fn items_of_lists_that_a_rule_makes_are_bounded() {
    use super::super::apiextensions::custom_resource_definition::hooks::{Known, Rules as _};
    let cost = |rule: &str| {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {
            "addresses": {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 64}}}});
        DefinitionRules.compile(&schema, false, &Known::default()).unwrap()[0].cost
    };
    for rule in [
        "(has(self.addresses) ? self.addresses : []).exists(k, k.contains('/'))",
        "([] + self.addresses).exists(k, k.contains('/'))",
        "(has(self.addresses) ? self.addresses : [])[0].contains('/')",
    ] {
        assert!(cost(rule) < kedge_cel::limits::RUNTIME_COST_BUDGET, "{rule}");
    }
}
