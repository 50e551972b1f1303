//! Admission webhooks that cannot be asked, or that answer nonsense.

use serde_json::{Value, json};

use crate::support::webhook::{Reply, Webhook, allow, configuration, patch};
use crate::support::{TestCluster, eventually};

const OPEN: &str = "Ignore";
const CLOSED: &str = "Fail";

/// What kubectl says when a config map is made under this configuration; nothing when it is made.
fn said(cluster: &TestCluster, kind: &str, hook: &Value) -> String {
    cluster.apply(&configuration(kind, "x", std::slice::from_ref(hook)));
    let out = cluster.kubectl(&["create", "configmap", "m"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() {
        cluster.ok(&["delete", "configmap", "m"]);
    }
    cluster.ok(&["delete", &format!("{}webhookconfiguration", kind.to_lowercase()), "x"]);
    said
}

/// Under both policies: one lets pass what the other refuses in these words.
fn check(cluster: &TestCluster, hook: &Webhook, name: &str, fields: &Value, wanted: &str) {
    for kind in ["Validating", "Mutating"] {
        let mut fields = fields.clone();
        fields["failurePolicy"] = OPEN.into();
        assert_eq!(said(cluster, kind, &hook.hook(name, &fields)), "", "{kind} {name}");
        fields["failurePolicy"] = CLOSED.into();
        let refused = said(cluster, kind, &hook.hook(name, &fields));
        let wanted = format!("Internal error occurred: failed calling webhook \"{name}.example.com\": {wanted}");
        assert!(refused.contains(&wanted), "{kind} {name}: {refused}\nwanted {wanted}");
    }
}

#[test]
fn the_policy_says_what_it_means_that_a_webhook_cannot_be_asked() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, _| match path {
        "/slow" => Reply::Silence,
        "/broken" => Reply::Raw(500, "oh".to_owned()),
        "/gone" => Reply::Raw(404, "x".to_owned()),
        "/teapot" => Reply::Raw(418, String::new()),
        "/page" => Reply::Raw(200, "<html>".to_owned()),
        "/other" => Reply::Raw(200, json!({"apiVersion": "v1", "kind": "Pod"}).to_string()),
        _ => allow(),
    });
    let at = |name: &str| format!("failed to call webhook: Post \"https://127.0.0.1:{}/{name}", hook.port());
    let slow = format!("{}?timeout=1s\": context deadline exceeded", at("slow"));
    check(&cluster, &hook, "slow", &json!({"timeoutSeconds": 1}), &slow);
    let none = json!({});
    let broken = "failed to call webhook: an error on the server (\"oh\") has prevented the request from succeeding";
    check(&cluster, &hook, "broken", &none, broken);
    check(&cluster, &hook, "gone", &none, "failed to call webhook: the server could not find the requested resource");
    let teapot =
        "failed to call webhook: the server responded with the status code 418 but did not return more information";
    check(&cluster, &hook, "teapot", &none, teapot);
    check(&cluster, &hook, "page", &none, "failed to call webhook: couldn't get version/kind; json parse error: ");
    check(&cluster, &hook, "other", &none, "received invalid webhook response: webhook response was absent");
    let url = json!({"url": "https://127.0.0.1:1/x", "caBundle": hook.bundle()});
    let refused = "failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused";
    check(&cluster, &hook, "refused", &json!({"clientConfig": url}), refused);
    let stranger = Webhook::start(|_, _| allow());
    let url = json!({"url": format!("https://127.0.0.1:{}/certificate", hook.port()), "caBundle": stranger.bundle()});
    let unknown = format!(
        "{}?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
        at("certificate")
    );
    check(&cluster, &hook, "certificate", &json!({"clientConfig": url}), &unknown);
    let url = json!({"url": format!("https://127.0.0.1:{}/bundle", hook.port()), "caBundle": "eA=="});
    let bundle = "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block";
    check(&cluster, &hook, "bundle", &json!({"clientConfig": url}), bundle);
    let conditions = json!({"matchConditions": [{"name": "c", "expression": "object.none == 1"}]});
    assert_eq!(said(&cluster, "Validating", &hook.hook("open", &with(&conditions, OPEN))), "");
    let refused = said(&cluster, "Validating", &hook.hook("closed", &with(&conditions, CLOSED)));
    let wanted = "configmaps \"m\" is forbidden: expression 'object.none == 1' resulted in error: no such key: none";
    assert!(refused.contains(wanted), "{refused}");
    counted(&cluster);
}

fn with(fields: &Value, policy: &str) -> Value {
    let mut fields = fields.clone();
    fields["failurePolicy"] = policy.into();
    fields
}

/// All of that is in the metrics, by upstream's names.
fn counted(cluster: &TestCluster) {
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    for line in [
        "apiserver_admission_webhook_fail_open_count{name=\"slow.example.com\",type=\"admit\"} 1",
        "apiserver_admission_webhook_fail_open_count{name=\"slow.example.com\",type=\"validating\"} 1",
        "apiserver_admission_webhook_request_total{name=\"broken.example.com\",type=\"admit\",operation=\"CREATE\",code=\"500\",rejected=\"true\"} 1",
        "apiserver_admission_webhook_request_total{name=\"broken.example.com\",type=\"admit\",operation=\"CREATE\",code=\"500\",rejected=\"false\"} 1",
        "apiserver_admission_webhook_rejection_count{name=\"gone.example.com\",type=\"validating\",operation=\"CREATE\",error_type=\"calling_webhook_error\",rejection_code=\"404\"} 1",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"slow.example.com\",type=\"admit\",operation=\"CREATE\",rejected=\"true\"} 1",
        "apiserver_admission_webhook_admission_duration_seconds_bucket{name=\"slow.example.com\",type=\"admit\",operation=\"CREATE\",rejected=\"true\",le=\"0.5\"} 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\nnot in\n{metrics}");
    }
}

/// A patch that cannot be done is no failure of the call: no policy lets it pass.
#[test]
fn a_patch_that_makes_no_sense_is_an_error_under_any_policy() {
    let cluster = TestCluster::control_plane();
    let hook = Webhook::start(|path, _| match path {
        "/nowhere" => patch(&json!([{"op": "remove", "path": "/none"}])),
        "/wrong" => patch(&json!([{"op": "add", "path": "/data", "value": 7}])),
        "/list" => patch(&json!({"op": "add"})),
        "/kind" => patch(&json!([{"op": "replace", "path": "/kind", "value": "Secret"}])),
        "/type" => Reply::Response(json!({"allowed": true, "patch": "W10=", "patchType": "JSONPatch"})),
        "/untyped" => Reply::Response(json!({"allowed": true, "patch": "W10="})),
        _ => allow(),
    });
    for policy in [OPEN, CLOSED] {
        for name in ["nowhere", "wrong", "kind"] {
            let refused = said(&cluster, "Mutating", &hook.hook(name, &json!({"failurePolicy": policy})));
            assert!(refused.contains("Internal error occurred: "), "{name}: {refused}");
        }
        assert_eq!(
            said(&cluster, "Mutating", &hook.hook("type", &json!({"failurePolicy": policy}))),
            "",
            "an empty one"
        );
    }
    let list = "failed calling webhook \"list.example.com\": received undecodable patch in webhook response: json: cannot \
                unmarshal object into Go value of type jsonpatch.Patch";
    let refused = said(&cluster, "Mutating", &hook.hook("list", &json!({})));
    assert!(refused.contains(list), "{refused}");
    assert_eq!(said(&cluster, "Mutating", &hook.hook("list", &json!({"failurePolicy": OPEN}))), "");
    let refused = said(&cluster, "Mutating", &hook.hook("untyped", &json!({})));
    let untyped = "received invalid webhook response: webhook returned response.patch but not response.patchType";
    assert!(refused.contains(untyped), "{refused}");
    let refused = said(&cluster, "Validating", &hook.hook("type", &json!({})));
    assert!(
        refused.contains("received invalid webhook response: validating webhook may not return response.patch"),
        "{refused}"
    );
    let rules =
        json!([{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    cluster.ok(&["create", "configmap", "gone"]);
    cluster.apply(&configuration("Mutating", "x", &[hook.hook("nowhere", &json!({"rules": rules}))]));
    let refused = cluster.fails(&["delete", "configmap", "gone"]);
    let wanted = "admission webhook \"nowhere.example.com\" attempted to modify the object, which is not supported for this operation";
    assert!(refused.contains(wanted), "{refused}");
}

/// A webhook about everything that must be asked, and whose server runs on the cluster, is there when the cluster has been up: the server ended with an
/// error when it wrote what a cluster starts with, so that neither ever came up again.
#[test]
fn a_webhook_that_must_be_asked_does_not_keep_the_server_down() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["delete", "flowschema", "probes", "--wait=false"]);
    let everything = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    let nobody = json!({"url": "https://127.0.0.1:9/"});
    let hook = json!({"name": "all.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
        "clientConfig": nobody, "rules": everything});
    cluster.apply(&configuration("Validating", "all", &[hook]));
    cluster.stop();
    cluster.start();
    assert!(cluster.fails(&["create", "configmap", "refused"]).contains("failed calling webhook"));
    cluster.ok(&["delete", "validatingwebhookconfiguration", "all"]);
    eventually("the cluster is complete", || {
        let ready = cluster.kubectl(&["get", "--raw", "/readyz"]);
        if ready.status.success() { Ok(()) } else { Err(format!("{ready:?}")) }
    });
    cluster.ok(&["create", "configmap", "taken"]);
}
