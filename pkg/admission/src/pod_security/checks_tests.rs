//! Each check of the standards, with its words, and as of which version it is made.
#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::super::policy::LATEST;
use super::*;

fn said(level: Level, minor: Minor, pod: Value) -> String {
    let pod = Pod { annotations: pod.map(&["metadata", "annotations"]), spec: &pod["spec"] };
    detailed(&evaluate(Standard { level, minor }, pod))
}

fn baseline(spec: Value) -> String {
    said(Level::Baseline, LATEST, json!({ "spec": spec }))
}

/// One container with this security context.
fn with(context: Value) -> Value {
    json!({"containers": [{"name": "c", "securityContext": context}]})
}

fn good() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

fn restricted(change: Value) -> String {
    let mut context = good();
    for (field, value) in change.as_object().unwrap() {
        context[field] = value.clone();
    }
    said(Level::Restricted, LATEST, json!({ "spec": with(context) }))
}

#[test]
fn what_baseline_forbids() {
    assert_eq!(baseline(with(json!({}))), "");
    for (spec, text) in [
        (
            with(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            with(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}})),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (json!({"hostNetwork": true, "hostIPC": true}), "host namespaces (hostNetwork=true, hostIPC=true)"),
        (
            json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}, {"name": "c", "hostPath": {}}]}),
            "hostPath volumes (volumes \"a\", \"c\")",
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 9}, {"hostPort": 0}]}, {"name": "b", "ports": [{"hostPort": 10}]}]}),
            "hostPort (containers \"a\", \"b\" use hostPorts 10, 9)",
        ),
        (
            json!({"containers": [{"name": "b", "livenessProbe": {"httpGet": {"host": "x"}}},
                {"name": "a", "lifecycle": {"preStop": {"tcpSocket": {"host": "y"}}}}]}),
            "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle hosts \"x\", \"y\")",
        ),
        (
            with(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}, "containers": [
                {"name": "c", "securityContext": {"seLinuxOptions": {"role": "r", "type": "y"}}}]}),
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: types \"x\", \"y\"; user may not be set; role may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with(json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            with(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(baseline(spec), text);
    }
}

#[test]
fn several_come_in_upstreams_order() {
    let spec = json!({"hostNetwork": true, "hostPID": true, "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
        "containers": [{"name": "c", "ports": [{"hostPort": 8080}], "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]});
    let wanted = "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in securityContext.capabilities.add), \
        host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume \"h\"), hostPort (container \"c\" uses hostPort 8080)";
    assert_eq!(baseline(spec), wanted);
    let bare = said(Level::Restricted, LATEST, json!({"spec": {"containers": [{"name": "c"}]}}));
    let wanted = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
        unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
        runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
        seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(bare, wanted);
}

#[test]
fn what_restricted_forbids() {
    assert_eq!(restricted(json!({})), "");
    for (change, text) in [
        (
            json!({"capabilities": {"drop": ["all"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}),
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; \
             container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"runAsNonRoot": false}),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (json!({"runAsUser": 0}), "runAsUser=0 (container \"c\" must not set runAsUser=0)"),
        (
            json!({"seccompProfile": {"type": "Unconfined"}}),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(restricted(change), text);
    }
    let mut spec = with(good());
    spec["volumes"] =
        json!([{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}, {"name": "e", "emptyDir": {}}, {"name": "?"}]);
    assert_eq!(
        said(Level::Restricted, LATEST, json!({ "spec": spec })),
        "restricted volume types (volumes \"h\", \"n\", \"?\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")"
    );
}

#[test]
fn versions_bring_and_relax_checks() {
    let at = |level, minor, spec: &Value| said(level, minor, json!({ "spec": spec }));
    let probe = json!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "x"}}}]});
    assert_eq!(at(Level::Baseline, 33, &probe), "");
    assert_ne!(at(Level::Baseline, 34, &probe), "");
    let bare = json!({"containers": [{"name": "c"}]});
    let shorts = |minor| {
        let violations = evaluate(Standard { level: Level::Restricted, minor }, Pod { annotations: None, spec: &bare });
        reasons(&violations)
    };
    assert_eq!(shorts(0), "runAsNonRoot != true");
    assert_eq!(shorts(8), "allowPrivilegeEscalation != false, runAsNonRoot != true");
    assert_eq!(shorts(21), "allowPrivilegeEscalation != false, runAsNonRoot != true, seccompProfile");
    let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "c"}]});
    assert!(at(Level::Restricted, 24, &windows).contains("seccompProfile"));
    assert!(at(Level::Restricted, 25, &windows).starts_with("runAsNonRoot"));
    let mut own = with(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 0,
        "seccompProfile": {"type": "Localhost"}, "procMount": "Unmasked"}));
    own["hostUsers"] = false.into();
    assert_eq!(at(Level::Baseline, 35, &own), "");
    assert!(at(Level::Restricted, 35, &own).starts_with("procMount (container"));
    assert!(at(Level::Restricted, 34, &own).contains("runAsNonRoot"));
    let old =
        json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}, "spec": {}});
    assert!(said(Level::Baseline, 18, old.clone()).starts_with("seccompProfile (forbidden annotation seccomp"));
    assert_eq!(said(Level::Baseline, 19, old), "");
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    assert!(!at(Level::Baseline, 31, &sysctl).is_empty() && at(Level::Baseline, 32, &sysctl).is_empty());
    assert_eq!(at(Level::Privileged, LATEST, &json!({"hostNetwork": true})), "");
}
