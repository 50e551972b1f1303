//! Behaviour of strategic merges, on pods, deployments and services.
#![allow(clippy::unwrap_used)]

use super::apply;
use kedge_schema::kind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn pod(object: Value, patch: Value) -> Result<Value, String> {
    apply(&object, &patch, kind("", "v1", "Pod").unwrap()).map_err(|error| error.to_string())
}

fn containers(object: Value, patch: Value) -> Value {
    let object = json!({"spec": {"containers": object}});
    pod(object, json!({"spec": {"containers": patch}})).unwrap()["spec"]["containers"].take()
}

#[test]
fn objects_merge_by_key_and_new_ones_come_first() {
    let merged = containers(
        json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "2"}]),
        json!([{"name": "c", "image": "3"}, {"name": "a", "env": [{"name": "Y", "value": "2"}], "image": null}]),
    );
    assert_eq!(
        merged,
        json!([{"name": "c", "image": "3"},
            {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "b", "image": "2"}])
    );
}

#[test]
fn elements_can_be_deleted_and_lists_replaced() {
    let list = json!([{"name": "a"}, {"name": "b"}]);
    assert_eq!(containers(list.clone(), json!([{"name": "a", "$patch": "delete"}])), json!([{"name": "b"}]));
    assert_eq!(containers(list.clone(), json!([{"name": "z"}, {"$patch": "replace"}])), json!([{"name": "z"}]));
    assert_eq!(containers(list.clone(), json!([{"$patch": "replace"}])), json!([]));
    assert_eq!(containers(list, json!([{"name": "y", "$patch": "delete"}])), json!([{"name": "a"}, {"name": "b"}]));
}

#[test]
fn atomic_lists_and_scalars_are_replaced() {
    let merged = pod(
        json!({"spec": {"tolerations": [{"key": "a"}], "nodeName": "x", "containers": [{"name": "c", "args": ["1", "2"]}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}], "nodeName": "y", "containers": [{"name": "c", "args": ["3"]}]}}),
    );
    assert_eq!(
        merged.unwrap(),
        json!({"spec": {"tolerations": [{"key": "b"}], "nodeName": "y", "containers": [{"name": "c", "args": ["3"]}]}})
    );
}

#[test]
fn sets_of_scalars_merge_and_shrink() {
    let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let merged = pod(object.clone(), json!({"metadata": {"finalizers": ["d", "b"]}})).unwrap();
    assert_eq!(merged["metadata"]["finalizers"], json!(["d", "a", "b", "c"]));
    let shrunk = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}});
    assert_eq!(pod(object, shrunk.clone()).unwrap()["metadata"]["finalizers"], json!(["b", "c"]));
    assert_eq!(pod(json!({"metadata": {}}), shrunk).unwrap(), json!({"metadata": {}}));
}

#[test]
fn the_order_can_be_set() {
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
        "containers": [{"name": "c", "image": "new"}]}});
    let object = json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}});
    assert_eq!(
        pod(object.clone(), patch).unwrap()["spec"]["containers"],
        json!([{"name": "c", "image": "new"}, {"name": "a"}, {"name": "server"}, {"name": "b"}])
    );
    let wrong = json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "b"}, {"name": "a"}]}});
    assert!(pod(object.clone(), wrong).unwrap_err().contains("doesn't match $setElementOrder list"));
    let malformed = json!({"spec": {"$setElementOrder": []}});
    assert_eq!(pod(object, malformed).unwrap_err(), "invalid patch format of setElementOrder list");
}

#[test]
fn retain_keys_drops_the_rest() {
    let ty = kind("apps", "v1", "Deployment").unwrap();
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(apply(&object, &patch, ty).unwrap(), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    let error = apply(&object, &wrong, ty).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.status_code()), ("invalid patch format of retainKeys", 400));
}

#[test]
fn maps_take_directives_and_nulls() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let merged = pod(object.clone(), json!({"metadata": {"labels": {"a": null, "c": "3", "n": null}}})).unwrap();
    assert_eq!(merged["metadata"]["labels"], json!({"b": "2", "c": "3"}));
    let replaced = pod(object.clone(), json!({"metadata": {"labels": {"$patch": "replace", "z": "1"}}})).unwrap();
    assert_eq!(replaced["metadata"]["labels"], json!({"z": "1"}));
    let deleted = pod(object.clone(), json!({"metadata": {"labels": {"$patch": "delete"}}})).unwrap();
    assert_eq!(deleted["metadata"]["labels"], json!({}));
    let unknown = pod(object, json!({"metadata": {"$patch": "what"}})).unwrap_err();
    assert_eq!(unknown, "unknown patch type: what in map: map[$patch:what]");
}

#[test]
fn what_is_new_loses_its_nulls_and_directives() {
    let added = pod(
        json!({}),
        json!({"spec": {"nodeName": null, "containers": [{"name": "a", "image": null}, {"name": "b", "$patch": "delete"}]}}),
    );
    assert_eq!(added.unwrap(), json!({"spec": {"containers": [{"name": "a"}]}}));
}

#[test]
fn elements_without_their_key_are_refused() {
    let error =
        pod(json!({"spec": {"containers": [{"name": "a"}]}}), json!({"spec": {"containers": [{"image": "x"}]}}));
    assert_eq!(error.unwrap_err(), "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn service_ports_merge_by_number() {
    let ty = kind("", "v1", "Service").unwrap();
    let object = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    let merged = apply(&object, &json!({"spec": {"ports": [{"port": 81, "name": "c"}]}}), ty).unwrap();
    assert_eq!(merged, json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "c"}]}}));
}

fn any_pod() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        "a|b|delete|replace|merge".prop_map(Value::from)
    ];
    let keys = "metadata|spec|containers|name|labels|finalizers|env|\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers";
    let tree = leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(keys, tree, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Containers that differ in their names, each with an image and an environment.
fn named_containers() -> impl Strategy<Value = Value> {
    let variables = prop::collection::btree_map("[XYZ]", "[12]", 0..3).prop_map(|map| {
        let variable = |(name, value): (String, String)| json!({"name": name, "value": value});
        map.into_iter().map(variable).collect::<Vec<_>>()
    });
    prop::collection::btree_map("[a-d]", (prop::option::of("[ij]"), variables), 0..4).prop_map(|map| {
        let container = |(name, (image, env)): (String, (Option<String>, Vec<Value>))| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = image.into();
            }
            if !env.is_empty() {
                container["env"] = env.into();
            }
            container
        };
        map.into_iter().map(container).collect()
    })
}

/// What somebody makes of it who knows only that items have names: those of both, where the patch has the last word.
fn merged_by_name(current: &Value, patch: &Value) -> std::collections::BTreeMap<String, Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    let mut items: std::collections::BTreeMap<String, Value> =
        list(current).into_iter().map(|item| (name(&item), item)).collect();
    for patch in list(patch) {
        let item = items.entry(name(&patch)).or_insert_with(|| json!({}));
        for (field, value) in patch.as_object().unwrap() {
            if value.is_array() {
                let merged = merged_by_name(&item[field], value);
                item[field] = merged.into_values().collect();
            } else {
                item[field] = value.clone();
            }
        }
    }
    items
}

/// Lists of named items in the order of the names.
fn sorted(mut value: Value) -> Value {
    if let Value::Array(items) = &mut value {
        for item in items.iter_mut() {
            if let Some(env) = item.get_mut("env") {
                *env = sorted(env.take());
            }
        }
        items.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
    }
    value
}

proptest! {
    #[test]
    fn named_items_merge_as_a_naive_model_says(current in named_containers(), patch in named_containers()) {
        let wanted = sorted(merged_by_name(&current, &patch).into_values().collect());
        prop_assert_eq!(sorted(containers(current, patch)), wanted);
    }

    #[test]
    fn merging_twice_is_merging_once(current in named_containers(), patch in named_containers()) {
        let once = containers(current, patch.clone());
        prop_assert_eq!(containers(once.clone(), patch), once);
    }

    #[test]
    fn what_is_deleted_is_gone_and_the_rest_stays(current in named_containers(), name in "[a-d]") {
        let left = containers(current.clone(), json!([{"name": name, "$patch": "delete"}]));
        let others: Vec<Value> = current.as_array().unwrap().iter().filter(|item| item["name"] != *name).cloned().collect();
        prop_assert_eq!(left, Value::from(others));
    }

    #[test]
    fn a_list_that_replaces_is_what_it_was(current in named_containers(), patch in named_containers()) {
        let mut replacing = patch.as_array().unwrap().clone();
        replacing.push(json!({"$patch": "replace"}));
        prop_assert_eq!(containers(current, replacing.into()), patch);
    }

    #[test]
    fn nothing_panics(object in any_pod(), patch in any_pod()) {
        drop(pod(object, patch));
    }

    #[test]
    fn the_empty_patch_changes_nothing(object in any_pod()) {
        prop_assert_eq!(pod(object.clone(), json!({})).unwrap(), object);
    }
}
