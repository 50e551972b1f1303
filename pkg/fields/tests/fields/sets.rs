//! Sets, their text, and the set of an object.

use kedge_fields::{Element, Set, Type, decode, encode, encode_text, set_of, validate};
use serde_json::{Value, json};

use crate::support::Kind;

fn field(name: &str) -> Element {
    Element::field(name)
}

#[test]
fn the_text_is_upstreams() {
    let port =
        |port: i64| Element::Key([("containerPort".into(), port.into()), ("protocol".into(), "TCP".into())].into());
    let set: Set = [
        vec![field("b")],
        vec![field("a"), Element::Item("x<y".into())],
        vec![field("ports"), port(443)],
        vec![field("ports"), port(80)],
        vec![field("ports"), port(80), field("name")],
        vec![field("ports"), Element::Index(2)],
    ]
    .into_iter()
    .collect();
    let text = encode_text(&set);
    assert_eq!(
        text,
        r#"{"f:a":{"v:\"x\\u003cy\"":{}},"f:b":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}},"k:{\"containerPort\":443,\"protocol\":\"TCP\"}":{},"i:2":{}}}"#,
        "numbers are in the order of numbers"
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(encode(&set), value);
    assert_eq!(decode(&value).unwrap(), set);
    assert!(set.has(&[field("ports"), port(80), field("name")]) && !set.has(&[field("ports")]));
}

#[test]
fn what_is_no_set_is_refused_and_what_a_later_version_may_know_is_dropped() {
    for wrong in
        [json!({"a": {}}), json!({"f:a": 1}), json!({"v:": {}}), json!({"k:[]": {}}), json!({"i:x": {}}), json!("x")]
    {
        assert!(decode(&wrong).is_err(), "{wrong}");
    }
    assert_eq!(encode(&decode(&json!({"f:a": {"z:new": {}}, "f:b": null})).unwrap()), json!({"f:a": {}, "f:b": {}}));
    assert!(decode(&json!({})).unwrap().is_empty());
}

#[test]
fn sets_are_added_and_subtracted_by_their_members() {
    let of = |paths: &[&[&str]]| Set::of_fields(paths);
    let (parent, child) = (of(&[&["a"]]), of(&[&["a", "b"]]));
    assert_eq!(parent.clone().difference(&child), parent, "a parent less its child is the parent");
    assert_eq!(child.clone().difference(&parent), child, "and the other way round");
    assert!(child.clone().recursive_difference(&parent).is_empty());
    let both = parent.clone().union(child.clone());
    assert_eq!(both, of(&[&["a"], &["a", "b"]]));
    assert_eq!(both.intersection(&child), child);
    assert_eq!(both.clone().along(&[&["*", "b"]]), both, "what is on the way is kept");
    assert_eq!(of(&[&["a", "b"], &["c"]]).along(&[&["a"]]), child);
}

#[test]
fn the_set_of_an_object_has_leaves_items_and_entries() {
    let kind = Kind::thing();
    let ty = Type::of(&kind.schema);
    let set = |fields: Value| encode_text(&set_of(ty, &fields));
    assert_eq!(set(json!({"text": "a", "map": {"k": "v"}})), r#"{"f:map":{"f:k":{}},"f:text":{}}"#);
    assert_eq!(set(json!({"map": {}, "color": {}})), r#"{"f:color":{},"f:map":{}}"#);
    assert_eq!(set(json!({"color": {"r": "1"}, "list": ["a", "a"]})), r#"{"f:color":{},"f:list":{}}"#);
    assert_eq!(set(json!({"set": ["b", "a", "b"]})), r#"{"f:set":{"v:\"a\"":{},"v:\"b\"":{}}}"#);
    assert_eq!(set(json!({"set": [], "items": []})), "{}");
    assert_eq!(
        set(json!({"items": [{"name": "a", "value": "1"}]})),
        r#"{"f:items":{"k:{\"name\":\"a\",\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:value":{}}}}"#,
        "a key that is left out has its default"
    );
    let twice = json!({"items": [{"name": "a", "value": "1"}, {"name": "a"}]});
    assert_eq!(set(twice), r#"{"f:items":{"k:{\"name\":\"a\",\"protocol\":\"TCP\"}":{}}}"#);
    assert_eq!(set(json!({"any": {"x": {"y": [{"z": 1}]}}})), r#"{"f:any":{"f:x":{".":{},"f:y":{}}}}"#);
}

#[test]
fn what_does_not_fit_is_named_as_upstream_names_it() {
    let pod = Kind::builtin("v1", "Pod");
    let refused = |spec: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
        validate(Type::of(&pod.schema), &object, false).unwrap_err().to_string()
    };
    let container = |fields: Value| {
        let mut container = json!({"name": "c"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    assert_eq!(refused(json!({"nope": 1})), ".spec.nope: field not declared in schema");
    assert_eq!(
        refused(container(json!({"env": [{"name": "A"}, {"name": "A", "value": "x"}]}))),
        ".spec.containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]"
    );
    assert_eq!(
        refused(container(json!({"ports": [null]}))),
        ".spec.containers[name=\"c\"].ports: element 0: associative list with keys may not have a null element"
    );
    assert_eq!(
        refused(container(json!({"env": [{"name": "A", "value": 1}]}))),
        ".spec.containers[name=\"c\"].env[name=\"A\"].value: expected string, got &value.valueUnstructured{Value:1}"
    );
    assert_eq!(
        refused(json!({"activeDeadlineSeconds": "x", "hostNetwork": 1, "tolerations": {}, "securityContext": []})),
        "errors:\n  .spec.activeDeadlineSeconds: expected numeric (int or float), got string\n  \
         .spec.hostNetwork: expected boolean, got &{1}\n  .spec.securityContext: expected map, got &{[]}\n  \
         .spec.tolerations: expected list, got &{map[]}"
    );
}

/// A list of which an element is a map where its elements are texts was once taken for a list without elements.
#[test]
fn items_of_a_set_are_no_structures() {
    let kind = Kind::thing();
    for (item, why) in [(json!({}), "a map type"), (json!([]), "lists as elements"), (json!(null), "an explicit null")]
    {
        let refused = validate(Type::of(&kind.schema), &json!({"set": [item]}), true).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}
