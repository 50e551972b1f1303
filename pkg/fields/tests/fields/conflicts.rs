//! Fields of others, and who may take them: by force, or coming from client-side apply.

use serde_json::{Value, json};

use crate::support::{Kind, owned, owners};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[test]
fn fields_of_others_are_only_taken_by_force() {
    let kind = Kind::thing();
    let live = kind.apply(None, &json!({"text": "a", "map": {"k": "1", "l": "1"}}), "one").unwrap();
    let live = kind.update(Some(&live), &json!({"text": "a", "map": {"k": "1", "l": "2"}}), "two");
    let wanted = json!({"text": "b", "map": {"k": "2", "l": "3"}});
    let refused = kind.apply(Some(&live), &wanted, "three").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .map.k\n- .text\n\
         conflicts with \"two\" using example.org/v1:\n- .map.l"
    );
    let one = kind.apply(Some(&live), &json!({"text": "b"}), "three").unwrap_err();
    assert_eq!(one.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .text");
    let forced = kind.force(Some(&live), &wanted, "three");
    assert_eq!(
        owners(&forced),
        [
            ("three/Apply".into(), r#"{"f:map":{"f:k":{},"f:l":{}},"f:text":{}}"#.into()),
            ("two/Update".into(), String::new())
        ][..1]
    );
    let back = kind.apply(Some(&forced), &json!({"text": "b"}), "one").unwrap();
    assert_eq!(owned(&back, "one/Apply"), r#"{"f:text":{}}"#, "the same value is no conflict");
}

#[test]
fn a_subresource_is_named_in_conflicts() {
    let kind = Kind { subresource: "scale", ..Kind::thing() };
    let live = Kind::thing().update(None, &json!({"list": []}), "creator");
    let live = kind.update(Some(&live), &json!({"list": [], "text": "a"}), "scaler");
    let refused = Kind::thing().apply(Some(&live), &json!({"text": "b"}), "me").unwrap_err();
    assert!(refused.to_string().ends_with("\"scaler\" with subresource \"scale\" using example.org/v1: .text"));
}

/// An object of client-side apply, with its annotation.
fn client_side(kind: &Kind, fields: &Value) -> Value {
    let mut applied = kind.configuration(fields);
    applied["metadata"]["annotations"] = json!({});
    let mut with = fields.clone();
    with["metadata"] = json!({"annotations": {ANNOTATION: format!("{applied}\n")}});
    kind.update(None, &with, "kubectl-client-side-apply")
}

#[test]
fn what_client_side_apply_set_is_kubectls() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let live = client_side(&kind, &json!({"data": {"a": "1", "b": "1"}}));
    let wanted = json!({"data": {"a": "2"}});
    assert!(kind.apply(Some(&live), &wanted, "other").is_err());
    let new = kind.apply(Some(&live), &wanted, "kubectl").unwrap();
    assert_eq!(new["data"], json!({"a": "2", "b": "1"}));
    let annotation: Value = serde_json::from_str(new["metadata"]["annotations"][ANNOTATION].as_str().unwrap()).unwrap();
    assert_eq!(annotation, kind.configuration(&wanted), "the annotation follows, for those who go back");
    let changed = kind.update(
        Some(&live),
        &{
            let mut fields = json!({"data": {"a": "9", "b": "1"}});
            fields["metadata"] = json!({"annotations": live["metadata"]["annotations"]});
            fields
        },
        "else",
    );
    let refused = kind.apply(Some(&changed), &json!({"data": {"a": "2", "b": "2"}}), "kubectl").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"else\" using v1: .data.a",
        "what somebody changed since is that somebody's"
    );
}

#[test]
fn the_annotation_goes_when_it_grows_too_large_and_is_not_made_where_there_is_none() {
    let kind = Kind::builtin("v1", "ConfigMap");
    let live = client_side(&kind, &json!({"data": {"a": "1"}}));
    let large = kind.apply(Some(&live), &json!({"data": {"b": "x".repeat(300_000)}}), "kubectl").unwrap();
    assert_eq!(large["metadata"]["annotations"].get(ANNOTATION), None);
    let plain = kind.apply(None, &json!({"data": {"a": "1"}}), "kubectl").unwrap();
    assert_eq!(plain["metadata"].get("annotations"), None);
}
