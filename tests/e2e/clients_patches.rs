//! Patches as clients send them: what they may not turn an object into.

use serde_json::json;

use crate::support::TestCluster;
use crate::support::http::Http;

/// Once `kubectl patch` made a node of a config map, and every watcher of config maps was shown it.
#[test]
fn a_patch_changes_no_kind() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let other = r#"{"kind":"Node","apiVersion":"v1"}"#;
    let said = cluster.fails(&["patch", "configmap", "m", "--type=merge", "-p", other]);
    assert!(said.contains("converting (v1.Node) to (core.ConfigMap): unknown conversion"), "{said}");
    let ops = r#"[{"op":"replace","path":"/kind","value":"Node"}]"#;
    let said = cluster.fails(&["patch", "configmap", "m", "--type=json", "-p", ops]);
    assert!(said.contains("unknown conversion"), "{said}");
    cluster.ok(&["patch", "configmap", "m", "--type=strategic", "-p", other]);
    for map in cluster.json(&["configmaps"])["items"].as_array().unwrap() {
        assert_eq!((&map["kind"], &map["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    }
    let said = cluster.fails(&[
        "patch",
        "configmap",
        "m",
        "--type=json",
        "-p",
        r#"[{"op":"test","path":"/data/a","value":"c"}]"#,
    ]);
    assert!(said.contains("the server rejected our request due to an error in our request"), "{said}");
}

/// Clients without kubectl's own checks ask the server to be strict.
#[test]
fn strict_clients_are_told_of_unknown_fields() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "m", "--from-literal=a=b"]);
    let http = Http::of(&cluster);
    let path = "/api/v1/namespaces/default/configmaps/m?fieldValidation=Strict";
    let answer = http.send("PATCH", path, "application/merge-patch+json", r#"{"spec":1}"#);
    assert_eq!(answer.code, 422, "{answer:?}");
    let cause = &answer.json()["details"]["causes"][0];
    assert_eq!((&cause["field"], &cause["reason"]), (&json!("patch"), &json!("FieldValueInvalid")));
    assert!(cause["message"].as_str().unwrap().ends_with(r#"strict decoding error: unknown field "spec""#), "{cause}");
    let ops = r#"[{"op":"add","path":"/data/c","value":"d","note":"n"}]"#;
    let answer = http.send("PATCH", path, "application/json-patch+json", ops);
    assert!(answer.body.contains(r#"json patch unknown field \"[0].note\""#), "{answer:?}");
    assert_eq!(cluster.json(&["configmap", "m"])["data"], json!({"a": "b"}));
}
