//! Volumes of a storage driver (CSI): made for claims, attached, mounted, had as devices, made larger and given back.

use crate::support::driver::{Driver, NAME};
use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

fn driver(cluster: &TestCluster, spec: &str) -> Driver {
    let driver = Driver::start(&cluster.data_dir().join("agent/kubelet"), &cluster.kubeconfig());
    cluster.apply(&format!(
        "
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {NAME}}}
spec: {spec}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: test}}
provisioner: {NAME}
allowVolumeExpansion: true
volumeBindingMode: WaitForFirstConsumer
"
    ));
    eventually("the driver is registered", || match driver.registered() {
        Some(true) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    driver
}

fn claim(name: &str, mode: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{storageClassName: test, volumeMode: {mode}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 4Mi}}}}}}
---"
    )
}

fn pod(name: &str, more: &str, volumes: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 4321}}
  containers:
  - name: c
    image: {WEB_1}
    args: [\"until [ -e /stop ]; do sleep 0.2; done\"]
    {more}
  volumes: {volumes}
---"
    )
}

fn ready(cluster: &TestCluster, name: &str) {
    cluster.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=180s"]);
}

#[test]
fn volumes_of_a_driver_live_as_long_as_their_claims() {
    let mut cluster = TestCluster::node();
    let driver = driver(&cluster, "{fsGroupPolicy: File}");
    let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let noted = cluster.json(&["csinode", &node]);
    assert_eq!(noted["spec"]["drivers"][0]["nodeID"], "id-of-the-node");
    assert_eq!(noted["spec"]["drivers"][0]["allocatable"]["count"], 7);
    assert_eq!(cluster.json(&["node", &node])["metadata"]["labels"]["topology.csi.kedge.test/node"], "here");
    let files = "[{name: f, persistentVolumeClaim: {claimName: files}}]";
    let both =
        "[{name: f, persistentVolumeClaim: {claimName: files}}, {name: d, persistentVolumeClaim: {claimName: disk}}]";
    let mount = "volumeMounts: [{name: f, mountPath: /data}]";
    let devices = format!("{mount}\n    volumeDevices: [{{name: d, devicePath: /dev/disk}}]");
    cluster.apply(&[claim("files", "Filesystem"), claim("disk", "Block"), pod("a", &devices, both)].concat());
    ready(&cluster, "a");
    cluster.ok(&["exec", "a", "--", "sh", "-c", "echo kept > /data/f; echo raw > /dev/disk; sync"]);
    assert_eq!(cluster.ok(&["exec", "a", "--", "stat", "-c", "%g %a", "/data"]).trim(), "4321 2775");
    // The controller had it attached first, and the driver is told where.
    let asked = driver.asked();
    assert_eq!(asked.iter().find(|asked| asked.call == "stage").unwrap().context["slot"], "3");
    let in_use = cluster.ok(&["get", "node", &node, "-o", "jsonpath={.status.volumesInUse}{.status.volumesAttached}"]);
    assert_eq!(in_use.matches(&format!("kubernetes.io/csi/{NAME}^pvc-")).count(), 4, "{in_use}");
    // Another pod of the node shares it: it is staged once, and unstaged when both are gone.
    cluster.apply(&pod("b", mount, files));
    ready(&cluster, "b");
    assert_eq!((driver.count("stage"), driver.count("publish")), (2, 3));
    cluster.ok(&["exec", "b", "--", "sh", "-c", "touch /data/private; chmod 600 /data/private"]);
    // A container is started again, and the server, without the driver: nothing is asked.
    cluster.kill();
    driver.fail("publish", Some("on purpose"));
    driver.fail("stage", Some("on purpose"));
    cluster.start();
    cluster.ok(&["exec", "b", "--", "touch", "/stop"]);
    let restarts = [
        "get",
        "pod",
        "b",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].ready}",
    ];
    cluster.wait_for("1true", &restarts);
    assert_eq!(cluster.ok(&["exec", "b", "--", "cat", "/data/f"]), "kept\n");
    let told = [
        "FailedMount: MountVolume.MountDevice failed for volume \"pvc-",
        "FailedMapVolume: MapVolume.SetUpDevice failed for volume \"pvc-",
        "rpc error: code = Internal desc = on purpose",
    ];
    eventually("it is told which volumes cannot be refreshed", || {
        let events = cluster.events();
        if told.iter().all(|words| events.contains(words)) { Ok(()) } else { Err(events) }
    });
    driver.fail("publish", None);
    driver.fail("stage", None);
    // It grows while it is used.
    let larger = r#"{"spec":{"resources":{"requests":{"storage":"8Mi"}}}}"#;
    cluster.ok(&["patch", "pvc", "files", "-p", larger]);
    cluster.wait_for("8Mi", &["get", "pvc", "files", "-o", "jsonpath={.status.capacity.storage}"]);
    assert_eq!(
        driver.asked().iter().find(|asked| asked.call == "expand").unwrap().context["bytes"],
        (8 << 20).to_string()
    );
    assert_eq!(cluster.ok(&["get", "pvc", "files", "-o", "jsonpath={.status.conditions}"]), "");
    let mode = cluster.ok(&["exec", "b", "--", "stat", "-c", "%a", "/data/private"]);
    assert_eq!(mode.trim(), "600", "what a pod has changed since it was given the volume stays");
    // One goes, the other has it still.
    let unstaged = driver.count("unstage");
    cluster.ok(&["delete", "pod", "a", "--timeout=120s"]);
    assert_eq!(driver.count("unstage"), unstaged + 1, "the device");
    assert_eq!(cluster.ok(&["exec", "b", "--", "cat", "/data/f"]), "kept\n");
    cluster.ok(&["delete", "pod", "b", "--timeout=120s"]);
    assert_eq!(driver.count("unstage"), unstaged + 2);
    assert!(driver.left().is_empty(), "{:?}", driver.left());
    cluster.wait_for("", &["get", "volumeattachments", "-o", "name"]);
    cluster.wait_for("", &["get", "node", &node, "-o", "jsonpath={.status.volumesInUse}{.status.volumesAttached}"]);
    // What was written is there for the next pod.
    cluster.apply(&pod("c", &devices, both));
    ready(&cluster, "c");
    assert_eq!(cluster.ok(&["exec", "c", "--", "sh", "-c", "cat /data/f; head -c 4 /dev/disk"]), "kept\nraw\n");
    cluster.ok(&["delete", "pod/c", "pvc/files", "pvc/disk", "--timeout=120s"]);
    eventually("the volumes are removed", || {
        let volumes = driver.volumes();
        if volumes.is_empty() { Ok(()) } else { Err(format!("{volumes:?}")) }
    });
    assert!(driver.left().is_empty(), "{:?}", driver.left());
    // A driver that goes is struck out.
    drop(driver);
    cluster.wait_for("null", &["get", "csinode", &node, "-o", "jsonpath={.spec.drivers}"]);
}

#[test]
fn volumes_in_line_know_their_pod_and_are_asked_for_again() {
    let cluster = TestCluster::node();
    let spec = "{attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Ephemeral], requiresRepublish: true, \
                tokenRequests: [{audience: vault}]}";
    let driver = driver(&cluster, spec);
    cluster.apply(&pod(
        "p",
        "volumeMounts: [{name: v, mountPath: /v}]",
        &format!("[{{name: v, csi: {{driver: {NAME}}}}}]"),
    ));
    ready(&cluster, "p");
    let asked = driver.asked();
    let context = &asked.iter().find(|asked| asked.call == "publish").unwrap().context;
    assert_eq!(context["csi.storage.k8s.io/pod.name"], "p");
    assert_eq!(context["csi.storage.k8s.io/pod.namespace"], "default");
    assert_eq!(context["csi.storage.k8s.io/serviceAccount.name"], "default");
    assert!(cluster.ok(&["exec", "p", "--", "cat", "/v/tokens"]).contains("\"vault\":{\"expirationTimestamp\""));
    assert_eq!(driver.count("stage"), 0, "it has no life of its own");
    let before = driver.count("publish");
    cluster.ok(&["annotate", "pod", "p", "look=again"]);
    eventually("the driver is asked again", || match driver.count("publish") {
        count if count > before => Ok(()),
        count => Err(count.to_string()),
    });
    let published = driver.asked().into_iter().filter(|asked| asked.call == "publish");
    let mut tokens: Vec<_> =
        published.map(|asked| asked.context["csi.storage.k8s.io/serviceAccount.tokens"].clone()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "a token that is good is not asked for again");
    cluster.ok(&["delete", "pod", "p", "--timeout=120s"]);
    assert!(driver.volumes().is_empty() && driver.left().is_empty(), "{:?}", driver.left());
    // What the driver has not said that it can is refused.
    cluster.apply(
        &[
            claim("files", "Filesystem"),
            pod(
                "q",
                "volumeMounts: [{name: v, mountPath: /v}]",
                "[{name: v, persistentVolumeClaim: {claimName: files}}]",
            ),
        ]
        .concat(),
    );
    eventually("it is told why", || {
        let events = cluster.events();
        if events.contains("volume mode \"Persistent\" not supported by driver") { Ok(()) } else { Err(events) }
    });
}
