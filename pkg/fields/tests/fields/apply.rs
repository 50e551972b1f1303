//! Server-side apply.

use kedge_fields::entries;
use serde_json::{Value, json};

use crate::support::{Kind, T2, bare, owned, owners};

#[test]
fn an_applied_object_is_created_with_its_defaults_and_owned_as_far_as_it_was_named() {
    let kind = Kind::builtin("v1", "Service");
    let service = kind.apply(None, &json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}), "me").unwrap();
    assert_eq!(service["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(
        owners(&service),
        [(
            "me/Apply".into(),
            r#"{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:selector":{}}}"#
                .into()
        )]
    );
}

#[test]
fn what_is_named_no_more_goes_unless_somebody_else_wants_it() {
    let kind = Kind::thing();
    let one = kind.apply(None, &json!({"map": {"a": "1", "b": "1"}, "text": "x", "set": ["p", "q"]}), "one").unwrap();
    let two = kind.apply(Some(&one), &json!({"map": {"b": "1"}, "set": ["q", "r"]}), "two").unwrap();
    assert_eq!(two["set"], json!(["p", "q", "r"]));
    let less = kind.apply(Some(&two), &json!({"map": {"c": "1"}}), "one").unwrap();
    assert_eq!(less["map"], json!({"b": "1", "c": "1"}), "b is still wanted");
    assert_eq!((less.get("text"), &less["set"]), (None, &json!(["q", "r"])));
    let updated = kind.update(
        Some(&less),
        &{
            let mut fields = bare(&less);
            fields["map"]["d"] = "1".into();
            fields
        },
        "three",
    );
    let least = kind.apply(Some(&updated), &json!({}), "one").unwrap();
    assert_eq!(least["map"], json!({"b": "1", "d": "1"}), "what an update set stays");
    assert_eq!(owned(&least, "one/Apply"), "", "who wants nothing owns nothing");
}

#[test]
fn an_apply_of_the_same_changes_nothing_not_even_the_time() {
    let kind = Kind::builtin("apps/v1", "Deployment");
    let wanted = json!({"spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template":
        {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let live = kind.apply(None, &wanted, "me").unwrap();
    let again = Kind::builtin("apps/v1", "Deployment").at(T2).apply(Some(&live), &wanted, "me").unwrap();
    assert_eq!(again, live);
    let both = kind.apply(Some(&live), &wanted, "other").unwrap();
    assert_eq!(bare(&both), bare(&live));
    assert_eq!(owned(&both, "other/Apply"), owned(&both, "me/Apply"), "two may want the same");
}

#[test]
fn items_come_in_the_applied_order_and_others_stay_beside_their_neighbours() {
    let kind = Kind::thing();
    let items = |names: &str| {
        let item = |name: char| json!({"name": name.to_string()});
        json!({"items": names.chars().map(item).collect::<Vec<_>>()})
    };
    let shown = |object: &Value| {
        let list = object["items"].as_array().unwrap();
        list.iter().map(|item| item["name"].as_str().unwrap()).collect::<String>()
    };
    for (live, applied, merged) in
        [("AB", "XA", "XAB"), ("ABC", "CA", "BCA"), ("AB", "C", "ABC"), ("ABCD", "DB", "ACDB"), ("A", "BAC", "BAC")]
    {
        let before = kind.update(None, &items(live), "old");
        assert_eq!(shown(&kind.force(Some(&before), &items(applied), "new")), merged, "{live} and {applied}");
    }
}

#[test]
fn a_key_that_is_left_out_is_the_same_as_its_default() {
    let kind = Kind::builtin("v1", "Service");
    let ports = |ports: Value| json!({"spec": {"ports": ports}});
    let dns = json!([{"name": "dns", "port": 53}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]);
    let live = kind.apply(None, &ports(dns), "me").unwrap();
    assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 2);
    let udp = json!([{"name": "dns-udp", "port": 53, "protocol": "UDP"}]);
    let one = kind.apply(Some(&live), &ports(udp), "me").unwrap();
    assert_eq!(one["spec"]["ports"].as_array().unwrap().len(), 1);
    let named =
        json!([{"name": "dns-udp", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}]);
    let named = kind.apply(Some(&one), &ports(named), "me").unwrap();
    let unnamed = json!([{"name": "dns-udp", "port": 53, "protocol": "UDP"}, {"name": "t2", "port": 53}]);
    let renamed = kind.apply(Some(&named), &ports(unnamed), "me").unwrap();
    let names: Vec<&Value> = renamed["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    assert_eq!(names, ["dns-udp", "t2"]);
}

#[test]
fn items_of_one_key_are_left_alone_until_somebody_applies_that_key() {
    let kind = Kind::thing();
    let twice = json!({"items": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}, {"name": "b"}]});
    let live = kind.update(None, &twice, "old");
    let beside = kind.apply(Some(&live), &json!({"items": [{"name": "c"}]}), "me").unwrap();
    assert_eq!(beside["items"].as_array().unwrap().len(), 4);
    let refused = kind.apply(Some(&live), &json!({"items": [{"name": "a", "value": "5"}]}), "me").unwrap_err();
    assert!(refused.to_string().contains("conflict with \"old\""), "{refused}");
    let one = kind.force(Some(&live), &json!({"items": [{"name": "a", "value": "5"}]}), "me");
    let values: Vec<&Value> = one["items"].as_array().unwrap().iter().map(|item| &item["value"]).collect();
    assert_eq!(values, [&json!("5"), &Value::Null]);
}

#[test]
fn what_was_there_before_the_first_apply_is_somebodys() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let live = kind.object(&json!({"data": {"a": "1"}}));
    let refused = kind.apply(Some(&live), &json!({"data": {"a": "2"}}), "me").unwrap_err();
    assert!(refused.to_string().contains("conflict with \"before-first-apply\" using v1: .data.a"), "{refused}");
    let new = kind.apply(Some(&live), &json!({"data": {"b": "1"}}), "me").unwrap();
    assert_eq!(owned(&new, "before-first-apply/Update"), r#"{"f:data":{".":{},"f:a":{}}}"#);
    assert_eq!(owned(&new, "me/Apply"), r#"{"f:data":{"f:b":{}}}"#);
}

#[test]
fn only_objects_of_the_kind_and_without_owners_are_applied() {
    let kind = Kind::builtin("apps/v1", "Deployment");
    let mut other = kind.configuration(&json!({}));
    other["kind"] = "ReplicaSet".into();
    let refused = kind.with_manager(|fields| fields.apply(None, &other, "me", false)).unwrap_err();
    assert_eq!(refused.to_string(), "invalid object type: apps/v1, Kind=ReplicaSet");
    let nothing = kind.with_manager(|fields| fields.apply(None, &Value::Null, "me", false)).unwrap_err();
    assert_eq!(nothing.to_string(), "invalid object type: /, Kind=");
    let owned = kind.apply(None, &json!({"metadata": {"managedFields": []}}), "me").unwrap_err();
    assert_eq!(owned.to_string(), "metadata.managedFields must be nil");
    let unknown = kind.apply(None, &json!({"metadata": {"namespace": "n"}, "spec": {"nope": 1}}), "me").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "failed to create typed patch object (n/x; apps/v1, Kind=Deployment): .spec.nope: field not declared in schema"
    );
    assert_eq!(entries(&other), None);
}
