//! Trouble with the container runtime: the API stays, the node tells what is wrong, and pods survive.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::images::{self, WEB_1};
use crate::support::{TestCluster, eventually};

/// Where runc and nft are, and containerd is not.
const WITHOUT_CONTAINERD: &str = "/usr/sbin:/sbin";

/// The Ready condition of the node.
fn ready(cluster: &TestCluster) -> Value {
    let nodes = cluster.json(&["nodes"]);
    let conditions = nodes["items"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or_default()
}

/// Waits until the node is not ready, with a message that holds all of the words.
fn not_ready(cluster: &TestCluster, words: &[&str]) {
    eventually(&format!("a node that says {words:?}"), || {
        let ready = ready(cluster);
        let message = ready["message"].as_str().unwrap_or_default();
        let told = words.iter().all(|w| message.contains(w));
        if ready["status"] == "False" && ready["reason"] == "KubeletNotReady" && told {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    });
}

fn a_pod_runs(cluster: &TestCluster, name: &str) {
    images::import(&cluster.runtime_socket());
    cluster.ok(&["run", name, &format!("--image={WEB_1}"), "--restart=Never", "--", "sleep 3600"]);
    cluster.wait_for("Running", &["get", "pod", name, "-o", "jsonpath={.status.phase}"]);
}

fn find(program: &str) -> std::path::PathBuf {
    let dirs = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    dirs.iter().map(|d| d.join(program)).find(|p| p.exists()).unwrap()
}

#[test]
fn a_missing_runtime_is_named_and_waited_for() {
    let bin = tempfile::tempdir().unwrap();
    let path = format!("{}:{WITHOUT_CONTAINERD}", bin.path().display());
    let cluster = TestCluster::node_that_may_not_run(Some(&path));
    not_ready(&cluster, &["container runtime is down", "containerd is not installed: install the package containerd"]);
    cluster.ok(&["create", "configmap", "still-here"]);
    for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
        symlink(find(program), bin.path().join(program)).unwrap();
    }
    cluster.wait_for_node();
    a_pod_runs(&cluster, "p");
}

#[test]
fn a_runtime_that_ends_at_once_is_told_with_its_last_words() {
    let bin = tempfile::tempdir().unwrap();
    let broken = bin.path().join("containerd");
    std::fs::write(&broken, "#!/bin/sh\necho starting >&2\necho 'cannot work like this' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{WITHOUT_CONTAINERD}", bin.path().display());
    let cluster = TestCluster::node_that_may_not_run(Some(&path));
    let log = cluster.data_dir().join("agent/containerd/containerd.log");
    not_ready(&cluster, &["ended unexpectedly", "exit status: 3", "cannot work like this", &log.to_string_lossy()]);
    cluster.ok(&["create", "configmap", "still-here"]);
    // It is repaired, and found to be.
    for program in ["containerd-shim-runc-v2", "ctr"] {
        symlink(find(program), bin.path().join(program)).unwrap();
    }
    std::fs::remove_file(&broken).unwrap();
    symlink(find("containerd"), &broken).unwrap();
    cluster.wait_for_node();
    a_pod_runs(&cluster, "p");
}

/// The process of this cluster's own containerd.
fn containerd(cluster: &TestCluster) -> Option<u32> {
    let config = cluster.data_dir().join("agent/etc/containerd/config.toml").to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|pid: &u32| {
        let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|b| *b == 0);
        arguments.next().is_some_and(|program| program.ends_with(b"/containerd"))
            && arguments.any(|a| a == config.as_bytes())
    })
}

/// Identity and containers of all pods.
fn containers(cluster: &TestCluster) -> Vec<String> {
    let pods = cluster.json(&["pods"]);
    let mut all = Vec::new();
    for pod in pods["items"].as_array().unwrap() {
        for status in pod["status"]["containerStatuses"].as_array().unwrap() {
            let state = status["state"]["running"]["startedAt"].clone();
            let id = (&status["containerID"], &status["restartCount"], state, &pod["status"]["podIP"]);
            all.push(format!("{} {id:?}", pod["metadata"]["name"]));
        }
    }
    all
}

#[test]
fn pods_survive_a_killed_runtime() {
    let cluster = TestCluster::node();
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
      containers:
      - name: web
        image: {WEB_1}
        args: [\"exec httpd -f -p 8080 -h /www\"]
        readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}
"
    ));
    cluster.ok(&["rollout", "status", "deployment/web", "--timeout=180s"]);
    let before = containers(&cluster);
    for _ in 0..2 {
        let pid = containerd(&cluster).unwrap();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        eventually("a new containerd", || match containerd(&cluster) {
            Some(new) if new != pid => Ok(()),
            other => Err(format!("{other:?}")),
        });
        // Only a runtime that answers can do this.
        eventually("a command in a pod", || {
            let out = cluster.kubectl(&["exec", "deployment/web", "--", "cat", "/etc/version"]);
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
    }
    cluster.wait_for_node();
    // What happens from now on is noticed: events of the new runtime arrive.
    a_pod_runs(&cluster, "later");
    cluster.ok(&["delete", "pod", "later", "--grace-period=1", "--timeout=180s"]);
    cluster.ok(&["rollout", "status", "deployment/web", "--timeout=180s"]);
    assert_eq!(containers(&cluster), before, "the pods did not notice");
}
