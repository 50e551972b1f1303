//! Restarts: pods go on, and nothing that was acknowledged is lost.

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// What must not change: name, identity, address and containers of every pod.
fn pods(cluster: &TestCluster) -> Vec<String> {
    let list = cluster.json(&["pods"]);
    let pod = |pod: &serde_json::Value| {
        let status = &pod["status"];
        let container = &status["containerStatuses"][0];
        format!(
            "{} {} {} {} {}",
            pod["metadata"]["name"],
            pod["metadata"]["uid"],
            status["podIP"],
            container["containerID"],
            container["restartCount"]
        )
    };
    list["items"].as_array().unwrap().iter().map(pod).collect()
}

#[test]
fn a_killed_server_finds_its_pods_again() {
    let mut cluster = TestCluster::node();
    cluster.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: web, image: {WEB_1}, args: [\"exec httpd -f -p 8080 -h /www\"]}}]
"
    ));
    let ready = ["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"];
    cluster.wait_for("2", &ready);
    for i in 0..20 {
        cluster.ok(&["create", "configmap", &format!("kept-{i}"), "--from-literal=a=b"]);
    }
    let before = pods(&cluster);
    cluster.kill();
    cluster.start();
    assert_eq!(cluster.ok(&["get", "configmaps", "-o", "name"]).matches("kept-").count(), 20);
    cluster.wait_for("2", &ready);
    assert_eq!(pods(&cluster), before, "same pods, same addresses, same containers");
    // They are not only remembered: they are looked after.
    let pod = before[0].split('"').nth(1).unwrap().to_owned();
    eventually("exec after the restart", || {
        let out = cluster.kubectl(&["exec", &pod, "--", "cat", "/etc/version"]);
        if out.stdout == b"1" { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    });
    cluster.ok(&["scale", "deployment", "web", "--replicas=1"]);
    cluster.wait_for("1", &["get", "deployment", "web", "-o", "jsonpath={.status.replicas}"]);
}
