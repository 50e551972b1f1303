//! What a device may be, in upstream's words.

use super::*;

fn said(mut fields: Value, selected: bool) -> Vec<String> {
    fields.set("name", "d");
    let (object, mut errors) = (json!({ "d": fields }), ErrorList::new());
    device(&At::field(&object, "d"), None, selected, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn an_attribute_has_one_value() {
    let of = |attribute: Value| said(json!({"attributes": {"a": attribute}}), false);
    assert!(of(json!({"bool": false})).is_empty() && of(json!({"version": "1.2.3-rc.1+b.2"})).is_empty());
    assert_eq!(of(json!({})), ["d.attributes[a]: Invalid value: \"\": exactly one value must be specified"]);
    assert_eq!(
        of(json!({"int": 1, "string": "x"})),
        [
            "d.attributes[a]: Invalid value: {\"IntValue\":1,\"BoolValue\":null,\"StringValue\":\"x\",\"VersionValue\":null,\"IntValues\":null,\
          \"BoolValues\":null,\"StringValues\":null,\"VersionValues\":null}: exactly one value must be specified"
        ]
    );
    assert_eq!(
        of(json!({"version": "1.2"})),
        ["d.attributes[a].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0"]
    );
    let long = of(json!({"string": "x".repeat(65)}));
    assert_eq!(long, ["d.attributes[a].string: Too long: may not be more than 64 bytes"]);
    assert_eq!(of(json!({"ints": []})), ["d.attributes[a].ints: Invalid value: []: must not be empty if specified"]);
}

#[test]
fn versions_are_semantic() {
    for good in ["0.0.0", "1.22.333", "1.0.0-0", "1.0.0-a-b.0a", "1.0.0+001", "1.0.0-x+y-z"] {
        assert!(is_version(good), "{good}");
    }
    for bad in ["", "1", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.3-a..b", "1.2.3+a+b"] {
        assert!(!is_version(bad), "{bad}");
    }
}

#[test]
fn there_are_so_many_attributes_and_long_names_are_cut() {
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("a{n}"), json!({"int": n}))).collect();
    assert_eq!(
        said(json!({ "attributes": many }), false),
        ["d: Invalid value: 33: the total number of attributes and capacities must not exceed 32"]
    );
    let lists: Vec<i64> = (0..49).collect();
    assert_eq!(
        said(json!({"attributes": {"a": {"ints": lists}}}), false),
        ["d: Invalid value: 49: the total number of attribute values must not exceed 48"]
    );
    let cut = shortened(&"é".repeat(60));
    assert!(cut.len() <= MAX_SHOWN && cut.contains("..."), "{cut}");
    assert_eq!(shortened("short"), "short");
}

#[test]
fn capacity_is_asked_for_only_where_it_is_shared() {
    let of = |shared: bool, policy: Value| {
        said(
            json!({"allowMultipleAllocations": shared, "capacity": {"m": {"value": "1", "requestPolicy": policy}}}),
            false,
        )
    };
    assert!(of(true, json!({})).is_empty());
    assert_eq!(of(false, json!({})), ["d.capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"]);
    let above = of(true, json!({"default": "2", "validValues": ["2"]}));
    assert_eq!(
        above,
        ["d.capacity[m].requestPolicy.validValues[0]: Invalid value: \"2\": option is larger than capacity value: 1"]
    );
}

#[test]
fn each_is_on_nodes_of_its_own_only_where_the_slice_says_so() {
    assert!(said(json!({"nodeName": "n"}), true).is_empty() && said(json!({}), false).is_empty());
    assert_eq!(said(json!({}), true), [format!("d: Required value: {NODES}")]);
    assert_eq!(
        said(json!({"nodeName": "n", "allNodes": true}), true),
        [format!("d: Invalid value: \"{{`nodeName`, `allNodes`}}\": {NODES}")]
    );
    assert!(
        said(json!({"allNodes": true}), false)[0].starts_with("d: Invalid value: null: `nodeName`, `nodeSelector` and")
    );
}

#[test]
fn taints_and_counters_are_sound() {
    let texts = said(json!({"taints": [{"key": "a b", "value": "c d", "effect": "Odd"}, {"key": "a"}]}), false);
    assert!(texts[0].starts_with("d.taints[0].key: Invalid value: \"a b\": name part"));
    assert!(texts[1].starts_with("d.taints[0].value: Invalid value: \"c d\": a valid label"));
    assert_eq!(
        texts[2..],
        [
            "d.taints[0].effect: Unsupported value: \"Odd\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            "d.taints[1].effect: Required value",
        ]
    );
    assert_eq!(
        said(json!({"consumesCounters": [{}, {"counterSet": "a", "counters": {"m": {"value": "1"}}}]}), false),
        ["d.consumesCounters[0].counterSet: Required value", "d.consumesCounters[0].counters: Required value"]
    );
}

#[test]
fn a_devices_share_of_the_node_is_of_its_capacity() {
    let of = |name: &str, mapping: Value| {
        said(json!({"capacity": {"c": {"value": "1"}}, "nodeAllocatableResourceMappings": {name: mapping}}), false)
    };
    assert!(of("cpu", json!({"capacityKey": "c", "allocationMultiplier": "1"})).is_empty());
    let at = "d.nodeAllocatableResourceMappings";
    assert_eq!(
        of("a.b/c", json!({})),
        [
            format!("{at}[a.b/c]: Invalid value: \"a.b/c\": must be a node allocatable resource name"),
            format!(
                "{at}[a.b/c]: Invalid value: \"\": at least one of allocationMultiplier or capacityKey must be set"
            ),
        ]
    );
    assert_eq!(
        of("cpu", json!({"allocationMultiplier": "0", "capacityKey": "d"})),
        [
            format!("{at}[cpu].allocationMultiplier: Invalid value: \"0\": must be positive"),
            format!("{at}[cpu].capacityKey: Not found: \"d\""),
        ]
    );
}
