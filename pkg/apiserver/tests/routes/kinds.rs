//! What is stored under a resource is of its kind, whatever a patch says; and what a patch may not say.

use http::{Method, StatusCode};
use kedge_meta::GroupResource;
use serde_json::json;

use crate::followers::definition;
use crate::support::{Cluster, JSON, JSON_PATCH, MERGE, NAMESPACE, STRATEGIC, collection, path, with_each};

/// Once any patch could make a node of anything, and everybody who watched was shown one.
#[tokio::test]
async fn no_patch_stores_another_kind() {
    let cluster = Cluster::new().await;
    with_each(async |info, object| {
        let created = cluster.ok(&collection(info), object).await;
        let at = path(info, &created);
        let merge = json!({"kind": "Namespace", "apiVersion": "v1"});
        let ops = json!([{"op": "replace", "path": "/kind", "value": "Namespace"}]);
        for sub in ["", "/status", "/scale"] {
            if !sub.is_empty() && info.subresource(&sub[1..]).is_none() {
                continue;
            }
            for (kind, patch) in [(MERGE, &merge), (JSON_PATCH, &ops)] {
                let (code, answer) = cluster.patch(&format!("{at}{sub}"), kind, patch).await;
                assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{at}{sub} {kind}: {answer}");
                assert_eq!(answer["details"]["causes"][0]["field"], "patch", "{answer}");
            }
            let (code, answer) = cluster.patch(&format!("{at}{sub}"), STRATEGIC, &merge).await;
            assert_eq!(code, StatusCode::OK, "{at}{sub}: {answer}");
        }
        assert_eq!(cluster.get(&at).await, created, "nothing has changed");
    })
    .await;
}

/// The rules of metadata hold for each kind and form of patch.
#[tokio::test]
async fn no_patch_changes_what_an_object_is() {
    let cluster = Cluster::new().await;
    with_each(async |info, object| {
        let created = cluster.ok(&collection(info), object).await;
        let at = path(info, &created);
        let name = created["metadata"]["name"].as_str().unwrap();
        for (field, value, code, said) in [
            ("uid", json!("other"), 422, "metadata.uid: Invalid value: \"other\": field is immutable".to_owned()),
            (
                "name",
                json!("other"),
                400,
                format!("the name of the object (other) does not match the name on the URL ({name})"),
            ),
            (
                "deletionTimestamp",
                json!("2026-01-01T00:00:00Z"),
                422,
                "metadata.deletionTimestamp: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable".to_owned(),
            ),
            (
                "deletionGracePeriodSeconds",
                json!(5),
                422,
                "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable".to_owned(),
            ),
            ("resourceVersion", json!("1"), 409, "the object has been modified".to_owned()),
        ] {
            let merge = json!({"metadata": {field: value}});
            let ops = json!([{"op": "add", "path": format!("/metadata/{field}"), "value": value}]);
            for (kind, patch) in [(MERGE, &merge), (STRATEGIC, &merge), (JSON_PATCH, &ops)] {
                let (got, answer) = cluster.patch(&at, kind, patch).await;
                assert_eq!(got.as_u16(), code, "{at} {kind} {field}: {answer}");
                assert!(answer["message"].as_str().unwrap().contains(&said), "{at} {kind}: {answer}");
            }
        }
        let merge = json!({"metadata": {"namespace": "other"}});
        let (code, answer) = cluster.patch(&at, MERGE, &merge).await;
        let wanted = if info.namespaced { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        assert_eq!(code, wanted, "{at}: {answer}");
        // The time of creation is put back without a word.
        let (code, answer) =
            cluster.patch(&at, MERGE, &json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z"}})).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(cluster.get(&at).await, created, "nothing has changed");
        let mut other = created.clone();
        other["metadata"]["uid"] = "other".into();
        let (code, answer) = cluster.ask(Method::PUT, &at, JSON, other.to_string()).await;
        assert_eq!(code, StatusCode::CONFLICT, "{at}: a PUT is meant for one life of an object: {answer}");
    })
    .await;
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused_in_upstreams_words() {
    let cluster = Cluster::new().await;
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    for (body, said) in [
        (
            r#"{"kind":"Node"}"#,
            "Node in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Node) to (core.ConfigMap): unknown conversion",
        ),
        (
            r#"{"kind":"X"}"#,
            "X in version \"v1\" cannot be handled as a ConfigMap: no kind \"X\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            r#"{"apiVersion":"v2"}"#,
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            "nonsense",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ",
        ),
    ] {
        let (code, answer) = cluster.ask(Method::POST, &maps, JSON, body).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{body}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with(said), "{body}: {message}");
    }
}

/// CVE-2019-11247: whoever had rights in one namespace could once reach the cluster's objects of a kind through it.
#[tokio::test]
async fn a_kind_is_asked_for_in_its_scope_alone() {
    let cluster = Cluster::new().await;
    let (within, without) = ("/apis/example.com/v1/namespaces/test/widgets", "/apis/example.com/v1/widgets");
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    for (namespaced, right, wrong) in [(false, without, within), (true, within, without)] {
        cluster.registry.add(definition(namespaced)).await.unwrap();
        cluster.ok(right, object.clone()).await;
        for method in [Method::GET, Method::DELETE] {
            let (code, said) = cluster.ask(method, &format!("{wrong}/w"), JSON, "").await;
            assert_eq!(code, StatusCode::NOT_FOUND, "{said}");
        }
        assert_eq!(
            cluster.post(wrong, &object).await.0,
            if namespaced { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::NOT_FOUND }
        );
        assert_eq!(cluster.ask(Method::DELETE, &format!("{right}/w"), JSON, "").await.0, StatusCode::OK);
        cluster.registry.remove(&GroupResource::new("example.com", "widgets")).await.unwrap();
    }
}
