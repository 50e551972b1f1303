//! Nodes that fall silent, at a time that only moves when told to.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::testing::Bench;

fn node(name: &str, zone: &str, ready: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T11:59:59Z"}]}})
}

fn path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

fn taints(bench: &Bench, name: &str) -> Vec<String> {
    let node = bench.api.object(&path(name));
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().trim_start_matches("node.kubernetes.io/").to_owned();
    taints.iter().map(|taint| format!("{}:{}", text(&taint["key"]), text(&taint["effect"]))).collect()
}

const EMPTIED: [&str; 2] = ["not-ready:NoSchedule", "not-ready:NoExecute"];

fn bench(nodes: &[(&str, &str, &str)]) -> Bench {
    let bench = Bench::new(vec![]);
    nodes.iter().for_each(|(name, zone, ready)| bench.api.put(&path(name), node(name, zone, ready)));
    start(&bench.ctx);
    bench
}

/// A heartbeat of each of these.
fn beat(bench: &Bench, nodes: &[(&str, &str, &str)], second: u64) {
    for (name, zone, ready) in nodes {
        let mut new = node(name, zone, ready);
        new["spec"] =
            json!({"taints": bench.api.object(&path(name)).pointer("/spec/taints").cloned().unwrap_or(json!([]))});
        new["status"]["conditions"][0]["lastHeartbeatTime"] =
            format!("2026-01-01T12:{:02}:{:02}Z", second / 60, second % 60).into();
        bench.api.put(&path(name), new);
    }
}

#[tokio::test]
async fn unwell_nodes_are_emptied_one_after_the_other() {
    let nodes = [("a", "z", "False"), ("b", "z", "False"), ("c", "z", "True"), ("d", "z", "True")];
    let bench = bench(&nodes);
    bench.advance(2).await;
    let emptied = |name| taints(&bench, name) == EMPTIED;
    assert_eq!([emptied("a"), emptied("b")].iter().filter(|emptied| **emptied).count(), 1);
    bench.advance(5).await;
    assert!(!(emptied("a") && emptied("b")), "the other one has to wait for its turn");
    bench.advance(6).await;
    assert!(emptied("a") && emptied("b"));
    beat(&bench, &[("a", "z", "True")], 20);
    bench.advance(1).await;
    assert!(taints(&bench, "a").is_empty());
}

#[tokio::test]
async fn a_small_zone_that_is_unhealthy_is_spared() {
    let nodes = [
        ("a", "x", "False"),
        ("b", "x", "False"),
        ("c", "x", "False"),
        ("d", "x", "True"),
        ("e", "y", "False"),
        ("f", "y", "True"),
    ];
    let bench = bench(&nodes);
    bench.advance(40).await;
    for name in ["a", "b", "c"] {
        assert_eq!(taints(&bench, name), ["not-ready:NoSchedule"]);
    }
    assert_eq!(taints(&bench, "e"), EMPTIED, "other zones are emptied as usual");
}

#[tokio::test]
async fn nobody_is_evicted_when_all_are_silent() {
    let nodes = [("a", "x", "True"), ("b", "y", "True")];
    let bench = bench(&nodes);
    bench.advance(30).await;
    beat(&bench, &[("b", "y", "True")], 30);
    bench.advance(25).await;
    assert_eq!(taints(&bench, "a"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    let wanted = "NodeNotReady: Node a status is now: NodeNotReady";
    assert!(bench.api.events().iter().any(|event| event == wanted), "{:?}", bench.api.events());
    bench.advance(40).await;
    assert_eq!(taints(&bench, "a"), ["unreachable:NoSchedule"]);
    assert_eq!(taints(&bench, "b"), ["unreachable:NoSchedule"]);
    beat(&bench, &[("b", "y", "True")], 100);
    bench.advance(12).await;
    assert!(taints(&bench, "b").is_empty());
    assert_eq!(taints(&bench, "a"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
}

#[tokio::test]
async fn pods_of_a_lost_node_are_not_ready() {
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    };
    let bench = bench(&[("a", "x", "True"), ("b", "x", "False")]);
    bench.api.put("/api/v1/namespaces/d/pods/p", pod("p", "a"));
    bench.api.put("/api/v1/namespaces/d/pods/q", pod("q", "b"));
    bench.advance(48).await;
    assert!(bench.api.calls("/pods/").is_empty(), "what a kubelet says of its pods counts as long as it speaks");
    beat(&bench, &[("b", "x", "False")], 48);
    bench.advance(5).await;
    let marked = bench.api.calls("/pods/");
    assert!(
        !marked.is_empty() && marked.iter().all(|call| call.path == "/api/v1/namespaces/d/pods/p/status"),
        "{marked:?}"
    );
    assert!(bench.api.events().iter().any(|event| event == "NodeNotReady: Node is not ready"));
}
