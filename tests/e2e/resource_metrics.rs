//! What nodes and pods use: `kubectl top`, and the API behind it.

use serde_json::Value;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// The amount of CPU that kubectl shows, in thousandths: `250m`, `2`.
fn millis(text: &str) -> u64 {
    match text.strip_suffix('m') {
        Some(number) => number.parse().unwrap(),
        None => text.parse::<u64>().unwrap() * 1_000,
    }
}

#[test]
fn a_pod_that_is_busy_is_seen() {
    let cluster = TestCluster::node();
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: busy, labels: {{app: busy}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: burns, image: {WEB_1}, args: [\"while true; do :; done\"], resources: {{limits: {{cpu: 300m}}}}}}
  - {{name: rests, image: {WEB_1}, args: [\"while true; do sleep 1; done\"]}}
"
    ));
    cluster.ok(&["run", "done", &format!("--image={WEB_1}"), "--restart=Never", "--", "true"]);
    cluster.ok(&["wait", "--for=condition=Ready", "pod/busy", "--timeout=60s"]);
    cluster.wait_for("Succeeded", &["get", "pod", "done", "-o", "jsonpath={.status.phase}"]);
    // The limit bounds it from above, and whatever else the machine does from below.
    let burnt = eventually("a busy container", || {
        let shown = cluster.kubectl(&["top", "pod", "busy", "--containers", "--no-headers"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let row = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row[1] == "burns");
        let burnt = row.map(|row| millis(row[2])).filter(|burnt| *burnt > 50);
        burnt.ok_or(shown)
    });
    assert!(burnt < 500, "{burnt}m of 300m");
    let shown = cluster.ok(&["top", "pod", "-A", "--sort-by=cpu", "--no-headers", "--sum"]);
    assert!(shown.trim_start().starts_with("default"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains("busy")).count(), 1, "{shown}");
    assert!(!shown.contains("done"), "one that has ended uses nothing: {shown}");
    assert!(cluster.ok(&["top", "pod", "-l", "app=busy", "--no-headers"]).starts_with("busy"));
    assert!(cluster.ok(&["top", "node", "--no-headers"]).starts_with("n1"));
    let pod: Value = serde_json::from_str(&cluster.ok(&[
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/busy",
    ]))
    .unwrap();
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&"PodMetrics".into(), &"metrics.k8s.io/v1beta1".into()));
    assert_eq!(pod["metadata"]["labels"]["app"], "busy");
    assert_eq!(pod["containers"].as_array().unwrap().len(), 2);
    let memory = pod["containers"][0]["usage"]["memory"].as_str().unwrap();
    assert!(memory.ends_with("Ki") || memory.ends_with("Mi"), "{memory}");
    assert!(pod["window"].as_str().unwrap().ends_with('s'), "{pod}");
    let table = cluster.ok(&["get", "pods.metrics.k8s.io"]);
    let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    let missing = cluster.fails(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/done"]);
    assert!(missing.contains("pods \"done\" not found"), "{missing}");
    // What metrics-server scrapes is there too.
    let scraped = cluster.ok(&["get", "--raw", "/api/v1/nodes/n1/proxy/metrics/resource"]);
    for wanted in [
        "container_cpu_usage_seconds_total{container=\"burns\",namespace=\"default\",pod=\"busy\"} ",
        "container_start_time_seconds{container=\"burns\",namespace=\"default\",pod=\"busy\"} ",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"busy\"} ",
        "node_cpu_usage_seconds_total ",
        "resource_scrape_error 0",
    ] {
        assert!(scraped.contains(wanted), "{wanted} is not in\n{scraped}");
    }
}

fn node(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{fake: \"yes\"}}}}
"
    )
}

/// Nodes that do not answer are missing; the list is not an error, and nobody waits long for it.
#[test]
fn nodes_that_do_not_answer_are_missing() {
    let cluster = TestCluster::control_plane();
    for name in ["no-address", "refuses", "silent"] {
        cluster.apply(&node(name));
    }
    // Nobody listens on the one, and the other takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = crate::support::free_port();
    for (name, port) in [("refuses", closed), ("silent", silent.local_addr().unwrap().port())] {
        let status = format!(
            r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"127.0.0.1"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
        );
        cluster.ok(&["patch", "node", name, "--subresource=status", "--type=merge", "-p", &status]);
    }
    let list: Value =
        serde_json::from_str(&cluster.ok(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"])).unwrap();
    assert_eq!((&list["kind"], &list["items"]), (&"NodeMetricsList".into(), &serde_json::json!([])));
    let get = |path: &str| cluster.fails(&["get", "--raw", &format!("/apis/metrics.k8s.io/v1beta1/{path}")]);
    assert!(get("nodes/silent").contains("nodemetrics.metrics.k8s.io \"silent\" not found"));
    assert!(get("nodes/nobody").contains("node \"nobody\" not found"));
    assert!(get("nodes?fieldSelector=spec.x%3Dy").contains("is not a known field selector"));
    assert!(cluster.ok(&["get", "nodes.metrics.k8s.io"]).is_empty());
}

#[test]
fn the_group_is_described_as_others_are_and_can_be_left_out() {
    let mut cluster = TestCluster::control_plane();
    let listed = cluster.ok(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            ["nodes", "metrics.k8s.io/v1beta1", "false", "NodeMetrics"],
            ["pods", "metrics.k8s.io/v1beta1", "true", "PodMetrics"]
        ]
    );
    let explained = cluster.ok(&["explain", "podmetrics.containers"]);
    assert!(explained.contains("usage") && explained.contains("working set"), "{explained}");
    assert!(
        cluster.ok(&["get", "--raw", "/openapi/v2"]).contains("io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics")
    );
    // Who may look at pods may look at what they use.
    cluster.wait_for_account();
    cluster.ok(&["create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:default"]);
    let account = "--as=system:serviceaccount:default:default";
    cluster.wait_for("yes", &["auth", "can-i", "list", "pods.metrics.k8s.io", account]);
    assert_eq!(cluster.ok(&["get", "pods.metrics.k8s.io", account]), "");
    // Controllers that walk all kinds pass it by: a namespace goes.
    cluster.ok(&["create", "namespace", "gone"]);
    cluster.ok(&["delete", "namespace", "gone", "--timeout=60s"]);
    assert!(cluster.stop());
    let mut cluster = TestCluster::control_plane_with(&["--disable", "metrics-server"]);
    assert_eq!(cluster.ok(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers"]), "");
    assert!(cluster.fails(&["top", "node"]).contains("Metrics API not available"));
    cluster.stop();
}
