//! Writes that replace: create, update, patch.

use kedge_fields::{Resets, keep_times};
use serde_json::{Value, json};

use crate::support::{Kind, T1, T2, bare, owned, owners};

#[test]
fn a_creator_owns_what_it_set_and_the_defaults() {
    let kind = Kind::builtin("apps/v1", "Deployment");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
        "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}]}});
    let new = kind.update(
        None,
        &json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
        "kubectl-create",
    );
    let owned: Value = serde_json::from_str(&owned(&new, "kubectl-create/Update")).unwrap();
    assert_eq!(owned["f:metadata"], json!({"f:labels": {".": {}, "f:a": {}}}), "neither name nor metadata itself");
    assert_eq!(owned.get("f:status"), None, "what every new object has is nobody's");
    let spec = &owned["f:spec"];
    assert_eq!(spec["f:selector"], json!({}), "a selector is one value");
    assert_eq!(
        spec["f:strategy"],
        json!({"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}})
    );
    let container = &spec["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!(container["f:env"], json!({".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}));
    assert_eq!(
        container["f:ports"]["k:{\"containerPort\":80,\"protocol\":\"TCP\"}"],
        json!({".": {}, "f:containerPort": {}, "f:protocol": {}})
    );
    assert_eq!((&container["f:resources"], &container["."]), (&json!({}), &json!({})));
    assert_eq!(new["metadata"]["managedFields"][0]["time"], T1);
}

#[test]
fn whoever_changes_a_field_takes_it() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let first = kind.update(None, &json!({"data": {"a": "1", "b": "1", "c": "1"}}), "one");
    let second =
        Kind::builtin("v1", "ConfigMap").at(T2).update(Some(&first), &json!({"data": {"a": "2", "b": "1"}}), "two");
    assert_eq!(
        owners(&second),
        [
            ("one/Update".into(), r#"{"f:data":{".":{},"f:b":{}}}"#.into()),
            ("two/Update".into(), r#"{"f:data":{"f:a":{}}}"#.into())
        ]
    );
    let times: Vec<&Value> =
        second["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| &e["time"]).collect();
    assert_eq!(times, [T1, T2]);
    let third = kind.update(Some(&second), &json!({"data": {"a": "2"}}), "two");
    assert_eq!(owned(&third, "one/Update"), r#"{"f:data":{}}"#);
    let gone = kind.update(Some(&third), &json!({}), "one");
    assert_eq!(owners(&gone), [], "who owns nothing is not named");
}

#[test]
fn an_update_that_changes_nothing_changes_no_owner_and_no_time() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let live = kind.update(None, &json!({"data": {"a": "1"}}), "one");
    let mut fields = json!({"data": {"a": "1"}});
    fields["metadata"] = json!({"managedFields": live["metadata"]["managedFields"]});
    let same = Kind::builtin("v1", "ConfigMap").at(T2).update(Some(&live), &fields, "two");
    assert_eq!(same, live);
}

#[test]
fn owners_can_be_reset_and_are_not_lost_by_those_who_do_not_know_them() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let live = kind.update(None, &json!({"data": {"a": "1"}}), "one");
    for reset in [json!([{}]), json!([])] {
        let new = kind.update(Some(&live), &json!({"metadata": {"managedFields": reset}, "data": {"a": "2"}}), "two");
        assert_eq!(owners(&new), []);
        let later = kind.update(Some(&new), &json!({"data": {"a": "3"}}), "two");
        assert_eq!(owners(&later), [], "nobody begins to track in the middle");
    }
    for unknown in [Value::Null, json!([{"manager": "x", "operation": "Nonsense"}])] {
        let new = kind.update(Some(&live), &json!({"metadata": {"managedFields": unknown}, "data": {"a": "1"}}), "two");
        assert_eq!(owners(&new), owners(&live));
    }
    let entry = json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}}}]);
    let set = kind.update(Some(&live), &json!({"metadata": {"managedFields": entry}, "data": {"a": "1"}}), "two");
    assert_eq!(owners(&set), [("x/Apply".into(), r#"{"f:data":{"f:a":{}}}"#.into())]);
}

#[test]
fn a_subresource_has_owners_of_its_own_and_no_say_in_others() {
    let kind = Kind::builtin("v1", "Pod");
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let live = kind.update(None, &json!({"spec": spec}), "kubectl");
    let status = Kind { subresource: "status", resets: Resets::All(&[&["spec"]]), ..Kind::builtin("v1", "Pod") };
    let new = status.update(
        Some(&live),
        &json!({"metadata": {"managedFields": [{}]}, "status": {"phase": "Running"}}),
        "kubelet",
    );
    assert_eq!(owned(&new, "kubelet/Update"), r#"{"f:status":{"f:phase":{}}}"#);
    assert_eq!(owned(&new, "kubectl/Update"), owned(&live, "kubectl/Update"), "the server puts the spec back");
    let entry =
        new["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["manager"] == "kubelet").unwrap();
    assert_eq!(entry["subresource"], "status");
    let resize = Kind {
        subresource: "resize",
        resets: Resets::AllBut(&[&["spec", "containers", "*", "resources"]]),
        ..Kind::builtin("v1", "Pod")
    };
    let container = json!({"name": "c", "image": "other", "resources": {"requests": {"cpu": "1"}}});
    let resized = resize.update(Some(&live), &json!({"spec": {"containers": [container]}}), "vpa");
    assert_eq!(
        owned(&resized, "vpa/Update"),
        r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:resources":{"f:requests":{".":{},"f:cpu":{}}}}}}}"#
    );
}

#[test]
fn the_oldest_updates_become_one_when_there_are_too_many() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let mut data = json!({"k": "v"});
    let mut live = kind.update(None, &json!({"data": data}), "m0");
    for n in 0..13 {
        data[format!("k{n}")] = "v".into();
        live = kind.update(Some(&live), &json!({"data": data}), &format!("m{n:02}"));
        assert!(owners(&live).len() <= 10);
    }
    assert_eq!(
        owned(&live, "ancient-changes/Update"),
        r#"{"f:data":{".":{},"f:k":{},"f:k0":{},"f:k1":{},"f:k2":{},"f:k3":{}}}"#
    );
    assert_eq!(owned(&live, "m12/Update"), r#"{"f:data":{"f:k12":{}}}"#);
}

#[test]
fn fields_of_versions_that_are_served_no_more_are_nobodys() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let mut live = kind.update(None, &json!({"data": {"a": "1"}}), "one");
    live["metadata"]["managedFields"][0]["apiVersion"] = "v0".into();
    let new = kind.update(Some(&live), &json!({"data": {"a": "1", "b": "1"}}), "two");
    assert_eq!(owners(&new), [("two/Update".into(), r#"{"f:data":{"f:b":{}}}"#.into())]);
}

#[test]
fn a_schema_that_makes_one_value_of_many_takes_the_owners_with_it() {
    let map = |atomic: bool| {
        let mut map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        if atomic {
            map["x-kubernetes-map-type"] = "atomic".into();
        }
        Kind::of_schema(&json!({"type": "object", "properties": {"map": map, "text": {"type": "string"}}}))
    };
    let live = map(false).apply(None, &json!({"map": {"a": "1", "b": "1"}}), "one").unwrap();
    assert_eq!(owned(&live, "one/Apply"), r#"{"f:map":{"f:a":{},"f:b":{}}}"#);
    let new = map(true).update(Some(&live), &json!({"map": {"a": "1", "b": "1"}, "text": "x"}), "two");
    assert_eq!(owned(&new, "one/Apply"), r#"{"f:map":{}}"#);
}

#[test]
fn times_alone_are_no_change() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let old = kind.update(None, &json!({"data": {"a": "1"}}), "one");
    let later = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["managedFields"][0]["time"] = T2.into();
        object
    };
    let mut new = later(&old);
    keep_times(&mut new, &old);
    assert_eq!(new, old);
    let mut changed = later(&old);
    changed["data"]["a"] = "2".into();
    let before = changed.clone();
    keep_times(&mut changed, &old);
    assert_eq!(changed, before, "what changed has a new time");
    assert_ne!(bare(&changed), bare(&old));
}
