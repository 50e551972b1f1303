//! The default roles: there, gathered by label, and completed at every start.

use crate::support::TestCluster;

/// The rules of a role, as text.
fn rules(cluster: &TestCluster, role: &str) -> String {
    cluster.ok(&["get", "clusterrole", role, "-o", "jsonpath={.rules}"])
}

#[test]
fn default_roles_are_completed_at_start() {
    let mut cluster = TestCluster::control_plane();
    let listed = cluster.ok(&["get", "clusterroles", "-o", "name"]);
    let added = |name: &str| name.contains("/kedge:") || name.ends_with("/system:aggregated-metrics-reader");
    let upstreams = listed.lines().filter(|name| !added(name)).count();
    assert_eq!(upstreams, 69, "{listed}");
    let bound = cluster.ok(&["get", "clusterrolebindings", "-o", "name"]);
    assert_eq!(bound.lines().filter(|name| !name.contains("/kedge:")).count(), 50, "{bound}");

    let (basic, monitoring, edit) = ("system:basic-user", "system:monitoring", "system:aggregate-to-edit");
    let whole = rules(&cluster, basic);
    for role in [basic, monitoring] {
        cluster.ok(&["patch", "clusterrole", role, "--type=merge", "-p", r#"{"rules":[]}"#]);
    }
    cluster.ok(&[
        "annotate",
        "--overwrite",
        "clusterrole",
        monitoring,
        "rbac.authorization.kubernetes.io/autoupdate=false",
    ]);
    let more =
        r#"[{"op":"add","path":"/rules/-","value":{"apiGroups":["acme.io"],"resources":["anvils"],"verbs":["get"]}}]"#;
    cluster.ok(&["patch", "clusterrole", edit, "--type=json", "-p", more]);
    cluster.ok(&["delete", "clusterrolebinding", "system:discovery"]);
    assert!(cluster.stop(), "a clean stop is a success");
    cluster.start();
    let (of_basic, of_monitoring) = (rules(&cluster, basic), rules(&cluster, monitoring));
    assert!(of_basic.contains("selfsubjectreviews") && of_basic.contains("selfsubjectrulesreviews"), "{of_basic}");
    assert_ne!(of_basic, whole, "what lacks is added verb by verb, as upstream does");
    assert!(!of_monitoring.contains("metrics"), "left alone: {of_monitoring}");
    assert!(rules(&cluster, edit).contains("anvils"), "what was added is kept");
    cluster.ok(&["get", "clusterrolebinding", "system:discovery"]);
}

#[test]
fn roles_for_people_gather_what_is_labelled_for_them() {
    let cluster = TestCluster::control_plane();
    let may = |user: &str, verb: &str, resource: &str| {
        ["auth", "can-i", verb, resource, "-n", "default"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--as={user}")])
            .collect::<Vec<_>>()
    };
    let wait = |answer: &str, user: &str, verb: &str, resource: &str| {
        let question = may(user, verb, resource);
        cluster.wait_for(answer, &question.iter().map(String::as_str).collect::<Vec<_>>());
    };
    for role in ["view", "edit", "admin"] {
        cluster.ok(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &format!("--user={role}er")]);
    }
    for (user, verb, resource) in [
        ("viewer", "list", "pods"),
        ("editer", "create", "deployments.apps"),
        ("editer", "get", "secrets"),
        ("adminer", "create", "rolebindings.rbac.authorization.k8s.io"),
        ("adminer", "get", "pods"),
    ] {
        wait("yes", user, verb, resource);
    }
    let no = |user: &str, verb: &str, resource: &str| {
        let question = may(user, verb, resource);
        let said = cluster.kubectl(&question.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(String::from_utf8_lossy(&said.stdout).starts_with("no"), "{user} may {verb} {resource}");
    };
    no("viewer", "get", "secrets");
    no("editer", "create", "rolebindings.rbac.authorization.k8s.io");
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: anvils\n  labels: \
         {rbac.authorization.k8s.io/aggregate-to-view: \"true\"}\nrules:\n- {apiGroups: [\"\"], resources: [secrets], \
         verbs: [get]}\n",
    );
    for user in ["viewer", "editer", "adminer"] {
        wait("yes", user, "get", "secrets");
    }
}

/// An account without a namespace in a RoleBinding was bound and had no rights.
#[test]
fn an_account_without_a_namespace_has_the_rights_of_its_binding() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "role", "reader", "--verb=list", "--resource=pods"]);
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: read}\nsubjects: [{kind: \
         ServiceAccount, name: app}]\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\n",
    );
    cluster.ok(&["get", "pods", "--as=system:serviceaccount:default:app"]);
    cluster.fails(&["get", "pods", "--as=system:serviceaccount:kube-system:app"]);
    let stored = cluster.ok(&["get", "rolebinding", "read", "-o", "jsonpath={.subjects}"]);
    assert_eq!(stored, r#"[{"kind":"ServiceAccount","name":"app"}]"#);
}
