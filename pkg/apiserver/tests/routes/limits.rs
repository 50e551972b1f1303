//! Limits of namespaces, as clients meet them: ranges, quotas, security standards, classes of runtimes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, MERGE, NAMESPACE};

fn at(rest: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{rest}")
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

/// A quota that its controller has seen with nothing used.
async fn quota(cluster: &Cluster, name: &str, hard: Value) {
    cluster.ok(&at("resourcequotas"), json!({"metadata": {"name": name}, "spec": {"hard": hard}})).await;
    let used: serde_json::Map<String, Value> =
        hard.as_object().unwrap().keys().map(|resource| (resource.clone(), "0".into())).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    let (code, answer) = cluster.patch(&at(&format!("resourcequotas/{name}/status")), MERGE, &status).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

async fn used(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&at(&format!("resourcequotas/{name}"))).await["status"]["used"].clone()
}

/// The refusal's message.
async fn refused(cluster: &Cluster, path: &str, object: &Value) -> String {
    let (code, answer) = cluster.post(path, object).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

/// Limits that a range sets count for a quota: it is asked last.
#[tokio::test]
async fn defaults_of_a_range_are_charged_to_a_quota() {
    let cluster = Cluster::new().await;
    quota(&cluster, "q", json!({"requests.cpu": "1", "pods": "5"})).await;
    let said = refused(&cluster, &at("pods"), &pod("p", json!({}))).await;
    assert_eq!(said, "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    let limits = json!([{"type": "Container", "default": {"cpu": "800m"}, "max": {"cpu": "1"}}]);
    cluster.ok(&at("limitranges"), json!({"metadata": {"name": "r"}, "spec": {"limits": limits}})).await;
    let made = cluster.ok(&at("pods"), pod("p", json!({}))).await;
    let given = json!({"requests": {"cpu": "800m"}, "limits": {"cpu": "800m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], given, "a default is a request as well");
    assert_eq!(used(&cluster, "q").await, json!({"requests.cpu": "800m", "pods": "1"}));
    let said = refused(&cluster, &at("pods"), &pod("p2", json!({}))).await;
    let wanted = "exceeded quota: q, requested: requests.cpu=800m, used: requests.cpu=800m, limited: requests.cpu=1";
    assert!(said.ends_with(wanted), "{said}");
    let said = refused(&cluster, &at("pods"), &pod("p3", json!({"limits": {"cpu": "2"}}))).await;
    assert!(said.ends_with("maximum cpu usage per Container is 1, but limit is 2"), "{said}");
    // What is not stored is not charged: it is refused before, or is a dry run.
    let small = pod("p4", json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "100m"}}));
    let (code, answer) = cluster.post(&at("pods?dryRun=All"), &small).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let mut wrong = small.clone();
    wrong["spec"]["containers"][0]["image"] = "".into();
    assert_eq!(cluster.post(&at("pods"), &wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(used(&cluster, "q").await["pods"], "1");
}

#[tokio::test]
async fn objects_of_any_kind_can_be_counted() {
    let cluster = Cluster::new().await;
    quota(&cluster, "q", json!({"count/roles.rbac.authorization.k8s.io": "1", "services.nodeports": "1"})).await;
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles");
    cluster.ok(&roles, json!({"metadata": {"name": "a"}})).await;
    let said = refused(&cluster, &roles, &json!({"metadata": {"name": "b"}})).await;
    assert!(said.contains("exceeded quota: q, requested: count/roles.rbac.authorization.k8s.io=1"), "{said}");
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 80}, {"port": 81, "name": "b"}]}});
    let mut two = service("ClusterIP");
    two["spec"]["ports"][0]["name"] = "a".into();
    cluster.ok(&at("services"), two).await;
    let (code, answer) = cluster.patch(&at("services/s"), MERGE, &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("requested: services.nodeports=2"), "{answer}");
}

#[tokio::test]
async fn security_standards_and_runtime_classes() {
    let cluster = Cluster::new().await;
    let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    assert_eq!(cluster.patch(&namespace, MERGE, &label("baseline")).await.0, StatusCode::OK);
    let (code, answer) = cluster.patch(&namespace, MERGE, &label("bogus")).await;
    assert_eq!((code, &answer["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("Invalid")));
    let mut bad = pod("", json!({}));
    bad["metadata"] = json!({"generateName": "web-"});
    bad["spec"]["hostNetwork"] = true.into();
    let said = refused(&cluster, &at("pods"), &bad).await;
    assert!(said.starts_with("pods \"web-") && said.ends_with("host namespaces (hostNetwork=true)"), "{said}");
    let mut classed = pod("p", json!({}));
    classed["spec"]["runtimeClassName"] = "c".into();
    let said = refused(&cluster, &at("pods"), &classed).await;
    assert_eq!(said, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"c\" not found");
    let class = json!({"metadata": {"name": "c"}, "handler": "h", "overhead": {"podFixed": {"cpu": "10m"}}});
    cluster.ok("/apis/node.k8s.io/v1/runtimeclasses", class).await;
    let made = cluster.ok(&at("pods"), classed).await;
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "10m"}));
}

#[tokio::test]
async fn claims_are_held_and_get_a_class() {
    let cluster = Cluster::new().await;
    let metadata = json!({"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
    cluster.ok("/apis/storage.k8s.io/v1/storageclasses", json!({"metadata": metadata, "provisioner": "p"})).await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let made = cluster.ok(&at("persistentvolumeclaims"), json!({"metadata": {"name": "c"}, "spec": spec})).await;
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (code, answer) = cluster.patch(&at("persistentvolumeclaims/c"), MERGE, &grow).await;
    assert!(code.is_client_error(), "{answer}");
    let (code, _) = cluster.ask(Method::DELETE, &at("persistentvolumeclaims/c"), JSON, "").await;
    assert_eq!(code, StatusCode::OK);
    let claim = cluster.get(&at("persistentvolumeclaims/c")).await;
    assert!(claim["metadata"]["deletionTimestamp"].is_string(), "it waits for its controller: {claim}");
}
