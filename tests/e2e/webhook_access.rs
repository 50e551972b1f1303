//! Webhooks that say who somebody is, and what users may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::issuers::with_token;
use crate::support::http::Http;
use crate::support::webhook::{Reply, Webhook};
use crate::support::{TestCluster, eventually};

/// What a webhook is reached by.
fn kubeconfig(hook: &Webhook, path: &str) -> String {
    let server = format!("https://127.0.0.1:{}/{path}", hook.port());
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hook",
        "clusters": [{"name": "hook", "cluster": {"server": server, "certificate-authority-data": hook.bundle()}}],
        "users": [{"name": "api", "user": {"token": "of-the-api-server"}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "api"}}],
    })
    .to_string()
}

/// A review that is answered.
fn answered(review: &Value, status: &Value) -> Reply {
    let answer = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "status": status});
    Reply::Raw(200, answer.to_string())
}

/// Files beside a cluster, and the users whose tokens are their names.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("tokens.csv", "jane,jane,1,\"dev\"\njoe,joe,2\neve,eve,3\n");
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Written apart and put in its place.
    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path("next"), content).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    fn cluster(&self, settings: &[String]) -> TestCluster {
        let tokens = format!("token-auth-file={}", self.path("tokens.csv"));
        let all = settings.iter().chain([&tokens]).map(|setting| format!("--kube-apiserver-arg={setting}"));
        TestCluster::control_plane_with(&all.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A file of authorizers: a webhook and then those that there usually are.
    fn authorizers(&self, hook: &Webhook, path: &str, over: &Value) {
        self.write(&format!("{path}.kubeconfig"), &kubeconfig(hook, path));
        let mut webhook = json!({
            "timeout": "2s", "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
            "matchConditionSubjectAccessReviewVersion": "v1",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": self.path(&format!("{path}.kubeconfig"))},
            "matchConditions": [
                {"expression": "request.user in ['jane', 'joe', 'eve']"},
                {"expression": "has(request.resourceAttributes) && request.resourceAttributes.namespace != 'kube-system'"},
            ],
        });
        for (field, value) in over.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [
                {"type": "Webhook", "name": "hook", "webhook": webhook},
                {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"},
            ],
        });
        self.write("authorizers.yaml", &config.to_string());
    }
}

/// Waits until a line of `/metrics` begins with a name and ends so.
fn metric(cluster: &TestCluster, name: &str, end: &str) {
    eventually(&format!("{name} … {end}"), || {
        let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
        let all: Vec<&str> = metrics.lines().filter(|line| line.starts_with(name)).collect();
        if all.iter().any(|line| line.ends_with(end)) { Ok(()) } else { Err(all.join("\n")) }
    });
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// What the webhook of these tests says: jane reads config maps and no secrets, of joe it knows nothing.
fn decision(review: &Value) -> Value {
    let spec = &review["spec"];
    match (spec["user"].as_str(), spec["resourceAttributes"]["resource"].as_str()) {
        (Some("jane"), Some("configmaps")) => json!({"allowed": true, "reason": "she may"}),
        (Some("jane"), Some("secrets")) => json!({"allowed": false, "denied": true, "reason": "not these"}),
        (Some("eve"), _) => json!({"allowed": true, "denied": true}),
        _ => json!({"allowed": false, "reason": "never heard of"}),
    }
}

#[test]
fn a_webhook_decides_before_roles_do() {
    let hook = Webhook::start(|path, review| match path {
        "/slow" => Reply::Silence,
        _ => answered(review, &decision(review)),
    });
    let files = Files::new();
    files.authorizers(&hook, "authorize", &json!({}));
    let cluster = files.cluster(&[format!("authorization-config={}", files.path("authorizers.yaml"))]);
    cluster.ok(&["create", "clusterrolebinding", "dev", "--clusterrole=view", "--group=dev", "--user=joe"]);
    cluster.ok(&["create", "clusterrolebinding", "secrets", "--clusterrole=cluster-admin", "--user=jane"]);
    let raw = |who: &str, path: &str| with_token(&cluster, who, &["get", "--raw", path]);
    // What it says counts, whatever roles say, and where it says nothing they are asked.
    assert!(raw("jane", MAPS).unwrap().contains("ConfigMapList"));
    let why = raw("jane", SECRETS).unwrap_err();
    assert!(why.contains("User \"jane\" cannot list resource \"secrets\"") && why.ends_with(": not these\n"), "{why}");
    assert!(raw("joe", MAPS).unwrap().contains("ConfigMapList"));
    let why = raw("joe", SECRETS).unwrap_err();
    assert!(why.contains("User \"joe\" cannot list resource \"secrets\"") && why.contains("never heard of"), "{why}");
    let why = raw("eve", MAPS).unwrap_err();
    assert!(why.contains("returned both allow and deny response"), "{why}");
    // It is told who asks for what, and is not told what its conditions leave out.
    let asked = hook.asked("/authorize");
    let wanted = json!({"user": "jane", "uid": "1", "groups": ["dev", "system:authenticated"],
        "resourceAttributes": {"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps"}});
    assert_eq!(asked[0]["spec"], wanted);
    assert!(raw("jane", "/api/v1/namespaces/kube-system/secrets").unwrap().contains("SecretList"));
    assert!(asked.iter().all(|review| review["spec"]["user"] != "system:kube-scheduler"));
    // The same is not asked twice, by nobody for anybody else.
    for who in ["jane", "joe"] {
        raw(who, MAPS).unwrap();
    }
    assert_eq!(hook.asked("/authorize").len(), asked.len());
    raw("jane", &format!("{MAPS}?labelSelector=a%20in%20(c,b),d&fieldSelector=metadata.name%3Dx")).unwrap();
    let review = hook.asked("/authorize").pop().unwrap();
    let attributes = &review["spec"]["resourceAttributes"];
    assert_eq!(attributes["name"], "x");
    assert_eq!(
        attributes["fieldSelector"]["requirements"],
        json!([{"key": "metadata.name", "operator": "In", "values": ["x"]}])
    );
    assert_eq!(
        attributes["labelSelector"]["requirements"],
        json!([{"key": "a", "operator": "In", "values": ["b", "c"]}, {"key": "d", "operator": "Exists"}])
    );
    // Reviews of others go the same way.
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"resource": "secrets", "verb": "list", "namespace": "default"}}});
    let review = cluster.file("review.json", &review.to_string());
    let review = cluster.ok(&["create", "-f", review.to_str().unwrap(), "-o", "json"]);
    let status = &serde_json::from_str::<Value>(&review).unwrap()["status"];
    assert_eq!(*status, json!({"allowed": false, "denied": true, "reason": "not these"}));
    let list = with_token(&cluster, "jane", &["auth", "can-i", "--list"]).unwrap();
    assert!(list.contains("*.*"), "{list}");
    metric(
        &cluster,
        "apiserver_authorization_decisions_total{decision=\"denied\",name=\"hook\",type=\"Webhook\"}",
        " 3",
    );
    metric(&cluster, "apiserver_authorization_webhook_evaluations_total{name=\"hook\",result=\"success\"}", "");
    metric(&cluster, "apiserver_authorization_match_condition_exclusions_total{type=\"Webhook\",name=\"hook\"}", "");
}

#[test]
fn a_webhook_that_does_not_answer_has_no_opinion_or_refuses_and_its_file_is_read_anew() {
    let hook = Webhook::start(|path, review| match path {
        "/slow" => Reply::Silence,
        "/broken" => Reply::Raw(200, "{\"status\": 1}".to_owned()),
        _ => answered(review, &decision(review)),
    });
    let files = Files::new();
    files.authorizers(&hook, "slow", &json!({"timeout": "1s"}));
    let cluster = files.cluster(&[format!("authorization-config={}", files.path("authorizers.yaml"))]);
    cluster.ok(&["create", "clusterrolebinding", "dev", "--clusterrole=view", "--user=joe"]);
    let raw = |who: &str, path: &str| with_token(&cluster, who, &["get", "--raw", path]);
    assert!(raw("joe", MAPS).unwrap().contains("ConfigMapList"), "roles allow it");
    // Where nobody else allows it either, it is not known whether it is allowed.
    let answer = Http::of(&cluster).ask_as_nobody("--http2", MAPS, &["-H", "Authorization: Bearer jane"]);
    let wanted = format!("Internal Server Error: {MAPS:?}: Post &quot;");
    assert_eq!(answer.code, 500);
    assert!(answer.body.starts_with(&wanted.replace("&quot;", "\"")), "{}", answer.body);
    assert!(answer.body.contains("context deadline exceeded"), "{}", answer.body);
    metric(
        &cluster,
        "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"hook\",result=\"timeout\"}",
        " 2",
    );
    let reloads = |status: &str, count: usize| {
        let name = "apiserver_authorization_config_controller_automatic_reloads_total{";
        metric(&cluster, name, &format!("status=\"{status}\"}} {count}"));
    };
    files.authorizers(&hook, "broken", &json!({"failurePolicy": "Deny"}));
    reloads("success", 1);
    let why = raw("joe", MAPS).unwrap_err();
    assert!(why.contains("an error on the server") && why.contains("Internal Server Error"), "{why}");
    // What cannot be used leaves everything as it is.
    files.write("authorizers.yaml", "authorizers: [");
    reloads("failure", 1);
    files.authorizers(&hook, "authorize", &json!({"matchConditions": [{"expression": "request.nothing"}]}));
    reloads("failure", 2);
    assert!(cluster.log().contains("authorizers[0].matchConditions[0].expression: Invalid value"));
    files.write(
        "authorizers.yaml",
        &json!({"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthorizationConfiguration",
        "authorizers": [{"type": "AlwaysAllow", "name": "alwaysallow"}]})
        .to_string(),
    );
    reloads("failure", 3);
    assert!(cluster.log().contains("missing required types: [Node RBAC]"));
    assert!(raw("joe", MAPS).is_err(), "it refuses as before");
    files.authorizers(&hook, "authorize", &json!({}));
    reloads("success", 2);
    assert!(raw("joe", MAPS).is_ok() && raw("jane", MAPS).is_ok());
    // The administrator is asked about nobody.
    cluster.ok(&["get", "secrets"]);
    assert!(hook.asked("/slow").iter().all(|review| review["spec"]["user"] != "system:admin"));
}

#[test]
fn a_webhook_of_the_flags_is_asked_in_its_place_and_flags_exclude_a_file() {
    let hook = Webhook::start(|_, review| answered(review, &decision(review)));
    let files = Files::new();
    files.write("hook.kubeconfig", &kubeconfig(&hook, "authorize"));
    let cluster = files.cluster(&[
        "authorization-mode=Node,RBAC,Webhook".to_owned(),
        format!("authorization-webhook-config-file={}", files.path("hook.kubeconfig")),
    ]);
    assert!(with_token(&cluster, "jane", &["get", "--raw", MAPS]).unwrap().contains("ConfigMapList"));
    let review = hook.asked("/authorize").into_iter().find(|review| review["spec"]["user"] == "jane").unwrap();
    assert_eq!(review["apiVersion"], "authorization.k8s.io/v1beta1");
    assert_eq!(review["spec"]["group"], json!(["dev", "system:authenticated"]));
    drop(cluster);
    let refused = TestCluster::refused(&[
        "--kube-apiserver-arg=authorization-config=/nothing",
        "--kube-apiserver-arg=authorization-mode=RBAC",
    ]);
    assert!(refused.contains("can not be specified when --authorization-mode"), "{refused}");
    files.write(
        "bad.yaml",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n",
    );
    let refused =
        TestCluster::refused(&[&format!("--kube-apiserver-arg=authorization-config={}", files.path("bad.yaml"))]);
    assert!(refused.contains("authorizers: Required value: at least one authorization mode"), "{refused}");
}

#[test]
fn a_webhook_knows_tokens_and_what_it_does_not_know_is_refused() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = dead.clone();
    let hook = Webhook::start(move |_, review| {
        if is_dead.load(Ordering::SeqCst) {
            return Reply::Raw(403, "gone".to_owned());
        }
        match review["spec"]["token"].as_str() {
            Some("t0ken-of-ann" | "t0ken-of-ann-2") => {
                let user = json!({"username": "ann", "uid": "7", "groups": ["ops"], "extra": {"example.com/a": ["b"]}});
                answered(review, &json!({"authenticated": true, "user": user}))
            }
            Some("t0ken-of-old") => answered(review, &json!({"authenticated": false, "error": "it has run out"})),
            _ => answered(review, &json!({"authenticated": false})),
        }
    });
    let files = Files::new();
    files.write("hook.kubeconfig", &kubeconfig(&hook, "tokens"));
    let cluster = files.cluster(&[
        format!("authentication-token-webhook-config-file={}", files.path("hook.kubeconfig")),
        "authentication-token-webhook-version=v1".to_owned(),
    ]);
    let user = |token: &str| {
        let whoami = with_token(&cluster, token, &["auth", "whoami", "-o", "json"])?;
        Ok::<_, String>(serde_json::from_str::<Value>(&whoami).unwrap()["status"]["userInfo"].clone())
    };
    let ann = user("t0ken-of-ann").unwrap();
    assert_eq!(
        ann,
        json!({"username": "ann", "uid": "7", "groups": ["ops", "system:authenticated"], "extra": {"example.com/a": ["b"]}})
    );
    let asked = hook.asked("/tokens");
    assert_eq!(asked.len(), 1, "the same is not asked twice: {asked:?}");
    let audiences = json!(["https://kubernetes.default.svc.cluster.local", "kedge"]);
    assert_eq!(asked[0]["spec"], json!({"token": "t0ken-of-ann", "audiences": audiences}));
    // Who is known without it is not asked about.
    assert_eq!(user("jane").unwrap()["username"], "jane");
    let own = cluster.ok(&["create", "token", "default"]);
    assert_eq!(user(own.trim()).unwrap()["username"], "system:serviceaccount:default:default");
    assert_eq!(hook.asked("/tokens").len(), 1);
    for token in ["t0ken-of-old", "t0ken-of-nobody"] {
        let why = user(token).unwrap_err();
        assert!(why.contains("You must be logged in to the server"), "{why}");
    }
    let reviewed = |token: &str| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let review = cluster.file("review.json", &review.to_string());
        let review = cluster.ok(&["create", "-f", review.to_str().unwrap(), "-o", "json"]);
        serde_json::from_str::<Value>(&review).unwrap()["status"].clone()
    };
    assert_eq!(reviewed("t0ken-of-ann")["audiences"], audiences);
    assert!(reviewed("t0ken-of-old")["error"].as_str().unwrap().contains("it has run out"));
    // It is gone: what it has said counts for its time, what it has not is refused.
    dead.store(true, Ordering::SeqCst);
    let why = user("t0ken-of-ann-2").unwrap_err();
    assert!(why.contains("You must be logged in to the server"), "{why}");
    assert_eq!(user("t0ken-of-ann").unwrap()["username"], "ann");
    assert!(reviewed("t0ken-of-ann-2")["error"].as_str().unwrap().contains("gone"));
    dead.store(false, Ordering::SeqCst);
    assert_eq!(user("t0ken-of-ann-2").unwrap()["username"], "ann", "errors are not kept");
    let log = cluster.log();
    assert!(log.contains("failed to make webhook authenticator request") && !log.contains("t0ken"), "{log}");
}
