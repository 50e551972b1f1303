//! What slices may say, in upstream's words.

use super::*;
use serde_json::json;

fn slice(fields: Value) -> Value {
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let mut spec = json!({"driver": "d.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": "d"}]});
    for (name, value) in fields.as_object().into_iter().flatten() {
        spec.set_or_remove(name, Some(value.clone()).filter(|value| !value.is_null()));
    }
    json!({ "spec": spec })
}

fn said(fields: Value) -> Vec<String> {
    validate(&slice(fields), None).iter().map(ToString::to_string).collect()
}

#[test]
fn devices_are_somewhere_in_one_way() {
    assert!(said(json!({})).is_empty());
    assert!(said(json!({"nodeName": null, "allNodes": true})).is_empty());
    let one = |term: Value| json!({"nodeName": null, "nodeSelector": {"nodeSelectorTerms": term}});
    let label = |value: &str| json!([{"matchExpressions": [{"key": "a", "operator": "In", "values": [value]}]}]);
    assert!(said(one(label("b"))).is_empty());
    assert!(said(one(label("b c")))[0].starts_with(
        "spec.nodeSelector.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"b c\": a valid label"
    ));
    assert_eq!(
        said(one(json!([]))),
        [
            "spec.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
            "spec.nodeSelector.nodeSelectorTerms: Invalid value: []: must have exactly one node selector term",
        ]
    );
    assert_eq!(
        said(json!({"nodeName": "", "allNodes": false})),
        [
            "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string".to_owned(),
            "spec.allNodes: Invalid value: false: must be either unset or set to true".to_owned(),
            format!("spec: Required value: {ONE_OF}"),
        ]
    );
    assert_eq!(
        said(json!({"allNodes": true})),
        [format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {ONE_OF}, but multiple fields are set")]
    );
}

#[test]
fn a_slice_stays_with_its_driver_pool_and_node() {
    let of = |new: Value| {
        let errors = validate(&slice(new), Some(&slice(json!({}))));
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(of(json!({"devices": [{"name": "e"}]})).is_empty());
    assert_eq!(
        of(json!({"driver": "e", "nodeName": "m", "pool": {"name": "q", "resourceSliceCount": 1, "generation": -1}})),
        [
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            "spec.pool.name: Invalid value: \"q\": field is immutable",
            "spec.driver: Invalid value: \"e\": field is immutable",
            "spec.nodeName: Invalid value: \"m\": field is immutable",
        ]
    );
}

#[test]
fn there_are_so_many_devices_and_fewer_with_taints() {
    let many = |count: usize, first: Value| {
        let rest = (1..count).map(|n| json!({"name": format!("d{n}")}));
        said(json!({"devices": std::iter::once(first).chain(rest).collect::<Vec<_>>()}))
    };
    let taints = json!([{"key": "a", "effect": "None"}]);
    assert!(many(128, json!({"name": "d"})).is_empty());
    assert!(many(64, json!({"name": "d", "taints": taints})).is_empty());
    assert_eq!(many(129, json!({"name": "d"})), ["spec.devices: Too many: 129: must have at most 128 items"]);
    let tainted = many(65, json!({"name": "d", "taints": taints}));
    assert_eq!(tainted, ["spec.devices: Too many: 65: must have at most 64 items"]);
}

#[test]
fn counters_are_in_slices_of_their_own() {
    let sets =
        json!([{"name": "a", "counters": {"m": {"value": "1"}}}, {"name": "a"}, {"counters": {"M": {"value": "1"}}}]);
    let texts = said(json!({"sharedCounters": sets}));
    assert_eq!(texts[0], "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed");
    assert_eq!(texts[1], "spec.sharedCounters[1].counters: Required value");
    assert_eq!(texts[2], "spec.sharedCounters[2].name: Required value");
    assert!(texts[3].starts_with("spec.sharedCounters[2].counters: Invalid value: \"M\": a lowercase RFC 1123 label"));
    assert_eq!(texts[4], "spec.sharedCounters[1]: Duplicate value: \"a\"");
}

#[test]
fn conditions_of_binding_come_in_pairs() {
    let of = |device: Value| said(json!({"devices": [device]}));
    let sound = json!({"name": "d", "bindingConditions": ["a"], "bindingFailureConditions": ["b"]});
    assert!(of(sound).is_empty());
    assert_eq!(
        of(json!({"name": "d", "bindingConditions": ["a", "a"], "bindingFailureConditions": ["a"]})),
        [
            "spec.devices[0].bindingConditions[1]: Duplicate value: \"a\"",
            "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions",
        ]
    );
}

#[test]
fn what_gates_keep_away_is_left_out_and_taints_are_dated() {
    let now: Timestamp = "2001-02-03T04:05:06.789Z".parse().unwrap_or_default();
    let device = json!({"name": "d", "attributes": {"a": {"ints": [1]}, "b": {"int": 1}}, "taints": [{"key": "a"}],
        "nodeAllocatableResourceMappings": {"cpu": {"capacityKey": "c"}}});
    let given = slice(json!({ "devices": [device] }));
    let mut fresh = given.clone();
    prepare(&mut fresh, None, now);
    assert_eq!(
        fresh["spec"]["devices"][0],
        json!({"name": "d", "attributes": {"a": {}, "b": {"int": 1}}, "taints": [{"key": "a", "timeAdded": "2001-02-03T04:05:06Z"}]})
    );
    let mut kept = given.clone();
    prepare(&mut kept, Some(&given), now);
    assert_eq!(kept["spec"]["devices"][0]["attributes"], device["attributes"]);
    assert!(device::has_mappings(&kept["spec"]["devices"][0]));
}
