//! Streams between kubectl and containers, over WebSocket and, as older clients have it, SPDY.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::TestCluster;
use crate::support::images::WEB_1;

/// Runs kubectl with input; its output.
fn with_input(cluster: &TestCluster, args: &[&str], websockets: bool, input: &[u8]) -> Vec<u8> {
    let mut command = cluster.kubectl_command(args);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "kubectl {args:?}: {}", out.status);
    out.stdout
}

#[test]
fn commands_streams_and_logs_over_both_protocols() {
    let cluster = TestCluster::node();
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: talks, image: {WEB_1}, args: [\"echo one; echo two; trap 'exit 0' TERM; while true; do sleep 0.1; done\"]}}
  - {{name: listens, image: {WEB_1}, stdin: true, stdinOnce: true, args: [\"head -n 1; sleep 3600\"]}}
  - {{name: ends, image: {WEB_1}, args: [\"echo attempt; sleep 1; exit 1\"]}}
"
    ));
    cluster.wait_for(
        "true",
        &["get", "pod", "p", "-o", "jsonpath={.status.containerStatuses[?(@.name==\"talks\")].ready}"],
    );
    for websockets in [true, false] {
        let echoed = with_input(&cluster, &["exec", "-i", "p", "-c", "talks", "--", "cat"], websockets, b"in and out");
        assert_eq!(echoed, b"in and out", "websockets: {websockets}");
    }
    assert_eq!(cluster.ok(&["logs", "p", "-c", "talks"]), "one\ntwo\n");
    assert_eq!(cluster.ok(&["logs", "p", "-c", "talks", "--tail=1"]), "two\n");
    assert_eq!(cluster.ok(&["logs", "p", "-c", "talks", "--since=1h"]), "one\ntwo\n");
    cluster.wait_for("attempt", &["logs", "p", "-c", "ends", "--previous"]);
    let missing = cluster.fails(&["logs", "p", "-c", "talks", "--previous"]);
    assert!(missing.contains("previous terminated container \"talks\" in pod \"p\" not found"), "{missing}");
    let unknown = cluster.fails(&["logs", "p", "-c", "nobody"]);
    assert!(unknown.contains("container nobody is not valid for pod p"), "{unknown}");
    let attached = with_input(
        &cluster,
        &["run", "once", &format!("--image={WEB_1}"), "-i", "--rm", "-q", "--restart=Never", "--", "head -n 1"],
        true,
        b"hello\n",
    );
    assert!(String::from_utf8_lossy(&attached).contains("hello"), "{attached:?}");
    follow(&cluster);
}

/// `logs -f` ends when the container does.
fn follow(cluster: &TestCluster) {
    let image = format!("--image={WEB_1}");
    cluster.ok(&["run", "brief", &image, "--restart=Never", "--", "for i in 1 2 3; do echo $i; sleep 0.3; done"]);
    cluster.ok(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/brief", "--timeout=60s"]);
    assert_eq!(cluster.ok(&["logs", "-f", "brief"]), "1\n2\n3\n");
}
