//! Static pods: what files tell the node to run, and how the API shows it.

use serde_json::Value;

use crate::support::images::{WEB_1, WEB_2};
use crate::support::{TestCluster, eventually};

fn manifest(image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: kube-system, labels: {{app: static-web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: {image}
    args: [\"exec httpd -f -p 8080 -h /www\"]
    ports: [{{containerPort: 8080}}]
    readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}
    volumeMounts: [{{name: scratch, mountPath: /scratch}}]
  volumes: [{{name: scratch, emptyDir: {{}}}}]
"
    )
}

const POD: [&str; 4] = ["-n", "kube-system", "pod", "web-n1"];

fn pod(cluster: &TestCluster) -> Option<Value> {
    let out = cluster.kubectl(&[&["get", "-o", "json"], &POD[..]].concat());
    serde_json::from_slice(&out.stdout).ok()
}

/// Waits for the image of the static pod to be ready, and something more.
fn ready(cluster: &TestCluster, what: &str, more: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let pod = pod(cluster).ok_or("it is not there")?;
        let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
        if ready && more(&pod) { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

#[test]
fn files_make_pods_that_clients_can_see_and_not_end() {
    let mut cluster = TestCluster::node();
    let directory = cluster.data_dir().join("agent/pod-manifests");
    std::fs::write(directory.join("web.yaml"), manifest(WEB_1)).unwrap();
    let first = ready(&cluster, "a static pod", |_| true);
    let (metadata, container) = (&first["metadata"], &first["status"]["containerStatuses"][0]);
    let annotations = &metadata["annotations"];
    let hash = annotations["kubernetes.io/config.hash"].as_str().unwrap();
    assert_eq!(annotations["kubernetes.io/config.mirror"], hash);
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_ne!(metadata["uid"], hash, "the API gives an identity of its own");
    let owner = &metadata["ownerReferences"][0];
    let node = cluster.json(&["node", "n1"]);
    assert_eq!((&owner["kind"], &owner["uid"]), (&"Node".into(), &node["metadata"]["uid"]));
    assert!(first["spec"]["tolerations"].as_array().unwrap().iter().any(|t| t["effect"] == "NoExecute"), "{first}");

    // Clients use it as any other.
    assert_eq!(cluster.ok(&["-n", "kube-system", "exec", "web-n1", "--", "cat", "/etc/version"]), "1");
    cluster.ok(&["-n", "kube-system", "logs", "web-n1"]);
    let told = cluster.ok(&["-n", "kube-system", "describe", "pod", "web-n1"]);
    assert!(told.contains("Controlled By:  Node/n1") && told.contains("Started"), "{told}");
    let drained = cluster.ok(&["drain", "n1", "--ignore-daemonsets", "--pod-selector=app=static-web"]);
    assert!(drained.contains("drained"), "{drained}");
    cluster.ok(&["uncordon", "n1"]);

    // Deleted, it is there again: the same container.
    cluster.ok(&["-n", "kube-system", "delete", "pod", "web-n1", "--timeout=60s"]);
    let again = ready(&cluster, "its image again", |pod| pod["metadata"]["uid"] != metadata["uid"]);
    assert_eq!(again["status"]["containerStatuses"][0]["containerID"], container["containerID"]);

    // A server that is killed finds it again, and a file that is bad is an event.
    cluster.kill();
    std::fs::write(directory.join("bad.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {}\n").unwrap();
    cluster.start();
    let found = ready(&cluster, "the same pod", |_| true);
    assert_eq!(found["status"]["containerStatuses"][0]["containerID"], container["containerID"]);
    eventually("an event about the bad file", || {
        let events = cluster.ok(&["get", "events", "--field-selector=reason=FailedValidation"]);
        let told = events.contains("bad.yaml: invalid pod: [spec.containers: Required value]");
        if told { Ok(()) } else { Err(events) }
    });

    // What the file says is what runs.
    std::fs::write(directory.join("web.yaml"), manifest(WEB_2)).unwrap();
    let other = ready(&cluster, "what the file says now", |pod| pod["spec"]["containers"][0]["image"] == WEB_2);
    assert_ne!(other["metadata"]["annotations"]["kubernetes.io/config.hash"], hash);
    assert_eq!(cluster.ok(&["-n", "kube-system", "exec", "web-n1", "--", "cat", "/etc/version"]), "2");
    std::fs::remove_file(directory.join("web.yaml")).unwrap();
    eventually("its end", || pod(&cluster).map_or(Ok(()), |pod| Err(pod["status"].to_string())));
}
