//! Admission webhooks and custom resources: what holds for built-in kinds holds for them.

use serde_json::{Value, json};

use crate::support::webhook::{Webhook, allow, configuration, deny, patch};
use crate::support::{TestCluster, eventually};

const VERSIONS: [&str; 2] = ["v1", "v2"];

/// A kind in two versions that know `data` with some fields.
fn definition() -> String {
    let text = json!({"type": "string"});
    let data = json!({"type": "object", "properties": {"own": text, "stage-1": text,
        "filled": {"type": "string", "default": "in"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"data": data}}});
    let version = |name: &str| json!({"name": name, "served": true, "storage": name == "v1", "schema": schema});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": VERSIONS.map(version)}})
    .to_string()
}

fn thing(version: &str, name: &str) -> String {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing", "metadata": {"name": name}, "data": {"own": "x"}})
        .to_string()
}

fn rules(operations: &[&str]) -> Value {
    json!([{"operations": operations, "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}])
}

#[test]
fn custom_resources_are_changed_pruned_filled_in_and_refused() {
    let cluster = TestCluster::control_plane();
    cluster.apply(&definition());
    cluster.ok(&["wait", "--for=condition=Established", "crd/things.example.com", "--timeout=60s"]);
    eventually("the kind", || {
        let out = cluster.kubectl(&["get", "things"]);
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    });
    let add = |path: &str| patch(&json!([{"op": "add", "path": path, "value": "x"}]));
    let hook = Webhook::start(move |path, request| match path {
        "/one" => add("/data/stage-1"),
        "/two" => add("/data/stage-2"),
        "/empty" => patch(&json!([{"op": "remove", "path": "/data/filled"}])),
        "/keep" if request["operation"] == "DELETE" => deny("it stays"),
        _ => allow(),
    });
    let hooks = ["one", "two", "empty"].map(|name| hook.hook(name, &json!({"rules": rules(&["CREATE"])})));
    cluster.apply(&configuration("Mutating", "m", &hooks));
    cluster.apply(&configuration("Validating", "v", &[hook.hook("keep", &json!({"rules": rules(&["*"])}))]));
    for version in VERSIONS {
        cluster.apply(&thing(version, version));
        let data = cluster.json(&[&format!("things.{version}.example.com"), version])["data"].clone();
        assert_eq!(data, json!({"own": "x", "stage-1": "x", "filled": "in"}), "{version}");
    }
    let asked = hook.asked("/keep");
    let seen = |request: &Value| {
        let version = |of: &str| request[of]["version"].as_str().unwrap_or_default().to_owned();
        (request["object"]["apiVersion"].clone(), version("kind"), version("requestKind"))
    };
    let created: Vec<_> = asked.iter().filter(|request| request["operation"] == "CREATE").map(seen).collect();
    let v1 = json!("example.com/v1");
    let wanted = VERSIONS.map(|version| (v1.clone(), "v1".to_owned(), version.to_owned()));
    assert_eq!(created, wanted, "what the client asks in another version is shown in that of the rule");
    let said = cluster.fails(&["delete", "things", "--all"]);
    assert!(said.contains("admission webhook \"keep.example.com\" denied the request: it stays"), "{said}");
    cluster.ok(&["delete", "validatingwebhookconfiguration", "v"]);
    cluster.ok(&["delete", "things", "--all"]);
}

/// Definitions too are objects like others.
#[test]
fn definitions_may_be_refused() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|_, _| deny("no kinds"));
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["*"],
        "resources": ["customresourcedefinitions"]}]);
    cluster.apply(&configuration("Validating", "v", &[hook.hook("v", &json!({"rules": rules}))]));
    let file = cluster.file("definition.json", &definition());
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("admission webhook \"v.example.com\" denied the request: no kinds"), "{said}");
    let said = cluster.fails(&["get", "crd", "things.example.com"]);
    assert!(said.contains("NotFound"), "{said}");
}
