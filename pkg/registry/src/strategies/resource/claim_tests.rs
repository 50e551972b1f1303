//! What claims may ask for, in upstream's words.

use super::*;
use serde_json::json;

fn said(claim: Value) -> Vec<String> {
    let (object, mut errors) = (json!({ "devices": claim }), ErrorList::new());
    devices(&At::field(&object, "devices"), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn exactly(fields: Value) -> Vec<String> {
    let mut request = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
    for (name, value) in fields.as_object().into_iter().flatten() {
        request.set(name, value.clone());
    }
    let said = said(json!({"requests": [{"name": "r", "exactly": request}]}));
    said.iter().map(|text| text.replace("devices.requests[0].exactly.", "")).collect()
}

#[test]
fn a_request_is_one_thing_or_one_of_some() {
    let one = json!({"name": "a", "deviceClassName": "c", "allocationMode": "All"});
    let exact = json!({"deviceClassName": "c", "allocationMode": "All"});
    assert!(said(json!({"requests": [{"name": "r", "firstAvailable": [one]}]})).is_empty());
    let name = "a lowercase RFC 1123 label must consist";
    let wrong = said(
        json!({"requests": [{}, {"name": "r", "firstAvailable": [one], "exactly": exact}, {"name": "r", "exactly": exact},
        {"name": "s", "firstAvailable": [one, one]}]}),
    );
    assert!(wrong[0].starts_with(&format!("devices.requests[0].name: Invalid value: \"\": {name}")), "{wrong:?}");
    assert_eq!(
        wrong[1..],
        [
            "devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            "devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            "devices.requests[3].firstAvailable[1]: Duplicate value: \"a\"",
            "devices.requests[2]: Duplicate value: \"r\"",
        ]
    );
}

#[test]
fn so_many_devices_of_a_class_or_all() {
    assert!(exactly(json!({})).is_empty() && exactly(json!({"allocationMode": "All", "count": 0})).is_empty());
    for (fields, wrong) in [
        (json!({"deviceClassName": ""}), "deviceClassName: Required value"),
        (json!({"count": 0}), "count: Invalid value: 0: must be greater than zero"),
        (
            json!({"allocationMode": "All"}),
            "count: Invalid value: 1: must not be specified when allocationMode is 'All'",
        ),
        (
            json!({"allocationMode": "Some"}),
            "allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ),
        (json!({"selectors": [{}]}), "selectors[0].cel: Required value"),
        (json!({"tolerations": [{}]}), "tolerations[0].operator: Required value"),
        (
            json!({"tolerations": [{"operator": "Exists", "value": "a"}]}),
            "tolerations[0].value: Invalid value: \"a\": must be empty for operator `Exists`",
        ),
        (
            json!({"tolerations": [{"operator": "Like"}]}),
            "tolerations[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            json!({"tolerations": [{"operator": "Equal", "effect": "Odd"}]}),
            "tolerations[0].effect: Unsupported value: \"Odd\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ),
    ] {
        assert_eq!(exactly(fields), [wrong]);
    }
}

#[test]
fn constraints_and_configurations_are_for_requests_that_there_are() {
    let requests = json!([{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All"}}]);
    let of = |constraints: Value, config: Value| {
        said(json!({"requests": requests, "constraints": constraints, "config": config}))
    };
    let opaque = json!({"driver": "d", "parameters": {}});
    assert!(of(json!([{"requests": ["r"], "matchAttribute": "a.b/c"}]), json!([{ "opaque": opaque }])).is_empty());
    let unknown = format!("Invalid value: \"s\": {REFERENCE}");
    assert_eq!(
        of(
            json!([{"requests": ["s", "r", "r"]}, {"distinctAttribute": "c"}]),
            json!([{"requests": ["s"], "opaque": opaque}, {}])
        ),
        [
            format!("devices.constraints[0].requests[0]: {unknown}"),
            "devices.constraints[0].requests[2]: Duplicate value: \"r\"".into(),
            "devices.constraints[0]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but \
             multiple fields are set"
                .into(),
            "devices.constraints[1].distinctAttribute: Invalid value: \"c\": a fully qualified name must be a domain and a name \
             separated by a slash"
                .into(),
            format!("devices.config[0].requests[0]: {unknown}"),
            "devices.config[1].opaque: Required value".into(),
        ]
    );
}

#[test]
fn what_a_template_says_of_a_claims_metadata_is_judged() {
    let errors = of_template(&At::field(&json!({"spec": {"metadata": {"labels": {"a b": "c"}, "name": "x"}}}), "spec"));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("spec.metadata.labels: Invalid value: \"a b\": name part"), "{texts:?}");
    assert_eq!(texts[1], "spec.metadata.name: Forbidden: cannot be set");
}
