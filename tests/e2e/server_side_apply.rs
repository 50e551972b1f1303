//! `kubectl apply --server-side`, and the way there from client-side apply and back.

use serde_json::Value;

use crate::support::TestCluster;

fn manifest(replicas: u32, image: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - {{name: web, image: \"{image}\"}}
"
    )
}

/// The deployment with the owners of its fields, and how they are called.
fn shown(cluster: &TestCluster) -> (Value, Vec<String>) {
    let text = cluster.ok(&["get", "deployment", "web", "-o", "json", "--show-managed-fields"]);
    let object: Value = serde_json::from_str(&text).unwrap();
    let name = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("manager"), text("operation"))
    };
    let own = |entry: &&Value| entry["subresource"].is_null() && entry["manager"] != "kube-controller-manager";
    let names = object["metadata"]["managedFields"].as_array().unwrap().iter().filter(own).map(name).collect();
    (object, names)
}

#[test]
fn managers_share_an_object_and_take_from_each_other_by_force() {
    let cluster = TestCluster::control_plane();
    let file = cluster.file("web.yaml", &manifest(0, "kedge.test/web:1"));
    let file = file.to_str().unwrap();
    let said = cluster.ok(&["apply", "--server-side", "-f", file]);
    assert_eq!(said.trim(), "deployment.apps/web serverside-applied");
    let (first, names) = shown(&cluster);
    assert_eq!(names, ["kubectl/Apply"]);
    let labels = &first["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app"], "web");
    // Hidden unless they are asked for.
    assert!(cluster.json(&["deployment", "web"])["metadata"].get("managedFields").is_none());
    let other = cluster.file("other.yaml", &manifest(0, "kedge.test/web:2"));
    let other = other.to_str().unwrap();
    let refused = cluster.fails(&["apply", "--server-side", "--field-manager=other", "-f", other]);
    assert!(
        refused.contains(
            "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.template.spec.containers[name=\"web\"].image"
        ),
        "{refused}"
    );
    assert!(refused.contains("--force-conflicts"), "{refused}");
    cluster.ok(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", other]);
    let (forced, mut names) = shown(&cluster);
    names.sort();
    assert_eq!(names, ["kubectl/Apply", "other/Apply"]);
    assert_eq!(forced["spec"]["template"]["spec"]["containers"][0]["image"], "kedge.test/web:2");
    assert!(cluster.fails(&["apply", "--server-side", "-f", file]).contains("conflict with \"other\""));
    // Whoever changes something in another way owns it, and says so under its own name.
    cluster.ok(&["scale", "deployment", "web", "--replicas=1"]);
    let refused = cluster.fails(&["apply", "--server-side", "--field-manager=other", "-f", other]);
    assert!(
        refused.contains("conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"),
        "{refused}"
    );
}

/// A second apply of the same writes nothing, whichever side it is applied on.
#[test]
fn applying_the_same_again_writes_nothing() {
    let cluster = TestCluster::control_plane();
    let map = cluster.file("map.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: \"1\"}}");
    let map = map.to_str().unwrap();
    let version = || cluster.json(&["configmap", "m"])["metadata"]["resourceVersion"].clone();
    cluster.ok(&["apply", "--server-side", "-f", map]);
    let first = version();
    cluster.ok(&["apply", "--server-side", "-f", map]);
    assert_eq!(version(), first);
    cluster.ok(&["delete", "configmap", "m"]);
    cluster.ok(&["apply", "-f", map]);
    let first = version();
    assert_eq!(cluster.ok(&["apply", "-f", map]).trim(), "configmap/m unchanged");
    assert_eq!(version(), first);
}

#[test]
fn an_object_moves_from_client_side_apply_to_the_server_and_back() {
    let cluster = TestCluster::control_plane();
    let one = cluster.file("one.yaml", &manifest(0, "kedge.test/web:1"));
    let two = cluster.file("two.yaml", &manifest(0, "kedge.test/web:2"));
    let three = cluster.file("three.yaml", &manifest(0, "kedge.test/web:3"));
    let (one, two, three) = (one.to_str().unwrap(), two.to_str().unwrap(), three.to_str().unwrap());
    cluster.ok(&["apply", "-f", one]);
    assert_eq!(shown(&cluster).1, ["kubectl-client-side-apply/Update"]);
    cluster.ok(&["apply", "--server-side", "-f", two]);
    let (object, mut names) = shown(&cluster);
    names.sort();
    // kubectl keeps the annotation under a name of its own.
    assert_eq!(
        names,
        ["kubectl-last-applied/Apply", "kubectl/Apply"],
        "client-side apply has handed over what it owned"
    );
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "kedge.test/web:2");
    let annotation = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(annotation.as_str().unwrap().contains("kedge.test/web:2"), "{annotation}");
    cluster.ok(&["apply", "-f", three]);
    let (object, _) = shown(&cluster);
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "kedge.test/web:3");
    assert_eq!(cluster.ok(&["apply", "-f", three]).trim(), "deployment.apps/web unchanged");
}

/// Components are known by upstream's names.
#[test]
fn controllers_own_what_they_write() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "deployment", "web", "--image=kedge.test/web:1"]);
    cluster.wait_for("web", &["get", "replicasets", "-o", "jsonpath={.items[*].metadata.labels.app}"]);
    let text = cluster.ok(&["get", "replicasets", "-o", "json", "--show-managed-fields"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let entries = list["items"][0]["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["manager"] == "kube-controller-manager"), "{entries:?}");
    let (_, names) = shown(&cluster);
    assert_eq!(names, ["kubectl-create/Update"]);
}
