//! The default policy against what upstream's v1.36 has.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use kedge_auth::PolicyRule;
use serde_json::{Value, json};

use super::unfold;

fn policy() -> Vec<Value> {
    unfold(kedge_manifests::RBAC).unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Names of a kind, without those of this distribution's own; in a namespace as `namespace/name`.
fn names(policy: &[Value], kind: &str) -> BTreeSet<String> {
    let of_kind = policy.iter().filter(|o| o["kind"] == kind && !name(o).starts_with("kedge:"));
    of_kind
        .map(|o| match o["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{}", name(o)),
            None => name(o).to_owned(),
        })
        .collect()
}

fn find<'a>(policy: &'a [Value], kind: &str, wanted: &str) -> &'a Value {
    policy.iter().find(|o| o["kind"] == kind && name(o) == wanted).unwrap()
}

/// What upstream calls its controllers' accounts.
const CONTROLLERS: &str = "attachdetach-controller certificate-controller clusterrole-aggregation-controller \
    cronjob-controller daemon-set-controller deployment-controller device-taint-eviction-controller disruption-controller \
    endpoint-controller endpointslice-controller endpointslicemirroring-controller ephemeral-volume-controller \
    expand-controller generic-garbage-collector horizontal-pod-autoscaler job-controller \
    legacy-service-account-token-cleaner namespace-controller node-controller persistent-volume-binder \
    pod-garbage-collector pv-protection-controller pvc-protection-controller replicaset-controller replication-controller \
    resource-claim-controller resourcequota-controller root-ca-cert-publisher route-controller selinux-warning-controller \
    service-account-controller service-cidrs-controller service-controller statefulset-controller \
    ttl-after-finished-controller ttl-controller validatingadmissionpolicy-status-controller \
    volumeattributesclass-protection-controller";
const UNBOUND: &str = "admin edit view system:aggregate-to-admin system:aggregate-to-edit system:aggregate-to-view \
    system:auth-delegator system:certificates.k8s.io:certificatesigningrequests:nodeclient \
    system:certificates.k8s.io:certificatesigningrequests:selfnodeclient \
    system:certificates.k8s.io:kube-apiserver-client-approver \
    system:certificates.k8s.io:kube-apiserver-client-kubelet-approver \
    system:certificates.k8s.io:kubelet-serving-approver system:certificates.k8s.io:legacy-unknown-approver \
    system:heapster system:kube-aggregator system:kubelet-api-admin system:node-bootstrapper \
    system:node-problem-detector system:persistent-volume-provisioner";
const BOUND: &str = "cluster-admin system:basic-user system:discovery system:kube-controller-manager system:kube-dns \
    system:kube-scheduler system:monitoring system:node system:node-proxier system:public-info-viewer \
    system:service-account-issuer-discovery system:volume-scheduler";
const IN_NAMESPACES: &str = "kube-public/system:controller:bootstrap-signer \
    kube-system/system::leader-locking-kube-controller-manager kube-system/system::leader-locking-kube-scheduler \
    kube-system/system:controller:bootstrap-signer kube-system/system:controller:cloud-provider \
    kube-system/system:controller:token-cleaner";

#[test]
fn names_are_upstreams() {
    let policy = policy();
    let controllers = CONTROLLERS.split(' ').map(|c| format!("system:controller:{c}"));
    let bound: BTreeSet<String> = BOUND.split(' ').map(str::to_owned).chain(controllers).collect();
    assert_eq!(names(&policy, "ClusterRoleBinding"), bound);
    let all: BTreeSet<String> = bound.into_iter().chain(UNBOUND.split(' ').map(str::to_owned)).collect();
    assert_eq!(names(&policy, "ClusterRole"), all);
    assert_eq!(all.len(), 69);
    let in_namespaces =
        |more: &str| -> BTreeSet<String> { format!("{IN_NAMESPACES} {more}").split(' ').map(str::to_owned).collect() };
    let reader = "kube-system/extension-apiserver-authentication-reader";
    assert_eq!(names(&policy, "Role"), in_namespaces(reader));
    let bindings = in_namespaces("kube-system/system::extension-apiserver-authentication-reader");
    assert_eq!(names(&policy, "RoleBinding"), bindings);
}

#[test]
fn roles_are_whole_objects() {
    let policy = policy();
    let metadata = |name: &str| {
        json!({
            "name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        })
    };
    let version = "rbac.authorization.k8s.io/v1";
    let group = "rbac.authorization.k8s.io";
    let monitoring = json!({
        "apiVersion": version, "kind": "ClusterRole", "metadata": metadata("system:monitoring"),
        "rules": [
            {"verbs": ["get"], "nonResourceURLs": ["/flagz", "/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics",
                "/metrics/slis", "/readyz", "/readyz/*", "/statusz"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/metrics"]},
        ],
    });
    assert_eq!(find(&policy, "ClusterRole", "system:monitoring"), &monitoring);
    let binding = json!({
        "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata("system:public-info-viewer"),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:public-info-viewer"},
        "subjects": [
            {"apiGroup": group, "kind": "Group", "name": "system:authenticated"},
            {"apiGroup": group, "kind": "Group", "name": "system:unauthenticated"},
        ],
    });
    assert_eq!(find(&policy, "ClusterRoleBinding", "system:public-info-viewer"), &binding);
    assert!(
        find(&policy, "ClusterRoleBinding", "system:node").get("subjects").is_none(),
        "the Node authorizer decides"
    );
    let reader = find(&policy, "RoleBinding", "system::extension-apiserver-authentication-reader");
    assert_eq!(reader["roleRef"]["name"], "extension-apiserver-authentication-reader");
    let ttl = find(&policy, "ClusterRoleBinding", "system:controller:ttl-controller");
    let account = json!([{"kind": "ServiceAccount", "name": "ttl-controller", "namespace": "kube-system"}]);
    assert_eq!(ttl["subjects"], account);
}

#[test]
fn roles_for_people_are_gathered_by_label() {
    let policy = policy();
    let gathers = |name: &str| find(&policy, "ClusterRole", name)["aggregationRule"]["clusterRoleSelectors"].clone();
    let has = |name: &str, label: &str| {
        find(&policy, "ClusterRole", name)["metadata"]["labels"][format!("rbac.authorization.k8s.io/{label}")] == "true"
    };
    for (role, label) in [("admin", "aggregate-to-admin"), ("edit", "aggregate-to-edit"), ("view", "aggregate-to-view")]
    {
        let selector = json!([{"matchLabels": {format!("rbac.authorization.k8s.io/{label}"): "true"}}]);
        assert_eq!(gathers(role), selector, "{role}");
        assert!(find(&policy, "ClusterRole", role).get("rules").is_none(), "the controller writes them");
        assert!(has(&format!("system:{label}"), label), "{role}");
    }
    assert!(has("edit", "aggregate-to-admin") && has("view", "aggregate-to-edit"));
    let edit = find(&policy, "ClusterRole", "system:aggregate-to-edit")["rules"].to_string();
    assert!(edit.contains("secrets") && edit.contains("pods/exec") && !edit.contains("rolebindings"), "{edit}");
    let view = find(&policy, "ClusterRole", "system:aggregate-to-view")["rules"].to_string();
    assert!(!view.contains("secrets") && !view.contains("pods/exec"), "{view}");
}

#[test]
fn every_rule_can_be_read_and_who_lists_may_watch() {
    for role in policy().iter().filter(|o| o["rules"].is_array()) {
        let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
        for rule in rules {
            let has = |verb: &str| rule.verbs.iter().any(|v| v == verb);
            assert!(!has("list") || has("watch"), "{}: {rule:?}", name(role));
            assert!(rule.verbs.is_sorted() && rule.resources.is_sorted(), "{}: {rule:?}", name(role));
            assert_eq!(rule.api_groups.is_empty(), rule.resources.is_empty(), "{}: {rule:?}", name(role));
        }
    }
}

#[test]
fn a_damaged_line_is_named() {
    for line in ["Thing x", "ClusterRole x\n  get core", "  get core pods", "ClusterRole x\n  for Nobody y", "Role x"] {
        let failure = unfold(line).unwrap_err().to_string();
        assert!(failure.contains(line.lines().last().unwrap()), "{failure}");
    }
}
