//! A file system that does not answer holds up the pods that have it, and nothing else.

use std::time::{Duration, Instant};

use crate::support::fuse::Hung;
use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// Longer than a stop takes, and far shorter than the file system hangs.
const SECONDS: Duration = Duration::from_secs(30);

fn pod(name: &str, volume: &str, mount: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: a, image: {WEB_1}, args: [\"echo hello; exec sleep 3600\"]{mount}}}
{volume}
"
    )
}

/// Waits for an event about a pod that says where it hangs.
fn told(cluster: &TestCluster, name: &str, path: &str) {
    let selector = format!("involvedObject.name={name},reason=FailedMount");
    eventually("an event that says why the pod does not start", || {
        let args = ["get", "events", "--field-selector", &selector, "-o", "jsonpath={.items[*].message}"];
        let said = cluster.ok(&args);
        let wanted = said.contains(path) && said.contains("answer") && said.contains("the file system may hang");
        if wanted { Ok(()) } else { Err(said) }
    });
}

/// Threads of the server that wait for file systems.
fn waiting_threads(cluster: &TestCluster) -> usize {
    let tasks = format!("/proc/{}/task", cluster.pid());
    let names = std::fs::read_dir(tasks).unwrap().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "kubelet-files").count()
}

fn renewed(cluster: &TestCluster) -> String {
    cluster.ok(&["-n", "kube-node-lease", "get", "lease", "n1", "-o", "jsonpath={.spec.renewTime}"])
}

/// Another pod comes, answers, and goes.
fn others_live(cluster: &TestCluster, name: &str) {
    cluster.apply(&pod(name, "", ""));
    cluster.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=180s"]);
    assert_eq!(cluster.ok(&["exec", name, "--", "echo", "inside"]).trim(), "inside");
    assert_eq!(cluster.ok(&["logs", name]).trim(), "hello");
    cluster.ok(&["delete", "pod", name, "--timeout=180s"]);
}

#[test]
fn a_hung_file_system_holds_up_its_pods_alone() {
    let mut cluster = TestCluster::node();
    // After the cluster, so that it goes first: the cluster could not take its pods down.
    let mut hung = Hung::mount();
    let (parent, path) = (hung.parent().to_string_lossy().into_owned(), hung.path().to_string_lossy().into_owned());
    let mount = ", volumeMounts: [{name: v, mountPath: /v}]";
    let whole = format!("  volumes: [{{name: v, hostPath: {{path: {path}, type: Directory}}}}]");
    cluster.apply(&pod("whole", &whole, mount));
    cluster.apply(&pod("removed", &whole, mount));
    let part = format!("  volumes: [{{name: v, hostPath: {{path: {parent}}}}}]");
    cluster.apply(&pod("part", &part, ", volumeMounts: [{name: v, mountPath: /v, subPath: mnt/x}]"));
    told(&cluster, "whole", &path);
    told(&cluster, "removed", &path);
    told(&cluster, "part", &parent);

    let before = renewed(&cluster);
    others_live(&cluster, "other");
    cluster.ok(&["delete", "pod", "removed", "--timeout=180s"]);
    eventually("another renewal of the node's lease", || {
        let now = renewed(&cluster);
        if now == before { Err(now) } else { Ok(()) }
    });
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(cluster.ok(&["get", "node", "n1", "-o", ready]), "True");
    // They have been tried again and again by now.
    eventually("one thread for each path that hangs", || match waiting_threads(&cluster) {
        2 => Ok(()),
        other => Err(format!("{other} threads")),
    });

    let begun = Instant::now();
    assert!(cluster.stop(), "stopped in order while calls hang");
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    cluster.start();
    cluster.wait_for_node();
    others_live(&cluster, "another");

    hung.end().unwrap();
    for name in ["whole", "part"] {
        cluster.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=180s"]);
    }
    cluster.ok(&["delete", "pod", "whole", "part", "--timeout=180s"]);
}
