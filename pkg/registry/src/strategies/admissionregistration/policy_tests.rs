//! What policies and bindings must say.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn spec(fields: &Value) -> Value {
    let rule = json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"});
    let constraints =
        json!({"resourceRules": [rule], "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
    let mut spec =
        json!({"failurePolicy": "Fail", "matchConstraints": constraints, "validations": [{"expression": "true"}]});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn said(fields: Value) -> Vec<String> {
    validate(&spec(&fields), None).iter().map(|error| error.to_string().replacen("spec.", "", 1)).collect()
}

fn said_of(validation: Value) -> Vec<String> {
    let errors = said(json!({"validations": [validation]}));
    errors.into_iter().map(|error| error.replacen("validations[0].", "", 1)).collect()
}

#[test]
fn fields_are_checked_in_upstreams_words() {
    assert_eq!(said(json!({})), [""; 0]);
    assert_eq!(said(json!({"failurePolicy": null})), ["failurePolicy: Required value"]);
    assert_eq!(said(json!({"matchConstraints": null})), ["matchConstraints: Required value"]);
    let nothing = "Required value: validations or auditAnnotations must contain at least one item";
    assert_eq!(
        said(json!({"validations": []})),
        [format!("validations: {nothing}"), format!("auditAnnotations: {nothing}")]
    );
    let kind = |api_version: &str, kind: &str| said(json!({"paramKind": {"apiVersion": api_version, "kind": kind}}));
    assert_eq!(kind("v1", "ConfigMap"), [""; 0]);
    assert_eq!(kind("", ""), ["paramKind.apiVersion: Required value", "paramKind.kind: Required value"]);
    assert_eq!(
        kind("a/b/c", "K"),
        ["paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"]
    );
    assert_eq!(kind("a/", "K"), ["paramKind.apiVersion: Invalid value: \"a/\": version must be specified"]);
    assert!(
        kind("v1", "-K")[0]
            .starts_with("paramKind.kind: Invalid value: \"-K\": may have mixed case, but should otherwise match: ")
    );
    let key = said(json!({"auditAnnotations": [{"key": "a b", "valueExpression": "1"}]}));
    assert!(key[0].starts_with("auditAnnotations[0].key: Invalid value: \"p/a b\": "), "{key:?}");
    assert_eq!(
        key[1],
        "auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int"
    );
    let names = said(json!({"variables": [{"name": "for", "expression": "1"}, {"name": "", "expression": ""}]}));
    assert_eq!(
        names,
        [
            "variables[0].name: Invalid value: \"for\": must be a valid CEL identifier",
            "variables[1].name: Required value: name is not specified",
            "variables[1].expression: Required value: expression is not specified",
        ]
    );
}

#[test]
fn validations_are_checked() {
    assert_eq!(said_of(json!({"expression": " "})), ["expression: Required value: expression is not specified"]);
    assert_eq!(
        said_of(json!({"expression": "1"})),
        ["expression: Invalid value: \"1\": must evaluate to bool but got int"]
    );
    assert_eq!(
        said_of(json!({"expression": "true", "message": "a\nb", "messageExpression": " ", "reason": "x"})),
        [
            "messageExpression: Invalid value: \" \": must be non-empty if specified",
            "message: Invalid value: \"a\\nb\": must not contain line breaks",
            "reason: Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ]
    );
    assert_eq!(
        said_of(json!({"expression": "true", "message": " "})),
        ["message: Invalid value: \" \": must be non-empty if specified"]
    );
    let syntax = said_of(json!({"expression": "object..a"}));
    assert!(
        syntax[0].starts_with(
            "expression: Invalid value: \"object..a\": compilation failed: ERROR: <input>:1:8: Syntax error"
        ),
        "{syntax:?}"
    );
    let rights = said_of(json!({"expression": "true", "messageExpression": "string(authorizer == authorizer)"}));
    assert!(rights[0].contains("undeclared reference to 'authorizer'"), "{rights:?}");
    assert!(said_of(json!({"expression": "params.a"}))[0].contains("undeclared reference to 'params'"));
    assert!(said_of(json!({"expression": "variables.a"}))[0].contains("undeclared reference to 'variables'"));
}

#[test]
fn what_was_stored_is_not_held_against_an_update() {
    let conditions = |text: &str| json!({"matchConditions": [{"name": "", "expression": text}]});
    let (bad, other) = (spec(&conditions("true")), spec(&conditions("false")));
    let of = |new: &Value, old: Option<&Value>| validate(new, old).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of(&bad, None), ["spec.matchConditions[0].name: Required value"]);
    assert_eq!(of(&bad, Some(&bad)), [""; 0]);
    assert_eq!(of(&bad, Some(&other)).len(), 1);
    let mut with_params = bad.clone();
    with_params["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    assert_eq!(of(&with_params, Some(&bad)).len(), 1, "conditions have another variable now");
}
