//! Identities: impersonation and tokens as kubectl asks for them.

use crate::support::TestCluster;
use crate::support::http::Http;

fn groups(cluster: &TestCluster, who: &[&str]) -> String {
    let mut all = vec!["auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"];
    all.extend(who);
    cluster.ok(&all)
}

/// Once whoever was nobody had the rights of everybody who is authenticated.
#[test]
fn whoever_becomes_anonymous_is_not_authenticated() {
    let cluster = TestCluster::control_plane();
    assert_eq!(groups(&cluster, &["--as=x"]), r#"["system:authenticated"]"#);
    let account = groups(&cluster, &["--as=system:serviceaccount:default:default"]);
    assert_eq!(account, r#"["system:serviceaccounts","system:serviceaccounts:default","system:authenticated"]"#);
    let http = Http::of(&cluster);
    // Nobody may ask who it is: that is for the authenticated.
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = http.ask(
        "--http2",
        path,
        &["-H", "Impersonate-User: system:anonymous", "-H", "Content-Type: application/json", "-d", "{}"],
    );
    assert_eq!(answer.code, 403, "{answer:?}");
    let said = cluster.fails(&["get", "--raw", "/api/v1/namespaces/default/pods", "--as=system:anonymous"]);
    assert!(said.contains("User \"system:anonymous\" cannot list resource \"pods\""), "{said}");
}

#[test]
fn uid_and_extra_are_taken_on_by_who_may() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers =
        ["-H", "Impersonate-User: x", "-H", "Impersonate-Uid: u", "-H", "Impersonate-Extra-Acme.io%2fscope: s"];
    let mut arguments = headers.to_vec();
    arguments.extend(["-H", "Content-Type: application/json", "-d", "{}"]);
    let answer = http.ask("--http2", path, &arguments);
    let user = &answer.json()["status"]["userInfo"];
    assert_eq!((&user["uid"], &user["extra"]["acme.io/scope"][0]), (&"u".into(), &"s".into()), "{answer:?}");
    let answer =
        http.ask("--http1.1", path, &["-H", "Impersonate-Uid: u", "-H", "Content-Type: application/json", "-d", "{}"]);
    assert_eq!(answer.code, 400, "{answer:?}");
    assert!(answer.json()["message"].as_str().unwrap().ends_with("without impersonating a user name"), "{answer:?}");
}

#[test]
fn a_token_for_another_accounts_pod_is_refused() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "serviceaccount", "other"]);
    cluster.wait_for_account();
    cluster.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n");
    let bound = ["--bound-object-kind=Pod", "--bound-object-name=p"];
    let mut all = vec!["create", "token", "default"];
    all.extend(bound);
    assert!(cluster.ok(&all).len() > 100);
    all[2] = "other";
    let said = cluster.fails(&all);
    assert!(said.contains("to pod running with different serviceaccount name"), "{said}");
    let said = cluster.fails(&["create", "token", "default", "--duration=5m"]);
    assert!(said.contains("may not specify a duration less than 10 minutes"), "{said}");
}
