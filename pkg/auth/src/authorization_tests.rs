//! Files that fit, and what is said of those that do not.
#![allow(clippy::unwrap_used)]

use super::*;

fn read(authorizers: Value) -> Result<AuthorizationConfiguration, String> {
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": KIND, "authorizers": authorizers});
    AuthorizationConfiguration::read(file, &BTreeSet::new())
}

fn webhook() -> Value {
    let file = std::env::current_exe().unwrap();
    json!({"type": "Webhook", "name": "w", "webhook": {
        "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": file},
        "matchConditions": [{"expression": "request.user != 'a'"}],
    }})
}

#[test]
fn what_fits_is_read_with_upstreams_defaults() {
    let all = json!([webhook(), {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]);
    let config = read(all).unwrap();
    let webhook = config.authorizers[0].webhook.as_ref().unwrap();
    assert_eq!((webhook.authorized_ttl, webhook.unauthorized_ttl), (Nanos(300 * SECOND), Nanos(30 * SECOND)));
    assert_eq!((webhook.cache_authorized_requests, webhook.timeout), (None, Nanos(3 * SECOND)));
    assert_eq!(config.own_types(), ["Node", "RBAC"].map(str::to_owned).into());
    for version in VERSIONS {
        let file = json!({"apiVersion": format!("{GROUP}{version}"), "kind": KIND,
            "authorizers": [{"type": "AlwaysAllow", "name": "alwaysallow"}]});
        AuthorizationConfiguration::read(file, &BTreeSet::new()).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_webhook_is_named_by_its_path() {
    for (pointer, value, wanted) in [
        ("/timeout", json!("0s"), "authorizers[0].timeout: Required value"),
        ("/timeout", json!("31s"), "authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s"),
        ("/authorizedTTL", json!("-5s"), "authorizers[0].authorizedTTL: Invalid value: \"-5s\": must be > 0s"),
        (
            "/subjectAccessReviewVersion",
            json!("v2"),
            "authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\"",
        ),
        (
            "/matchConditionSubjectAccessReviewVersion",
            json!(""),
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
        ),
        (
            "/failurePolicy",
            json!("Fail"),
            "authorizers[0].failurePolicy: Unsupported value: \"Fail\": supported values: \"NoOpinion\", \"Deny\"",
        ),
        ("/connectionInfo", json!({}), "authorizers[0].connectionInfo.type: Required value"),
        (
            "/connectionInfo/kubeConfigFile",
            json!("a"),
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"a\": must be an absolute path",
        ),
        (
            "/connectionInfo/kubeConfigFile",
            json!("/nothing/here"),
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/nothing/here\": error loading file: stat /nothing/here: no such file or directory",
        ),
        ("/connectionInfo/kubeConfigFile", json!("/"), "must be a regular file"),
        ("/connectionInfo/type", json!("InClusterConfig"), "can only be set when type=KubeConfigFile"),
        (
            "/matchConditions",
            json!([{"expression": " "}]),
            "authorizers[0].matchConditions[0].expression: Required value",
        ),
        (
            "/matchConditions",
            json!([{"expression": "true"}, {"expression": "true"}]),
            "authorizers[0].matchConditions[1].expression: Duplicate value: \"true\"",
        ),
        (
            "/matchConditions",
            json!([{"expression": "request.user"}]),
            "authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        ),
        (
            "/matchConditions",
            json!(vec![json!({"expression": "true"}); 65]),
            "authorizers[0].matchConditions: Too many: 65: must have at most 64 items",
        ),
        (
            "/timeout",
            json!("soon"),
            "failed to load AuthorizationConfiguration from file: time: invalid duration \"soon\"",
        ),
        ("/unknown", json!(1), "unknown field"),
    ] {
        let mut one = webhook();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        one["webhook"].pointer_mut(parent).unwrap()[field] = value;
        let why = read(json!([one])).unwrap_err();
        assert!(why.contains(wanted), "{pointer}: {why}");
    }
}

#[test]
fn types_and_names_are_upstreams() {
    let one = |kind: &str, name: &str| json!({"type": kind, "name": name});
    for (all, wanted) in [
        (json!([]), "authorizers: Required value: at least one authorization mode must be defined"),
        (json!(null), "authorizers: Required value"),
        (json!([one("", "a")]), "authorizers[0].type: Required value"),
        (
            json!([one("ABAC", "abac")]),
            "authorizers[0].type: Unsupported value: \"ABAC\": supported values: \"AlwaysAllow\"",
        ),
        (json!([one("RBAC", "rbac"), one("RBAC", "b")]), "authorizers[1].type: Duplicate value: \"RBAC\""),
        (json!([one("RBAC", "")]), "authorizers[0].name: Required value"),
        (json!([one("RBAC", "a"), one("Node", "a")]), "authorizers[1].name: Duplicate value: \"a\""),
        (json!([one("RBAC", "A_")]), "authorizers[0].name: Invalid value: \"A_\": authorizer name is invalid: "),
        (json!([one("Webhook", "a")]), "authorizers[0].webhook: Required value: required when type=Webhook"),
        (
            json!([{"type": "RBAC", "name": "rbac", "webhook": {}}]),
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        (json!([one("RBAC", "other")]), "expected name rbac for authorizer RBAC instead of other"),
    ] {
        let why = read(all).unwrap_err();
        assert!(why.starts_with(wanted), "{wanted}: {why}");
    }
    let other = json!({"apiVersion": "v1", "kind": KIND});
    let why = AuthorizationConfiguration::read(other, &BTreeSet::new()).unwrap_err();
    assert!(why.contains("no kind \"AuthorizationConfiguration\" is registered for version \"v1\""), "{why}");
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": KIND, "authorizers": [one("RBAC", "rbac")]});
    let why = AuthorizationConfiguration::read(file, &["Node", "RBAC"].map(str::to_owned).into()).unwrap_err();
    assert_eq!(why, "missing required types: [Node]");
}

#[test]
fn modes_of_flags_are_authorizers() {
    let modes = ["Node", "Webhook"].map(str::to_owned);
    let config = AuthorizationConfiguration::of_modes(&modes, &WebhookConfiguration::default());
    let shown: Vec<_> = config.authorizers.iter().map(|one| (&*one.kind, &*one.name, one.webhook.is_some())).collect();
    assert_eq!(shown, [("Node", "node", false), ("Webhook", "default", true)]);
}
