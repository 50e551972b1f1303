//! Workloads that are scaled by what is measured of them, and settings of the controllers that do it.

use serde_json::{Value, json};

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

const QUICK: [&str; 4] = [
    "--kube-controller-manager-arg",
    "horizontal-pod-autoscaler-sync-period=1s",
    "--kube-controller-manager-arg",
    "horizontal-pod-autoscaler-downscale-stabilization=5s",
];

fn conditions(cluster: &TestCluster, name: &str) -> Vec<String> {
    let object = cluster.json(&["hpa", name]);
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|c| format!("{}={} {}", text(&c["type"]), text(&c["status"]), text(&c["reason"]))).collect()
}

fn events(cluster: &TestCluster, name: &str) -> String {
    let field = format!("involvedObject.name={name},involvedObject.kind=HorizontalPodAutoscaler");
    cluster.ok(&[
        "get",
        "events",
        "--field-selector",
        &field,
        "-o",
        r#"jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}"#,
    ])
}

/// Whatever has a scale is scaled, and what is wrong is said where `kubectl describe` shows it.
#[test]
fn anything_with_a_scale_is_scaled() {
    let cluster = TestCluster::control_plane_with(&QUICK);
    cluster.apply(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: farms.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: farms, kind: Farm}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size, labelSelectorPath: .status.selector}
",
    );
    cluster.ok(&["wait", "--for=condition=Established", "crd/farms.example.com", "--timeout=60s"]);
    let autoscaler = |name: &str| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": {"scaleTargetRef": {"apiVersion": "example.com/v1", "kind": "Farm", "name": name}, "minReplicas": 3, "maxReplicas": 6}})
        .to_string()
    };
    cluster.apply(&autoscaler("small"));
    eventually("the lack of what is to be scaled", || {
        let said = events(&cluster, "small");
        if said.contains("FailedGetScale: farms.example.com \"small\" not found") { Ok(()) } else { Err(said) }
    });
    assert_eq!(conditions(&cluster, "small"), ["AbleToScale=False FailedGetScale"]);
    cluster.apply("{apiVersion: example.com/v1, kind: Farm, metadata: {name: small}, spec: {size: 1}}");
    cluster.wait_for("3", &["get", "farm", "small", "-o", "jsonpath={.spec.size}"]);
    eventually("what was done", || {
        let said = events(&cluster, "small");
        let wanted = "SuccessfulRescale: New size: 3; reason: Current number of replicas below Spec.MinReplicas";
        if said.contains(wanted) { Ok(()) } else { Err(said) }
    });
    cluster.ok(&["patch", "farm", "small", "--type=merge", "-p", "{\"spec\":{\"size\":50}}"]);
    cluster.wait_for("6", &["get", "farm", "small", "-o", "jsonpath={.spec.size}"]);
    eventually("that its pods cannot be told", || {
        let said = conditions(&cluster, "small");
        let wanted = ["AbleToScale=True SucceededGetScale", "ScalingActive=False InvalidSelector"];
        if said == wanted { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let shown = cluster.ok(&["get", "hpa", "small", "--no-headers"]);
    let shown: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(shown[..2], ["small", "Farm/small"], "{shown:?}");
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    for wanted in [
        "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers 1",
        "horizontal_pod_autoscaler_controller_reconciliations_total{action=\"scale_up\",error=\"none\"} 1",
        "horizontal_pod_autoscaler_controller_reconciliations_total{action=\"scale_down\",error=\"none\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted}");
    }
}

/// Pods that burn what they may make more of them, and fewer when they rest.
#[test]
fn pods_that_are_busy_become_more() {
    let cluster = TestCluster::node_with(&QUICK);
    cluster.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: busy}}
spec:
  selector: {{matchLabels: {{app: busy}}}}
  template:
    metadata: {{labels: {{app: busy}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: burns, image: {WEB_1}, args: [\"while [ ! -e /rest ]; do :; done; while true; do sleep 1; done\"],
          resources: {{requests: {{cpu: 20m}}, limits: {{cpu: 100m}}}}}}
"
    ));
    cluster.ok(&["rollout", "status", "deployment/busy", "--timeout=120s"]);
    cluster.ok(&["autoscale", "deployment", "busy", "--cpu=100%", "--min=1", "--max=2"]);
    cluster.wait_for("2", &["get", "deployment", "busy", "-o", "jsonpath={.spec.replicas}"]);
    eventually("what was done", || {
        let said = events(&cluster, "busy");
        let wanted =
            "SuccessfulRescale: New size: 2; reason: cpu resource utilization (percentage of request) above target";
        if said.contains(wanted) { Ok(()) } else { Err(said) }
    });
    assert!(conditions(&cluster, "busy").contains(&"ScalingActive=True ValidMetricFound".to_owned()));
    cluster.ok(&["rollout", "status", "deployment/busy", "--timeout=120s"]);
    let pods = cluster.ok(&["get", "pods", "-l", "app=busy", "-o", "jsonpath={.items[*].metadata.name}"]);
    for pod in pods.split_whitespace() {
        cluster.ok(&["exec", pod, "--", "touch", "/rest"]);
    }
    cluster.wait_for("1", &["get", "deployment", "busy", "-o", "jsonpath={.spec.replicas}"]);
}

/// Controllers are turned off by upstream's names, and a name that is none is refused in its words.
#[test]
fn controllers_are_turned_off_by_name() {
    let refused = TestCluster::refused(&["--kube-controller-manager-arg", "controllers=*,-red-controller"]);
    assert!(refused.contains("\"red-controller\" is not in the list of known controllers"), "{refused}");
    let refused = TestCluster::refused(&["--kube-controller-manager-arg", "pod-eviction-timeout=5m"]);
    assert!(refused.contains("unknown flag: --pod-eviction-timeout"), "{refused}");
    let off = "controllers=*,-deployment,-serviceaccount-controller";
    let cluster = TestCluster::control_plane_with(&["--kube-controller-manager-arg", off]);
    cluster.ok(&["create", "deployment", "idle", "--image=kedge.test/x:1"]);
    cluster.ok(&["create", "namespace", "bare"]);
    cluster.apply(
        "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: works}
spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: kedge.test/x:1}]}}}
",
    );
    // That one works shows that the others had their time.
    cluster
        .wait_for("kube-root-ca.crt", &["-n", "bare", "get", "configmap", "-o", "jsonpath={.items[*].metadata.name}"]);
    eventually("what the controller says of the pod", || {
        let said = cluster.ok(&["get", "replicaset", "works", "-o", "jsonpath={.status.observedGeneration}"]);
        if said == "1" { Ok(()) } else { Err(said) }
    });
    assert_eq!(cluster.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.name}"]), "works");
    assert_eq!(cluster.ok(&["-n", "bare", "get", "serviceaccounts", "-o", "name"]), "");
}
