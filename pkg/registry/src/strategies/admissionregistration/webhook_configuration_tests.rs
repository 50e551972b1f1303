//! What a configuration must say.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn configuration(fields: &Value) -> Value {
    let mut hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://x"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods"], "scope": "*"}]});
    for (name, value) in fields.as_object().unwrap() {
        hook[name] = value.clone();
    }
    json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": "x"}, "webhooks": [hook]})
}

fn said(errors: &ErrorList) -> Vec<String> {
    errors.iter().map(|error| error.to_string().trim_start_matches("webhooks[0].").to_owned()).collect()
}

fn created(fields: Value) -> Vec<String> {
    said(&validate(&configuration(&fields), Demands::ALL, &Known::new()))
}

fn resources(list: &[&str]) -> Vec<String> {
    created(json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": list}]}))
}

#[test]
fn fields_are_checked_in_upstreams_words() {
    assert_eq!(created(json!({})), [""; 0]);
    for (fields, wanted) in [
        (json!({"name": ""}), "name: Required value"),
        (
            json!({"name": "a.b"}),
            "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            json!({"failurePolicy": "x"}),
            "failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            json!({"matchPolicy": "x"}),
            "matchPolicy: Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
        ),
        (
            json!({"reinvocationPolicy": "x"}),
            "reinvocationPolicy: Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\"",
        ),
        (
            json!({"sideEffects": "Some"}),
            "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (json!({"sideEffects": null}), "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        (
            json!({"timeoutSeconds": 31}),
            "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            json!({"admissionReviewVersions": []}),
            "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            json!({"admissionReviewVersions": ["v2"]}),
            "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            json!({"admissionReviewVersions": ["v1", "v1"]}),
            "admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": " "}]}),
            "matchConditions[0].expression: Required value",
        ),
        (
            json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            json!({"rules": [{"operations": ["*"], "apiGroups": ["a", "*"], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            "rules[0].apiGroups: Invalid value: [\"a\",\"*\"]: if '*' is present, must not specify other API groups",
        ),
        (
            json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": [""], "resources": ["pods"]}]}),
            "rules[0].apiVersions[0]: Required value",
        ),
    ] {
        assert_eq!(created(fields.clone()), [wanted], "{fields}");
    }
}

#[test]
fn resources_that_say_the_same_twice_are_refused() {
    for good in [&["pods", "pods/*"][..], &["*", "pods/status"], &["*/*"], &["a/*", "b/status", "*/scale"]] {
        assert_eq!(resources(good), [""; 0], "{good:?}");
    }
    let at = |i: usize, value: &str, why: &str| format!("rules[0].resources[{i}]: Invalid value: {value:?}: {why}");
    assert_eq!(resources(&["a/*", "a/x"]), [at(1, "a/x", "if 'a/*' is present, must not specify a/x")]);
    assert_eq!(resources(&["*/x", "a/x"]), [at(1, "a/x", "if '*/x' is present, must not specify a/x")]);
    let whole = "rules[0].resources: Invalid value: ";
    assert_eq!(
        resources(&["*/*", "a"]),
        [format!("{whole}[\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources")]
    );
    let single = "if '*' is present, must not specify other resources without subresources";
    assert_eq!(resources(&["*", "a"]), [format!("{whole}[\"*\",\"a\"]: {single}")]);
    assert_eq!(resources(&[]), ["rules[0].resources: Required value"]);
    assert_eq!(resources(&[""]), ["rules[0].resources[0]: Required value"]);
}

/// What was stored before a rule came is not held against who changes something else of it.
#[test]
fn an_update_need_not_mend_what_was_wrong_before() {
    let value = json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}});
    for (fields, wanted) in [
        (json!({"sideEffects": "Some"}), "sideEffects: "),
        (json!({"admissionReviewVersions": ["v2"]}), "admissionReviewVersions: "),
        (json!({"matchConditions": [{"name": "", "expression": "true"}]}), "matchConditions[0].name: "),
        (value, "objectSelector."),
    ] {
        let (good, bad) = (configuration(&json!({})), configuration(&fields));
        let errors = said(&validate(&bad, Demands::after(&bad, &good), &known(&good)));
        assert!(errors.len() == 1 && errors[0].starts_with(wanted), "{errors:?}");
        assert_eq!(said(&validate(&bad, Demands::after(&bad, &bad), &known(&bad))), [""; 0], "{fields}");
    }
    let twice = |mut one: Value| {
        let hook = one["webhooks"][0].clone();
        one["webhooks"] = json!([hook.clone(), hook]);
        one
    };
    let (one, two) = (configuration(&json!({})), twice(configuration(&json!({}))));
    assert_eq!(
        said(&validate(&two, Demands::after(&two, &one), &known(&one))),
        ["webhooks[1].name: Duplicate value: \"a.b.c\""]
    );
    assert_eq!(said(&validate(&two, Demands::after(&two, &two), &known(&two))), [""; 0]);
}
