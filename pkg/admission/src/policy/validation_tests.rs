//! What policies say of objects.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use kedge_base::VirtualClock;
use serde_json::json;

use super::*;

fn policy(spec: Value) -> Policy<Validations> {
    Policy::read(&json!({"metadata": {"name": "p"}, "spec": spec}))
}

fn findings(spec: Value, object: &Value) -> Findings {
    let (params, namespace) = (json!({"data": {"max": "3"}}), json!({"metadata": {"labels": {"env": "prod"}}}));
    let given = Given { object, params: &params, namespace: &namespace, ..Given::NOTHING };
    policy(spec).evaluate(&given, &VirtualClock::new(Timestamp::UNIX_EPOCH))
}

fn messages(spec: Value, object: &Value) -> Vec<String> {
    findings(spec, object).denials.into_iter().map(|denial| denial.message).collect()
}

const KIND: &str = r#"{"apiVersion": "v1", "kind": "ConfigMap"}"#;

#[test]
fn a_failure_is_told_by_what_says_most() {
    let kind: Value = serde_json::from_str(KIND).unwrap();
    let (small, large) = (json!({"spec": {"replicas": 2}}), json!({"spec": {"replicas": 5}}));
    let rule = "object.spec.replicas <= variables.max";
    let spec = |fields: Value| {
        let mut validation = json!({"expression": rule});
        for (name, value) in fields.as_object().unwrap() {
            validation[name] = value.clone();
        }
        let variables = json!([{"name": "max", "expression": "int(params.data.max)"}]);
        json!({"paramKind": kind, "variables": variables, "validations": [validation]})
    };
    assert_eq!(messages(spec(json!({})), &small), [""; 0]);
    assert_eq!(messages(spec(json!({})), &large), [format!("failed expression: {rule}")]);
    assert_eq!(messages(spec(json!({"message": " too many "})), &large), ["too many"]);
    let made = |expression: &str| messages(spec(json!({"message": "m", "messageExpression": expression})), &large);
    let text = "'at most ' + string(variables.max) + ' in ' + namespaceObject.metadata.labels.env";
    assert_eq!(made(text), ["at most 3 in prod"]);
    for useless in ["'  '", "'a\\nb'", "object.none", "string(object)", "'x'.matches('(')"] {
        assert_eq!(made(useless), ["m"], "{useless}");
    }
    let reason = findings(spec(json!({"reason": "Forbidden"})), &large).denials[0].reason;
    assert_eq!(reason, Reason::Forbidden);
    assert_eq!(findings(spec(json!({})), &large).denials[0].reason, Reason::Invalid);
}

#[test]
fn an_error_is_a_matter_of_the_failure_policy() {
    let spec = |failure: &str, rule: &str| json!({"failurePolicy": failure, "validations": [{"expression": rule}]});
    let object = json!({});
    let told = "expression 'object.none == 1' resulted in error: no such key: none";
    let found = findings(spec("Fail", "object.none == 1"), &object);
    let denial = Denial { index: 0, message: told.to_owned(), reason: Reason::Unknown, took: Duration::ZERO };
    assert_eq!(found, Findings { denials: vec![denial.clone()], ..Findings::default() });
    let ignored = Findings { ignored: vec![denial], ..Findings::default() };
    assert_eq!(findings(spec("Ignore", "object.none == 1"), &object), ignored);
    let compiling = messages(spec("Fail", "none"), &object);
    assert!(compiling[0].starts_with("compilation error: compilation failed: ERROR: "), "{compiling:?}");
    assert_eq!(messages(spec("Ignore", "object != object"), &object).len(), 1, "that is no error");
    let costly = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
                  [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))";
    let validations: Vec<Value> = (0..30).map(|_| json!({"expression": costly})).collect();
    let exhausted = messages(json!({"failurePolicy": "Fail", "validations": validations}), &object);
    assert_eq!(exhausted.len(), 1, "nobody else is asked");
    assert!(exhausted[0].starts_with("validation failed due to running out of cost budget"), "{exhausted:?}");
}

#[test]
fn conditions_go_first() {
    let spec = |condition: &str, failure: &str| {
        let conditions = json!([{"name": "c", "expression": condition}]);
        json!({"failurePolicy": failure, "matchConditions": conditions, "validations": [{"expression": "false"}]})
    };
    let object = json!({"a": 1});
    assert_eq!(messages(spec("object.a == 1", "Fail"), &object), ["failed expression: false"]);
    assert_eq!(messages(spec("object.a == 2", "Fail"), &object), [""; 0]);
    let told = "expression 'object.b == 2' resulted in error: no such key: b";
    assert_eq!(messages(spec("object.b == 2", "Fail"), &object), [told]);
    assert_eq!(messages(spec("object.b == 2", "Ignore"), &object), [""; 0]);
    assert_eq!(messages(spec("namespaceObject == null", "Fail"), &object).len(), 1, "they are not told of it");
}

#[test]
fn annotations_are_texts_or_nothing() {
    let spec = |expression: &str, failure: &str| json!({"failurePolicy": failure, "auditAnnotations": [{"key": "k", "valueExpression": expression}]});
    let object = json!({"a": "x", "n": 1});
    let of = |expression: &str| findings(spec(expression, "Fail"), &object);
    assert_eq!(of("' is ' + object.a").annotations, [("k".into(), "is x".to_owned())]);
    assert_eq!(of("object.a == 'x' ? null : null"), Findings::default());
    assert_eq!(of("'  '"), Findings::default());
    assert_eq!(of("string(object.none)").broken.len(), 1);
    assert_eq!(findings(spec("string(object.none)", "Ignore"), &object), Findings::default());
}
