//! kubectl's commands against the control plane.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::TestCluster;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: kedge.test/web:1, ports: [{containerPort: 8080}]}
";

#[test]
fn objects_are_made_changed_and_shown() {
    let cluster = TestCluster::control_plane();
    cluster.apply(DEPLOYMENT);
    cluster.ok(&["label", "deployment", "web", "tier=front"]);
    cluster.ok(&["annotate", "deployment", "web", "note=yes"]);
    cluster.ok(&["set", "image", "deployment/web", "web=kedge.test/web:2"]);
    cluster.ok(&["scale", "deployment", "web", "--replicas=5"]);
    let web = cluster.json(&["deployment", "web"]);
    assert_eq!(web["metadata"]["labels"]["tier"], "front");
    assert_eq!(web["spec"]["replicas"], 5);
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "kedge.test/web:2");
    // Applying again brings back what the manifest says, and keeps what it does not mention.
    cluster.apply(DEPLOYMENT);
    let web = cluster.json(&["deployment", "web"]);
    assert_eq!(web["spec"]["replicas"], 2);
    assert_eq!(web["metadata"]["labels"]["tier"], "front");
    assert!(cluster.ok(&["describe", "deployment", "web"]).contains("kedge.test/web:1"));
    cluster.ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    let table = cluster.ok(&["get", "service", "web"]);
    assert!(table.starts_with("NAME") && table.contains("CLUSTER-IP") && table.contains("80/TCP"), "{table}");
    cluster.ok(&["delete", "deployment,service", "web"]);
    cluster.fails(&["get", "deployment", "web"]);
}

/// The list says what its items are; kubectl puts it into each of them for its readers.
#[test]
fn items_of_a_list_do_not_repeat_what_they_are() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "one", "--from-literal=kind=sort"]);
    cluster.ok(&["create", "deployment", "web", "--image=kedge.test/web:1"]);
    for path in ["/api/v1/namespaces/default/configmaps", "/apis/apps/v1/deployments", "/apis/events.k8s.io/v1/events"]
    {
        let raw: serde_json::Value = serde_json::from_str(&cluster.ok(&["get", "--raw", path])).unwrap();
        assert!(raw["kind"].as_str().unwrap().ends_with("List"), "{raw}");
        for item in raw["items"].as_array().unwrap() {
            assert!(item.get("kind").is_none() && item.get("apiVersion").is_none(), "{path}: {item}");
            assert!(item["metadata"]["resourceVersion"].is_string(), "{path}: {item}");
        }
    }
    let one = cluster.json(&["configmap"])["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["metadata"]["name"] == "one")
        .cloned();
    let one = one.unwrap();
    assert_eq!((&one["kind"], &one["apiVersion"]), (&"ConfigMap".into(), &"v1".into()));
    assert_eq!(one["data"]["kind"], "sort");
}

/// They are stored nowhere, and shown as everything else is.
#[test]
fn the_parts_of_the_control_plane_are_listed() {
    let cluster = TestCluster::control_plane();
    for args in [&["get", "componentstatuses"][..], &["get", "componentstatuses", "scheduler"]] {
        let table = cluster.ok(args);
        let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["NAME", "STATUS", "MESSAGE", "ERROR"], "{table}");
        assert!(table.lines().any(|line| line.starts_with("scheduler") && line.contains("Healthy")), "{table}");
    }
    let raw: serde_json::Value =
        serde_json::from_str(&cluster.ok(&["get", "--raw", "/api/v1/componentstatuses"])).unwrap();
    assert_eq!((&raw["kind"], &raw["metadata"]), (&"ComponentStatusList".into(), &serde_json::json!({})));
    assert!(raw["items"].as_array().unwrap().iter().all(|item| item.get("kind").is_none()), "{raw}");
}

/// The range of service addresses is an object that says it is ready, as tests and operators look for it.
#[test]
fn the_range_of_services_is_an_object() {
    let cluster = TestCluster::control_plane();
    let ready = "jsonpath={.spec.cidrs} {.status.conditions[?(@.type=='Ready')].status}";
    assert_eq!(cluster.ok(&["get", "servicecidr", "kubernetes", "-o", ready]), "[\"10.43.0.0/16\"] True");
}

/// A class that never preempts says so in every table.
#[test]
fn priority_classes_show_whether_they_preempt() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "priorityclass", "patient", "--value=5", "--preemption-policy=Never"]);
    let table = cluster.ok(&["get", "priorityclass", "patient"]);
    assert!(table.contains("PREEMPTIONPOLICY") && table.contains("Never"), "{table}");
}

/// A certificate is named, as upstream names it, wherever its user is.
#[test]
fn whoami_names_the_certificate() {
    let cluster = TestCluster::control_plane();
    let who = cluster.ok(&["auth", "whoami"]);
    assert!(who.contains("authentication.kubernetes.io/credential-id") && who.contains("[X509SHA256="), "{who}");
}

/// kubectl validates lists by a document of its own, which it wants in protobuf.
#[test]
fn a_list_is_created_object_by_object() {
    let cluster = TestCluster::control_plane();
    let item = |name: &str| format!("- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}\n");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item("one"), item("two"));
    let path = cluster.file("list.yaml", &list);
    cluster.ok(&["create", "-f", &path.to_string_lossy()]);
    cluster.ok(&["get", "configmap", "one", "two"]);
}

#[test]
fn edit_writes_what_the_editor_leaves() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "c", "--from-literal=a=before"]);
    let editor = cluster.file("editor.sh", "#!/bin/sh\nsed -i s/before/after/ \"$1\"\n");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = cluster.kubectl_command(&["edit", "configmap", "c"]).env("KUBE_EDITOR", &editor).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(cluster.json(&["configmap", "c"])["data"]["a"], "after");
}

#[test]
fn the_api_describes_itself() {
    let cluster = TestCluster::control_plane();
    let resources = cluster.ok(&["api-resources"]);
    for kind in ["deployments", "pods", "clusterroles", "horizontalpodautoscalers"] {
        assert!(resources.contains(kind), "{kind}");
    }
    let explained = cluster.ok(&["explain", "pods.spec.containers"]);
    assert!(explained.contains("imagePullPolicy") && explained.contains("FIELD: containers"), "{explained}");
    assert!(cluster.ok(&["explain", "deployments.spec.strategy"]).contains("rollingUpdate"));
    assert_eq!(cluster.ok(&["auth", "can-i", "create", "pods"]).trim(), "yes");
    let denied = cluster.kubectl(&["auth", "can-i", "create", "pods", "--as", "somebody"]);
    assert_eq!(String::from_utf8_lossy(&denied.stdout).trim(), "no");
}

#[test]
fn lists_are_paged_selected_and_watched() {
    let cluster = TestCluster::control_plane();
    for i in 0..7 {
        cluster.ok(&["create", "configmap", &format!("c{i}"), "--from-literal=a=b"]);
        if i % 2 == 0 {
            cluster.ok(&["label", "configmap", &format!("c{i}"), "even=yes"]);
        }
    }
    let even = cluster.ok(&["get", "configmaps", "-l", "even=yes", "-o", "name", "--chunk-size=2"]);
    assert_eq!(even.lines().count(), 4, "{even}");
    let one = cluster.ok(&["get", "configmaps", "--field-selector", "metadata.name=c3", "-o", "name"]);
    assert_eq!(one.trim(), "configmap/c3");
    let refused = cluster.fails(&["get", "configmaps", "--field-selector", "data.a=b"]);
    assert!(refused.contains("\"data.a\" is not a known field selector"), "{refused}");
    cluster.ok(&["delete", "configmap", "c0", "--wait=true"]);
    cluster.ok(&["wait", "--for=delete", "configmap/c0", "--timeout=10s"]);
    cluster.ok(&["wait", "--for=jsonpath={.data.a}=b", "configmap/c1", "--timeout=10s"]);
}
