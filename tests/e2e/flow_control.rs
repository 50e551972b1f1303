//! API priority and fairness: to which flow a request belongs, and what keeps flow schemas true.

use crate::support::http::Http;
use crate::support::{TestCluster, eventually};

const SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";

/// What an answer says in a header.
fn said(http: &Http, path: &str, arguments: &[&str], name: &str) -> Option<String> {
    let mut all = vec!["--include"];
    all.extend(arguments);
    let answer = if arguments.contains(&"--nobody") {
        http.ask_as_nobody("--http2", path, &["--include"])
    } else {
        http.ask("--http2", path, &all)
    };
    let line = answer.body.lines().find(|line| line.starts_with(name))?;
    line.split_once(": ").map(|(_, value)| value.trim().to_owned())
}

fn uid(cluster: &TestCluster, kind: &str, name: &str) -> String {
    cluster.json(&[kind, name])["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Upstream's servers keep these themselves, whether controllers run or not.
fn cluster() -> TestCluster {
    TestCluster::control_plane_with(&["--disable-controller-manager", "--disable-scheduler"])
}

#[test]
fn every_answer_says_to_which_flow_its_request_belonged() {
    let cluster = cluster();
    let http = Http::of(&cluster);
    let as_user = ["-H", "Impersonate-User: someone"];
    let as_account = ["-H", "Impersonate-User: system:serviceaccount:kube-system:x"];
    let as_node = ["-H", "Impersonate-User: system:node:n", "-H", "Impersonate-Group: system:nodes"];
    for (path, arguments, schema, level) in [
        ("/api/v1/namespaces", &[][..], "exempt", "exempt"),
        ("/nowhere", &[], "exempt", "exempt"),
        ("/healthz", &["--nobody"], "probes", "exempt"),
        // Also of what is refused.
        ("/api/v1/namespaces", &as_user, "global-default", "global-default"),
        ("/api/v1/pods?watch=1", &as_user, "global-default", "global-default"),
        ("/api/v1/namespaces", &as_account, "kube-system-service-accounts", "workload-high"),
        ("/api/v1/nodes/n", &as_node, "system-node-high", "node-high"),
        ("/api/v1/pods", &as_node, "system-nodes", "system"),
    ] {
        let found = [SCHEMA, LEVEL].map(|name| said(&http, path, arguments, name).unwrap_or_default());
        let wanted = [uid(&cluster, "flowschema", schema), uid(&cluster, "prioritylevelconfiguration", level)];
        assert_eq!(found, wanted, "{path} {arguments:?}");
    }
    // What streams takes no turn, and who is nobody has none.
    assert_eq!(said(&http, "/api/v1/namespaces/default/pods/x/log", &[], SCHEMA), None);
    assert_eq!(said(&http, "/api/v1/namespaces", &["--nobody"], SCHEMA), None);
}

#[test]
fn flow_schemas_are_followed_and_say_whether_their_level_is_there() {
    let cluster = cluster();
    let http = Http::of(&cluster);
    let as_user = ["-H", "Impersonate-User: someone"];
    cluster.apply(
        r#"{"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "mine"}, "spec": {
            "matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "mine"}, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "someone"}}],
                "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}]}]}}"#,
    );
    let dangling = |wanted: &str, message: &str| {
        let path =
            "jsonpath={.status.conditions[0].type} {.status.conditions[0].status} {.status.conditions[0].message}";
        let level = "This FlowSchema references the PriorityLevelConfiguration object named \"mine\"";
        cluster.wait_for(&format!("Dangling {wanted} {level} {message}"), &["get", "flowschema", "mine", "-o", path]);
    };
    dangling("True", "but there is no such object");
    let pods = "/api/v1/namespaces/default/pods";
    let schema = |path: &str| said(&http, path, &as_user, SCHEMA).unwrap_or_default();
    let default = uid(&cluster, "flowschema", "global-default");
    assert_eq!(schema(pods), default, "without its level it is none");
    cluster.apply(
        r#"{"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": {"name": "mine"},
            "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}"#,
    );
    let mine = uid(&cluster, "flowschema", "mine");
    assert_eq!((schema(pods), schema("/api/v1/pods")), (mine, default.clone()), "one of these is in a namespace");
    dangling("False", "and it exists");
    cluster.ok(&["delete", "flowschema", "mine"]);
    assert_eq!(schema(pods), default);
}

#[test]
fn defaults_come_back_and_what_somebody_has_taken_over_stays() {
    let cluster = cluster();
    let before = uid(&cluster, "flowschema", "probes");
    cluster.ok(&["delete", "flowschema", "probes"]);
    eventually("the schema is there again", || {
        let out = cluster.kubectl(&["get", "flowschema", "probes", "-o", "jsonpath={.metadata.uid}"]);
        let uid = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() && uid != before { Ok(()) } else { Err(format!("{out:?}")) }
    });
    let precedence = |name: &str| cluster.ok(&["get", "flowschema", name, "-o", "jsonpath={.spec.matchingPrecedence}"]);
    let change = |name: &str, text: &str| cluster.kubectl(&["patch", "flowschema", name, "--type=merge", "-p", text]);
    assert!(change("kube-scheduler", r#"{"spec": {"matchingPrecedence": 801}}"#).status.success());
    cluster.wait_for("800", &["get", "flowschema", "kube-scheduler", "-o", "jsonpath={.spec.matchingPrecedence}"]);
    let taken = r#"{"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}, "spec": {"matchingPrecedence": 801}}"#;
    assert!(change("kube-scheduler", taken).status.success());
    assert!(change("kube-controller-manager", r#"{"spec": {"matchingPrecedence": 801}}"#).status.success());
    cluster.wait_for(
        "800",
        &["get", "flowschema", "kube-controller-manager", "-o", "jsonpath={.spec.matchingPrecedence}"],
    );
    assert_eq!(precedence("kube-scheduler"), "801");
    let refused = change("catch-all", r#"{"spec": {"matchingPrecedence": 9}}"#);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("spec of 'catch-all' must equal the fixed value"), "{why}");
}
