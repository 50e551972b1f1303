//! Writes as kubectl makes them: dry runs, evictions, replacements.

use serde_json::json;

use crate::support::TestCluster;
use crate::support::http::Http;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec: {containers: [{name: c, image: i}]}\n";

#[test]
fn a_dry_run_of_an_eviction_evicts_nobody() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply(POD);
    let http = Http::of(&cluster);
    let path = "/api/v1/namespaces/default/pods/p/eviction";
    let dry = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}});
    assert_eq!(http.send("POST", path, "application/json", &dry.to_string()).code, 201);
    let plain = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}"#;
    assert_eq!(http.send("POST", &format!("{path}?dryRun=All"), "application/json", plain).code, 201);
    let wrong = http.send("POST", &format!("{path}?dryRun=Some"), "application/json", plain);
    assert_eq!(wrong.code, 422, "{wrong:?}");
    let status = cluster.json(&["pod", "p"])["status"].to_string();
    assert!(!status.contains("DisruptionTarget"), "nobody was told to go: {status}");
    assert_eq!(http.send("POST", path, "application/json", plain).code, 201);
    cluster.fails(&["get", "pod", "p"]);
}

#[test]
fn a_budget_that_is_used_up_is_said_to_be() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply(POD);
    cluster.ok(&["create", "poddisruptionbudget", "b", "--selector=a=b", "--min-available=1"]);
    let ready = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    cluster.ok(&["patch", "pod", "p", "--subresource=status", "--type=merge", "-p", ready]);
    cluster.wait_for("1", &["get", "pdb", "b", "-o", "jsonpath={.status.currentHealthy}"]);
    let plain = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}"#;
    let http = Http::of(&cluster);
    let answer = http.send("POST", "/api/v1/namespaces/default/pods/p/eviction", "application/json", plain);
    let status = answer.json();
    assert_eq!((answer.code, status["reason"].as_str()), (429, Some("TooManyRequests")), "{answer:?}");
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget b needs 1 healthy pods and has 1 currently");
}

/// A client that does not know all fields of a pod replaces it without them.
#[test]
fn a_replaced_pod_keeps_what_admission_gave_it() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "priorityclass", "high", "--value=1000"]);
    cluster.wait_for_account();
    cluster.apply(&POD.replace("containers:", "priorityClassName: high, containers:"));
    let mut pod = cluster.json(&["pod", "p"]);
    assert_eq!(pod["spec"]["priority"], 1000);
    for field in ["priority", "preemptionPolicy"] {
        pod["spec"].as_object_mut().unwrap().remove(field);
    }
    pod["spec"]["containers"][0]["image"] = "other".into();
    let file = cluster.file("pod.json", &pod.to_string());
    cluster.ok(&["replace", "-f", &file.to_string_lossy()]);
    let replaced = cluster.json(&["pod", "p"]);
    assert_eq!(
        (&replaced["spec"]["priority"], &replaced["spec"]["containers"][0]["image"]),
        (&json!(1000), &json!("other"))
    );
}

/// What a client left out of what the cluster gave a service stays.
#[test]
fn a_replaced_service_keeps_its_addresses_and_ports() {
    let cluster = TestCluster::control_plane();
    let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}\n";
    cluster.apply(manifest);
    let before = cluster.json(&["service", "s"])["spec"].clone();
    let file = cluster.file("service.yaml", manifest);
    cluster.ok(&["replace", "-f", &file.to_string_lossy()]);
    let after = cluster.json(&["service", "s"])["spec"].clone();
    for field in ["clusterIP", "clusterIPs", "ports"] {
        assert_eq!(after[field], before[field], "{field}");
    }
}
