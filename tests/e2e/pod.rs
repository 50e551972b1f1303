//! A pod gets what it asks for: volumes, environment, identity, limits, hooks.

use crate::support::TestCluster;
use crate::support::images::WEB_1;

#[test]
fn a_pod_gets_what_it_asks_for() {
    let cluster = TestCluster::node();
    cluster.ok(&["create", "configmap", "settings", "--from-literal=colour=green"]);
    cluster.ok(&["create", "secret", "generic", "password", "--from-literal=word=hush"]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p, labels: {{app: p}}}}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {{runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000}}
  initContainers:
  - {{name: first, image: {WEB_1}, args: [\"echo prepared > /scratch/from-init\"],
      volumeMounts: [{{name: scratch, mountPath: /scratch}}]}}
  containers:
  - name: main
    image: {WEB_1}
    args: [\"trap 'echo bye > /dev/termination-log; exit 3' TERM; while true; do sleep 0.1; done\"]
    env:
    - {{name: COLOUR, valueFrom: {{configMapKeyRef: {{name: settings, key: colour}}}}}}
    - {{name: WORD, valueFrom: {{secretKeyRef: {{name: password, key: word}}}}}}
    - {{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: limits.cpu, divisor: 1m}}}}}}
    - {{name: BOTH, value: $(COLOUR)-$(WORD)}}
    - {{name: \"odd name.\", value: odd}}
    envFrom: [{{prefix: p-, configMapRef: {{name: settings}}}}]
    resources: {{limits: {{cpu: 500m, memory: 64Mi}}}}
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts:
    - {{name: scratch, mountPath: /scratch}}
    - {{name: memory, mountPath: /memory}}
    - {{name: settings, mountPath: /settings}}
    - {{name: about, mountPath: /about}}
  volumes:
  - {{name: scratch, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: about, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
"
    ));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    let sh = |script: &str| cluster.ok(&["exec", "p", "-c", "main", "--", "sh", "-c", script]).trim().to_owned();
    let ip = cluster.ok(&["get", "pod", "p", "-o", "jsonpath={.status.podIP}"]);
    assert_eq!(sh("echo $BOTH $IP $CPU"), format!("green-hush {ip} 500"));
    // Any printable name is one. Some shells do not pass such names on, so none is asked.
    let environment = cluster.ok(&["exec", "p", "-c", "main", "--", "env"]);
    for variable in ["odd name.=odd", "p-colour=green"] {
        assert!(environment.lines().any(|line| line == variable), "{variable}: {environment}");
    }
    assert_eq!(sh("cat /scratch/from-init /settings/colour"), "prepared\ngreen");
    assert_eq!(sh("cat /about/labels"), "app=\"p\"");
    assert_eq!(sh("id -u; id -g"), "1000\n2000");
    assert!(sh("id -G").split(' ').any(|g| g == "3000"), "the volumes' group is one of the process's");
    assert!(sh("mount | grep ' /memory '").contains("tmpfs"));
    assert_eq!(sh("touch /x 2>/dev/null || echo read-only"), "read-only");
    assert!(sh("cat /var/run/secrets/kubernetes.io/serviceaccount/token").split('.').count() == 3);
    assert_eq!(cluster.ok(&["get", "pod", "p", "-o", "jsonpath={.status.qosClass}"]), "Burstable");
    // What is changed in the config map reaches the volume.
    cluster.ok(&["patch", "configmap", "settings", "-p", "{\"data\":{\"colour\":\"blue\"}}"]);
    cluster.wait_for("blue", &["exec", "p", "-c", "main", "--", "cat", "/settings/colour"]);
}

#[test]
fn a_finished_pod_tells_how_it_ended() {
    let cluster = TestCluster::node();
    let image = format!("--image={WEB_1}");
    cluster.ok(&["run", "good", &image, "--restart=Never", "--", "echo done"]);
    cluster.ok(&["run", "bad", &image, "--restart=Never", "--", "echo broken > /dev/termination-log; exit 4"]);
    cluster.wait_for("Succeeded", &["get", "pod", "good", "-o", "jsonpath={.status.phase}"]);
    cluster.wait_for("Failed", &["get", "pod", "bad", "-o", "jsonpath={.status.phase}"]);
    let ended = cluster.json(&["pod", "bad"])["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!(
        (&ended["exitCode"], &ended["message"], &ended["reason"]),
        (&4.into(), &"broken\n".into(), &"Error".into())
    );
    assert_eq!(cluster.ok(&["logs", "good"]).trim(), "done");
    let table = cluster.ok(&["get", "pods"]);
    assert!(table.contains("Completed") && table.contains("Error"), "{table}");
}
