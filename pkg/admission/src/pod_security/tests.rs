//! What a namespace with labels does about pods, workloads and itself.
#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;
use crate::testing;

/// What is said of an object: the refusal, or the warnings.
async fn said(
    labels: Value,
    (group, plural): (&str, &str),
    subresource: &str,
    object: Value,
    old: Option<&Value>,
) -> Result<Vec<String>, String> {
    let (registry, _) = testing::registry().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": labels}});
    testing::put(&registry, namespace).await;
    let bad = json!({"containers": [{"name": "c", "image": "i"}]});
    for name in ["p1", "p2", "p3"] {
        let spec = if name == "p3" { json!({"hostNetwork": true}) } else { bad.clone() };
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"}, "spec": spec});
        testing::put(&registry, pod).await;
    }
    let user = testing::user();
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let mut attributes = Attributes::new(operation, testing::resource(group, plural), &user);
    (attributes.namespace, attributes.object, attributes.old, attributes.subresource) = ("a", object, old, subresource);
    if PodSecurity::default().validates(&attributes) {
        PodSecurity::default().validate(&registry, &attributes).await.map_err(|status| status.message)?;
    }
    Ok(attributes.notes.warnings())
}

fn level(mode: &str, level: &str) -> Value {
    json!({(format!("pod-security.kubernetes.io/{mode}")): level})
}

fn privileged(image: &str) -> Value {
    let container = json!({"name": "c", "image": image, "securityContext": {"privileged": true}});
    json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}})
}

const WHY: &str = "privileged (container \"c\" must not set securityContext.privileged=true)";

#[tokio::test]
async fn pods_are_refused_and_workloads_warned_about() {
    let pods = ("", "pods");
    let refused = Err(format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {WHY}"));
    assert_eq!(said(level("enforce", "baseline"), pods, "", privileged("i"), None).await, refused);
    assert_eq!(said(json!({}), pods, "", privileged("i"), None).await, Ok(Vec::new()));
    let warned = Ok(vec![format!("would violate PodSecurity \"baseline:latest\": {WHY}")]);
    assert_eq!(said(level("warn", "baseline"), pods, "", privileged("i"), None).await, warned);
    let template = json!({"spec": {"template": privileged("i")}});
    assert_eq!(said(level("enforce", "baseline"), ("apps", "deployments"), "", template, None).await, warned);
    let cron = json!({"spec": {"jobTemplate": {"spec": {"template": privileged("i")}}}});
    assert_eq!(said(level("warn", "baseline"), ("batch", "cronjobs"), "", cron, None).await, warned);
    let none = json!({"spec": {"replicas": 0}});
    assert_eq!(said(level("warn", "baseline"), ("", "replicationcontrollers"), "", none, None).await, Ok(Vec::new()));
    assert_eq!(said(level("audit", "baseline"), pods, "", privileged("i"), None).await, Ok(Vec::new()));
}

#[tokio::test]
async fn of_a_pod_that_is_there_images_and_new_containers_count() {
    let (pods, old) = (("", "pods"), privileged("i"));
    let enforced = || level("enforce", "baseline");
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(said(enforced(), pods, "", labelled, Some(&old)).await, Ok(Vec::new()));
    assert!(said(enforced(), pods, "", privileged("other"), Some(&old)).await.is_err());
    let mut debugged = old.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    assert!(said(enforced(), pods, "ephemeralcontainers", debugged.clone(), Some(&old)).await.is_err());
    assert_eq!(said(enforced(), pods, "status", debugged, Some(&old)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn who_tightens_a_namespace_is_told_of_its_pods() {
    let namespaces = ("", "namespaces");
    let namespace = |labels: Value| json!({"metadata": {"name": "a", "labels": labels}});
    let (open, tight) = (namespace(json!({})), namespace(level("enforce", "restricted")));
    let warnings = said(json!({}), namespaces, "", tight.clone(), Some(&open)).await.unwrap();
    let all = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile";
    let wanted = [
        "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"restricted:latest\"".to_owned(),
        format!("p1 (and 1 other pod): {all}"),
        // It has no containers that could say something.
        "p3: host namespaces".to_owned(),
    ];
    assert_eq!(warnings, wanted);
    assert_eq!(said(json!({}), namespaces, "", open.clone(), Some(&tight)).await, Ok(Vec::new()), "it is loosened");
    let bad = said(json!({}), namespaces, "", namespace(level("enforce", "bogus")), Some(&open)).await.unwrap_err();
    let wanted = "Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"bogus\": must be one of privileged, baseline, restricted";
    assert_eq!(bad, wanted);
    assert!(said(json!({}), namespaces, "", namespace(level("warn", "x")), None).await.is_err());
    let still = namespace(level("enforce", "bogus"));
    assert_eq!(said(json!({}), namespaces, "", still.clone(), Some(&still)).await, Ok(Vec::new()), "it was so before");
}

#[test]
fn one_pod_of_each_controller_comes_first() {
    let pod = |name: &str, owner: &str| {
        let owners = json!([{"uid": owner, "controller": true}]);
        json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": {"hostPID": true}})
    };
    let pods = [pod("a1", "a"), pod("a2", "a"), pod("b1", "b")];
    let standard = Standard { level: Level::Baseline, minor: 30 };
    let looked = std::cell::Cell::new(0);
    let warnings = existing(&pods, "n", standard, || {
        looked.set(looked.get() + 1);
        looked.get() == 2
    });
    let wanted = [
        "new PodSecurity enforce level only checked against the first 2 of 3 existing pods",
        "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:v1.30\"",
        "a1 (and 1 other pod): host namespaces",
    ];
    assert_eq!(warnings, wanted);
}

#[test]
fn a_configuration_says_what_counts_where_nobody_says_anything() {
    let config = json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "restricted", "enforce-version": "v1.30", "warn": "baseline"},
        "exemptions": {"usernames": ["u"], "runtimeClasses": ["kata"], "namespaces": ["kube-system"]},
    });
    let plugin = PodSecurity::configured(&config).unwrap();
    let (policy, _) =
        plugin.labels(&json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "privileged"}}}));
    let shown = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
    assert_eq!(shown, "restricted:v1.30 privileged:latest privileged:latest");
    let user = testing::user();
    let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
    assert_eq!(plugin.exempt(&attributes, &json!({})), None);
    assert_eq!(plugin.exempt(&attributes, &json!({"spec": {"runtimeClassName": "kata"}})), Some("runtimeClass"));
    attributes.namespace = "kube-system";
    assert_eq!(plugin.exempt(&attributes, &json!({})), Some("namespace"));
    let mut wrong = config.clone();
    wrong["defaults"]["enforce"] = "strict".into();
    let why = PodSecurity::configured(&wrong).err().unwrap();
    assert!(why.contains("defaults.enforce: Invalid value: \"strict\""), "{why}");
    assert!(PodSecurity::configured(&json!({"kind": "Pod"})).is_err());
    // Such slips once left a cluster open without a word.
    for slip in [
        json!({"default": {"enforce": "restricted"}}),
        json!({"defaults": "restricted"}),
        json!({"defaults": {"enforce": 1}}),
        json!({"exemptions": {"users": ["u"]}}),
    ] {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(slip.as_object().unwrap().clone());
        assert!(PodSecurity::configured(&config).is_err(), "{slip}");
    }
}
