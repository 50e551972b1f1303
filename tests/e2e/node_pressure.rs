//! A node that runs short: which pods have to go, which stay, and what everybody is told.

use serde_json::Value;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

fn pod(name: &str, more: &str, resources: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - name: main
    image: {WEB_1}
    args: [\"exec sleep 3600\"]
    resources: {resources}
"
    )
}

fn ended(cluster: &TestCluster, name: &str) -> Value {
    eventually("an evicted pod", || {
        let status = cluster.json(&["pod", name])["status"].clone();
        if status["phase"] == "Failed" && status["reason"] == "Evicted" { Ok(status) } else { Err(status.to_string()) }
    })
}

#[test]
fn pods_go_by_what_they_use_and_critical_ones_stay() {
    let mut cluster = TestCluster::node();
    // A container that writes more than it may has to go, however much is left.
    cluster.apply(&pod("writer", "", "{limits: {ephemeral-storage: 1Mi}}"));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/writer", "--timeout=120s"]);
    cluster.ok(&["exec", "writer", "--", "dd", "if=/dev/zero", "of=/large", "bs=1M", "count=3"]);
    let told = ended(&cluster, "writer")["message"].clone();
    assert_eq!(told, "Container main exceeded its local ephemeral storage limit \"1Mi\". ");

    cluster.apply(&pod("modest", "", "{requests: {memory: 64Mi}}"));
    cluster.apply(&pod("vital", "priorityClassName: system-node-critical", "{}"));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/modest", "pod/vital", "--timeout=120s"]);
    let id = ["get", "pod", "vital", "-o", "jsonpath={.status.containerStatuses[0].containerID}"];
    let before = cluster.ok(&id);
    // From now on there never is enough.
    cluster.kill();
    cluster.start_again_with(&["--kubelet-arg", "eviction-hard=memory.available<99%"]);
    let status = ended(&cluster, "modest");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: memory. Threshold quantity: "), "{message}");
    let conditions = status["conditions"].as_array().unwrap();
    let disrupted = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!(disrupted["reason"], "TerminationByKubelet");
    let pressure = "jsonpath={.status.conditions[?(@.type==\"MemoryPressure\")].status}";
    cluster.wait_for("True", &["get", "node", "n1", "-o", pressure]);
    eventually("a taint that keeps others away", || {
        let taints = cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.spec.taints[*].key}"]);
        if taints.contains("node.kubernetes.io/memory-pressure") { Ok(()) } else { Err(taints) }
    });
    // Whoever is put here all the same and asks for nothing is not taken.
    cluster.apply(&pod("another", "nodeName: n1", "{}"));
    let refused = ended(&cluster, "another")["message"].clone();
    assert_eq!(refused, "Pod was rejected: The node had condition: [MemoryPressure]. ");
    let events = cluster.ok(&["get", "events", "--field-selector=reason=EvictionThresholdMet"]);
    assert!(events.contains("Attempting to reclaim memory"), "{events}");
    assert_eq!(cluster.ok(&id), before, "the critical one runs on");
    let metrics = cluster.ok(&["get", "--raw", "/api/v1/nodes/n1/proxy/metrics"]);
    assert!(metrics.contains("kubelet_evictions{eviction_signal=\"memory.available\"} 1"), "{metrics}");
}
