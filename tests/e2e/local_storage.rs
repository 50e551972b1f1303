//! Volumes on a fresh node with nothing installed: the packaged class `local-path`, and volumes whose sources are gone.

use std::path::PathBuf;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

fn set(replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  replicas: {replicas}
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete, whenScaled: Retain}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {{runAsUser: 1234, runAsGroup: 1234, fsGroup: 4321}}
      containers:
      - name: db
        image: {WEB_1}
        args: [\"hostname >> /data/starts; exec sleep 3600\"]
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}}}
"
    )
}

fn starts(cluster: &TestCluster, pod: &str) -> usize {
    let read = cluster.kubectl(&["exec", pod, "--", "cat", "/data/starts"]);
    String::from_utf8_lossy(&read.stdout).lines().filter(|line| *line == pod).count()
}

fn ready(cluster: &TestCluster, replicas: u32) {
    let args = ["get", "statefulset", "db", "-o", "jsonpath={.status.readyReplicas}"];
    cluster.wait_for(&replicas.to_string(), &args);
}

fn directories(cluster: &TestCluster) -> Vec<PathBuf> {
    let list = std::fs::read_dir(cluster.data_dir().join("storage"));
    list.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_claim_gets_a_directory_of_its_node_for_life() {
    let mut cluster = TestCluster::node();
    cluster.apply(&set(2));
    ready(&cluster, 2);
    let volume = cluster.ok(&["get", "pvc", "data-db-0", "-o", "jsonpath={.spec.volumeName}"]);
    let found = cluster.json(&["pv", &volume]);
    assert_eq!(found["spec"]["storageClassName"], "local-path");
    let path = PathBuf::from(found["spec"]["local"]["path"].as_str().unwrap());
    assert!(path.starts_with(cluster.data_dir().join("storage")), "{}", path.display());
    assert_eq!(directories(&cluster).len(), 2);
    // The pod is replaced and the server killed: what was written is there.
    assert_eq!(starts(&cluster, "db-0"), 1);
    cluster.ok(&["delete", "pod", "db-0", "--timeout=120s"]);
    ready(&cluster, 2);
    assert_eq!(starts(&cluster, "db-0"), 2);
    cluster.kill();
    cluster.start();
    ready(&cluster, 2);
    assert_eq!(starts(&cluster, "db-0"), 2, "it went on");
    // A directory does not grow, and cannot be had by several nodes.
    let larger = r#"{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}"#;
    let said = cluster.fails(&["patch", "pvc", "data-db-0", "-p", larger]);
    assert!(said.contains("only dynamically provisioned pvc can be resized"), "{said}");
    // Whoever is scaled away may come back to its data.
    cluster.ok(&["scale", "statefulset", "db", "--replicas=1"]);
    eventually("one is gone", || {
        let list = cluster.ok(&["get", "pods", "-o", "name"]);
        if list.contains("db-1") { Err(list) } else { Ok(()) }
    });
    cluster.ok(&["scale", "statefulset", "db", "--replicas=2"]);
    ready(&cluster, 2);
    assert_eq!(starts(&cluster, "db-1"), 2);
    // With the set its claims go, with them their volumes, and their directories before those.
    cluster.ok(&["delete", "statefulset", "db", "--timeout=120s"]);
    eventually("no volume is left", || {
        let (claims, volumes) = (cluster.ok(&["get", "pvc", "-o", "name"]), cluster.ok(&["get", "pv", "-o", "name"]));
        if claims.is_empty() && volumes.is_empty() { Ok(()) } else { Err(format!("{claims} {volumes}")) }
    });
    assert!(directories(&cluster).is_empty(), "{:?}", directories(&cluster));
}

#[test]
fn what_a_directory_cannot_be_is_said_to_the_claim() {
    let cluster = TestCluster::node();
    cluster.apply(&format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: shared}}
spec: {{accessModes: [ReadWriteMany], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  containers: [{{name: c, image: {WEB_1}, volumeMounts: [{{name: v, mountPath: /v}}]}}]
  volumes: [{{name: v, persistentVolumeClaim: {{claimName: shared}}}}]
"
    ));
    eventually("the claim says why it has no volume", || {
        let events = cluster.events();
        let why =
            "ProvisioningFailed: failed to provision volume with StorageClass \"local-path\": NodePath only supports";
        if events.contains(why) { Ok(()) } else { Err(events) }
    });
}

/// A pod was not started again while a source of its volumes could not be read, although all of it was mounted already.
#[test]
fn a_container_is_started_again_when_the_sources_of_its_volumes_are_gone() {
    let mut cluster = TestCluster::node();
    cluster.ok(&["create", "configmap", "settings", "--from-literal=colour=green"]);
    cluster.ok(&["create", "secret", "generic", "password", "--from-literal=p=w"]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: {WEB_1}
    args: [\"until [ -e /stop ]; do sleep 0.2; done\"]
    volumeMounts: [{{name: s, mountPath: /s}}, {{name: w, mountPath: /w}}]
  volumes: [{{name: s, configMap: {{name: settings}}}}, {{name: w, secret: {{secretName: password}}}}]
"
    ));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=120s"]);
    cluster.ok(&["delete", "configmap/settings", "secret/password"]);
    let count = [
        "get",
        "pod",
        "p",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].ready}",
    ];
    cluster.ok(&["exec", "p", "--", "touch", "/stop"]);
    cluster.wait_for("1true", &count);
    assert_eq!(cluster.ok(&["exec", "p", "--", "cat", "/s/colour", "/w/p"]), "greenw");
    eventually("it is said that they cannot be refreshed", || {
        let events = cluster.events();
        let why = "FailedMount: MountVolume.SetUp failed for volume \"s\" : configmap \"settings\" not found";
        if events.contains(why) { Ok(()) } else { Err(events) }
    });
    // The next process knows it, too.
    cluster.kill();
    cluster.start();
    cluster.ok(&["exec", "p", "--", "touch", "/stop"]);
    cluster.wait_for("2true", &count);
}
