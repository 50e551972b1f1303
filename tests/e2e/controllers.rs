//! What controllers say and do, as far as it takes no node.

use crate::support::{TestCluster, eventually};

/// A schedule without any time was accepted and nothing was ever said about it.
#[test]
fn a_schedule_that_never_comes_is_said() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "cronjob", "never", "--image=kedge.test/x:1", "--schedule=59 23 31 2 *"]);
    let of_never = ["get", "events", "--field-selector", "involvedObject.name=never", "-o"];
    cluster.wait_for("InvalidSchedule", &[&of_never[..], &["jsonpath={.items[*].reason}"]].concat());
    let said = cluster.ok(&[&of_never[..], &["jsonpath={.items[*].message}"]].concat());
    assert_eq!(said, "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second");
}

/// What the controller notes on a deployment counted as a change of what is wanted, so that a new one was of its second generation at once: who waited
/// for the first to be observed waited in vain.
#[test]
fn a_deployment_that_nobody_changes_stays_of_its_first_generation() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "deployment", "first", "--image=kedge.test/x:1"]);
    let state = r"jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision} {.metadata.generation} {.status.observedGeneration} {.status.replicas}";
    let get = ["get", "deployment", "first", "-o", state];
    cluster.wait_for("1 1 1 1", &get);
    cluster.ok(&["set", "image", "deployment/first", "*=kedge.test/x:2"]);
    cluster.wait_for("2 2 2 2", &get);
}

/// Once a deleted one stayed away until the next start, and with it the heartbeats of all nodes.
#[test]
fn a_namespace_of_the_system_comes_back() {
    let cluster = TestCluster::control_plane();
    let uid = ["get", "namespace", "kube-node-lease", "-o", "jsonpath={.metadata.uid}"];
    let before = cluster.ok(&uid);
    cluster.ok(&["delete", "namespace", "kube-node-lease"]);
    eventually("another kube-node-lease", || {
        let out = cluster.kubectl(&uid);
        let now = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() && !now.is_empty() && now != before { Ok(()) } else { Err(format!("{out:?}")) }
    });
    for immortal in ["default", "kube-system", "kube-public"] {
        let said = cluster.fails(&["delete", "namespace", immortal]);
        assert!(said.contains("this namespace may not be deleted"), "{said}");
    }
}

#[test]
fn a_node_is_told_how_long_it_may_keep_secrets() {
    let cluster = TestCluster::control_plane();
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n");
    let annotation = r"jsonpath={.metadata.annotations.node\.alpha\.kubernetes\.io/ttl}";
    cluster.wait_for("0", &["get", "node", "node-1", "-o", annotation]);
    cluster.ok(&["annotate", "--overwrite", "node", "node-1", "node.alpha.kubernetes.io/ttl=7"]);
    cluster.wait_for("0", &["get", "node", "node-1", "-o", annotation]);
}

#[test]
fn extension_servers_find_what_they_trust() {
    let cluster = TestCluster::control_plane();
    let map = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let reader = ["auth", "can-i", "get", "configmap/extension-apiserver-authentication", "-n", "kube-system"];
    let names =
        [&["get"], &map[..], &["--ignore-not-found", "-o", r"jsonpath={.data.requestheader-allowed-names}"]].concat();
    cluster.wait_for(r#"["system:auth-proxy"]"#, &names);
    let data = cluster.json(&map)["data"].clone();
    let file = |name: &str| std::fs::read_to_string(cluster.data_dir().join("server/tls").join(name)).unwrap();
    assert_eq!(data["client-ca-file"], file("client-ca.crt"));
    assert_eq!(data["requestheader-client-ca-file"], file("request-header-ca.crt"));
    assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    cluster.ok(&[&["delete"], &map[..]].concat());
    cluster.wait_for(r#"["system:auth-proxy"]"#, &names);
    let binding =
        ["create", "rolebinding", "-n", "kube-system", "metrics", "--role=extension-apiserver-authentication-reader"];
    cluster.ok(&[&binding[..], &["--serviceaccount=kube-system:metrics"]].concat());
    cluster.wait_for("yes", &[&reader[..], &["--as=system:serviceaccount:kube-system:metrics"]].concat());
}

/// A claim of devices is made for a pod, published in its status, and goes when the pod has ended, though the pod stays.
#[test]
fn claims_of_devices_come_and_go_with_their_pods() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
    cluster.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  nodeName: nowhere
  terminationGracePeriodSeconds: 0
  resourceClaims: [{name: gpu, resourceClaimTemplateName: t}]
  containers: [{name: c, image: kedge.test/x:1, resources: {claims: [{name: gpu}]}}]
",
    );
    let of_pod = ["get", "events", "--field-selector", "involvedObject.name=p", "-o", "jsonpath={.items[*].reason}"];
    eventually("that the template is missing", || {
        let said = cluster.ok(&of_pod);
        if said.contains("FailedResourceClaimCreation") { Ok(()) } else { Err(said) }
    });
    cluster.apply(
        "
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: t}
spec: {metadata: {labels: {made: here}}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: none}}]}}}
",
    );
    let name = eventually("the name of the claim", || {
        let name =
            cluster.ok(&["get", "pod", "p", "-o", "jsonpath={.status.resourceClaimStatuses[0].resourceClaimName}"]);
        if name.starts_with("p-gpu-") { Ok(name) } else { Err(name) }
    });
    assert_eq!(
        cluster.ok(&["get", "resourceclaims", "-l", "made=here", "-o", "jsonpath={.items[*].metadata.name}"]),
        name
    );
    let end = ["patch", "pod", "p", "--subresource=status", "-p", "{\"status\":{\"phase\":\"Succeeded\"}}"];
    cluster.ok(&end);
    cluster.wait_for("", &["get", "resourceclaims", "-o", "name"]);
    cluster.ok(&["get", "pod", "p"]);
}

/// A budget counts what a custom resource wants, and says when that cannot be known.
#[test]
fn a_budget_counts_whatever_has_a_scale() {
    let cluster = TestCluster::control_plane();
    cluster.wait_for_account();
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
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}},
    subresources: {scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}}
",
    );
    cluster.ok(&["wait", "--for=condition=Established", "crd/farms.example.com", "--timeout=60s"]);
    eventually("a farm", || {
        let farm =
            cluster.file("farm.yaml", "{apiVersion: example.com/v1, kind: Farm, metadata: {name: f}, spec: {size: 4}}");
        let out = cluster.kubectl(&["apply", "-f", farm.to_str().unwrap()]);
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    });
    let uid = cluster.ok(&["get", "farm", "f", "-o", "jsonpath={.metadata.uid}"]);
    cluster.ok(&["create", "pdb", "b", "--selector=app=farm", "--max-unavailable=50%"]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {{app: farm}}
  ownerReferences: [{{apiVersion: example.com/v1, kind: Farm, name: f, uid: {uid}, controller: true}}]
spec: {{containers: [{{name: c, image: kedge.test/x:1}}]}}
"
    ));
    let status = "jsonpath={.status.expectedPods} {.status.desiredHealthy} {.status.conditions[0].reason}";
    cluster.wait_for("4 2 InsufficientPods", &["get", "pdb", "b", "-o", status]);
    cluster.ok(&["delete", "farm", "f", "--cascade=orphan"]);
    cluster.wait_for("", &["get", "pod", "p", "-o", "jsonpath={.metadata.ownerReferences}"]);
    cluster.ok(&["label", "pod", "p", "again=yes"]);
    let of_budget = ["get", "events", "--field-selector", "involvedObject.name=b", "-o", "jsonpath={.items[*].reason}"];
    eventually("that the pod is nobody's", || {
        let said = cluster.ok(&of_budget);
        if said.contains("UnmanagedPods") { Ok(()) } else { Err(said) }
    });
}
