//! A dry run answers as the real one would, and stores nothing, whichever way it is asked to write.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, JSON_PATCH, MERGE, NAMESPACE, STRATEGIC, collection, objects, path, with_each};

const ALL: &str = "dryRun=All";

/// Makes a write as a dry run, which must succeed and leave the store as it is; and with an option that does not exist,
/// which must be refused.
async fn dry(cluster: &Cluster, method: Method, path: &str, kind: &str, body: &Value) {
    let before = cluster.revision();
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let (code, answer) = cluster.ask(method.clone(), &format!("{path}?{ALL}"), kind, text.clone()).await;
    assert!(code.is_success(), "{method} {path}: {answer}");
    assert_eq!(cluster.revision(), before, "{method} {path} as a dry run wrote");
    for wrong in ["dryRun=all", "dryRun=", "dryRun=All&dryRun=Some"] {
        let (code, answer) = cluster.ask(method.clone(), &format!("{path}?{wrong}"), kind, text.clone()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{method} {path} {wrong}: {answer}");
        assert_eq!(answer["details"]["causes"][0]["field"], "dryRun", "{answer}");
        assert_eq!(cluster.revision(), before, "{method} {path} with {wrong} wrote");
    }
}

#[tokio::test]
async fn no_write_of_an_object_is_stored() {
    let cluster = Cluster::new().await;
    let mut seen = std::collections::BTreeSet::new();
    with_each(async |info, object| {
        dry(&cluster, Method::POST, &collection(info), JSON, &object).await;
        let created = cluster.ok(&collection(info), object.clone()).await;
        let at = path(info, &created);
        let mut labelled = created.clone();
        labelled["metadata"]["labels"] = json!({"dry": "run"});
        let ops = json!([{"op": "add", "path": "/metadata/labels", "value": {"dry": "run"}}]);
        let merge = json!({"metadata": {"labels": {"dry": "run"}}});
        dry(&cluster, Method::PUT, &at, JSON, &labelled).await;
        dry(&cluster, Method::PATCH, &at, JSON_PATCH, &ops).await;
        dry(&cluster, Method::PATCH, &at, MERGE, &merge).await;
        dry(&cluster, Method::PATCH, &at, STRATEGIC, &merge).await;
        let put = |sub: &str| info.subresource(sub).is_some_and(|sub| sub.verbs.iter().any(|v| *v == "update"));
        for sub in ["status", "approval", "finalize", "ephemeralcontainers", "resize"].into_iter().filter(|s| put(s)) {
            seen.insert(sub);
            let body = if sub == "status" { &labelled } else { &created };
            dry(&cluster, Method::PUT, &format!("{at}/{sub}"), JSON, body).await;
            if info.subresource(sub).is_some_and(|sub| sub.verbs.iter().any(|v| *v == "patch")) {
                dry(&cluster, Method::PATCH, &format!("{at}/{sub}"), MERGE, &merge).await;
            }
        }
        if put("scale") {
            seen.insert("scale");
            let mut scale = cluster.get(&format!("{at}/scale")).await;
            scale["spec"]["replicas"] = 7.into();
            dry(&cluster, Method::PUT, &format!("{at}/scale"), JSON, &scale).await;
            dry(&cluster, Method::PATCH, &format!("{at}/scale"), MERGE, &json!({"spec": {"replicas": 7}})).await;
        }
        dry(&cluster, Method::DELETE, &at, JSON, &Value::Null).await;
        let before = cluster.revision();
        let (code, answer) = cluster.ask(Method::DELETE, &at, JSON, json!({"dryRun": ["All"]}).to_string()).await;
        assert!(code.is_success(), "{answer}");
        let (code, answer) = cluster.ask(Method::DELETE, &at, JSON, json!({"dryRun": ["Some"]}).to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(cluster.revision(), before, "DELETE {at} wrote");
        if info.verbs.iter().any(|v| *v == "deletecollection") {
            dry(&cluster, Method::DELETE, &collection(info), JSON, &Value::Null).await;
        }
    })
    .await;
    // The table has no approvals and finalizations among its objects.
    for sub in ["status", "ephemeralcontainers", "resize", "scale"] {
        assert!(seen.contains(sub), "{sub} was not tried: {seen:?}");
    }
}

#[tokio::test]
async fn nothing_is_stored_by_what_is_no_write_of_an_object() {
    let cluster = Cluster::new().await;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.ok(&pods, pod).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    dry(&cluster, Method::POST, &format!("{pods}/p/binding"), JSON, &binding).await;
    dry(&cluster, Method::POST, &format!("/api/v1/namespaces/{NAMESPACE}/bindings"), JSON, &binding).await;
    dry(&cluster, Method::POST, &format!("{pods}/p/eviction"), JSON, &json!({"metadata": {"name": "p"}})).await;
    let token = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token");
    dry(&cluster, Method::POST, &token, JSON, &json!({})).await;
    for (group, plural, spec) in [
        ("authentication", "tokenreviews", json!({"token": "x"})),
        ("authentication", "selfsubjectreviews", json!({})),
        ("authorization", "selfsubjectaccessreviews", json!({"nonResourceAttributes": {"path": "/", "verb": "get"}})),
        ("authorization", "selfsubjectrulesreviews", json!({"namespace": NAMESPACE})),
        (
            "authorization",
            "subjectaccessreviews",
            json!({"user": "u", "nonResourceAttributes": {"path": "/", "verb": "get"}}),
        ),
    ] {
        let review = if spec == json!({}) { json!({}) } else { json!({ "spec": spec }) };
        dry(&cluster, Method::POST, &format!("/apis/{group}.k8s.io/v1/{plural}"), JSON, &review).await;
    }
    let namespace = cluster.get(&format!("/api/v1/namespaces/{NAMESPACE}")).await;
    let finalize = format!("/api/v1/namespaces/{NAMESPACE}/finalize");
    dry(&cluster, Method::PUT, &finalize, JSON, &json!({"metadata": {"name": NAMESPACE}, "spec": {}})).await;
    assert_eq!(cluster.get(&format!("/api/v1/namespaces/{NAMESPACE}")).await, namespace);
    dry(&cluster, Method::DELETE, &format!("/api/v1/namespaces/{NAMESPACE}"), JSON, &Value::Null).await;
}

/// A PUT may create.
#[tokio::test]
async fn a_put_that_would_create_does_not() {
    let cluster = Cluster::new().await;
    let mut tried = 0;
    for (info, mut object) in objects() {
        object["metadata"]["name"] = object["metadata"]["name"].as_str().unwrap().to_lowercase().into();
        let before = cluster.revision();
        let at = format!("{}?{ALL}", path(info, &object));
        let (code, answer) = cluster.ask(Method::PUT, &at, JSON, object.to_string()).await;
        assert!(code == StatusCode::CREATED || code == StatusCode::NOT_FOUND, "{at}: {answer}");
        assert_eq!(cluster.revision(), before, "PUT {at} wrote");
        tried += usize::from(code == StatusCode::CREATED);
    }
    assert!(tried > 3, "kinds that a PUT creates: {tried}");
}

/// Who may only change what is there makes nothing by changing what is not.
#[tokio::test]
async fn a_put_that_creates_needs_the_right_to_create() {
    let cluster = Cluster::new().await;
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["update"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    cluster.ok("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"}],
        "roleRef": {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "r"}});
    cluster.ok("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let user = kedge_meta::UserInfo::new("u", &[]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let services = format!("/api/v1/namespaces/{NAMESPACE}/services");
    let put = || cluster.ask_as(&user, Method::PUT, "/api/v1/namespaces/test/services/s", JSON, service.to_string());
    let (code, answer) = put().await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("cannot create resource \"services\""), "{answer}");
    cluster.ok(&services, service.clone()).await;
    let (code, answer) = put().await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}
