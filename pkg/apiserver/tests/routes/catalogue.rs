//! A kind that only this test knows comes and goes while the server is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Method, StatusCode};
use kedge_meta::{GroupResource, Text};
use kedge_registry::convert::Renamed;
use kedge_registry::{ChangeError, Definition, Stored};
use kedge_schema::structural::Structural;
use kedge_schema::{ResourceInfo, SchemaRef};
use kedge_storage::Field;
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, JSON_PATCH, MERGE, STRATEGIC, Watch, defined};

const THINGS: &str = "/apis/example.org/v1/namespaces/test/things";

fn schema(version: &str) -> SchemaRef {
    let schema = json!({"type": "object", "description": "A thing of the test.", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "description": "How large it is."},
            "colour": {"type": "string", "default": "blue"},
        }},
    }});
    let definition = format!("org.example.{version}.Thing").into();
    SchemaRef::Structural(Arc::new(Structural::parse(definition, &schema).unwrap()))
}

fn version(version: &'static str) -> ResourceInfo {
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    ResourceInfo {
        group: Text::of("example.org"),
        version: Text::of(version),
        plural: Text::of("things"),
        singular: Text::of("thing"),
        kind: Text::of("Thing"),
        list_kind: Text::of("ThingList"),
        namespaced: true,
        verbs: verbs.map(Text::of).to_vec(),
        short_names: vec![Text::of("th")],
        categories: Vec::new(),
        storage_version_hash: Text::of("abc="),
        storage_prefix: Text::of("example.org/things"),
        storage_group: Text::of("example.org"),
        storage_version: Text::of("v1"),
        schema: schema(version),
        subresources: Vec::new(),
    }
}

fn definition() -> Definition {
    Definition {
        versions: ["v1", "v1beta1"].map(|name| defined(version(name), vec![Text::of("spec.colour")])).to_vec(),
        conversion: Arc::new(Renamed),
        fields: vec![Field { path: Text::of("spec.colour"), zero: Text::default() }],
        stored: Stored::default(),
    }
}

fn things() -> GroupResource {
    GroupResource::new("example.org", "things")
}

fn thing(name: &str, size: Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"size": size}})
}

/// Uses built-in kinds until it is stopped; any answer that is no success counts.
async fn traffic(cluster: Arc<Cluster>, name: String, stop: Arc<AtomicBool>, failed: Arc<AtomicUsize>) -> usize {
    let all = "/api/v1/namespaces/test/configmaps";
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let created = cluster.post(all, &json!({"metadata": {"name": name}, "data": {"a": "b"}})).await.0;
        let one = format!("{all}/{name}");
        let mut codes = vec![created];
        for (method, path, body) in [
            (Method::GET, one.as_str(), ""),
            (Method::GET, all, ""),
            (Method::GET, "/apis", ""),
            (Method::PATCH, one.as_str(), r#"{"data":{"a":"c"}}"#),
            (Method::DELETE, one.as_str(), ""),
        ] {
            let kind = if method == Method::PATCH { MERGE } else { JSON };
            codes.push(cluster.ask(method, path, kind, body).await.0);
        }
        failed.fetch_add(codes.iter().filter(|code| !code.is_success()).count(), Ordering::SeqCst);
        done += 1;
    }
    done
}

async fn is_discovered(cluster: &Cluster) {
    let groups = cluster.get("/apis").await;
    let group = groups["groups"].as_array().unwrap().iter().find(|g| g["name"] == "example.org").unwrap();
    assert_eq!((group["versions"].as_array().unwrap().len(), &group["preferredVersion"]["version"]), (2, &json!("v1")));
    let list = cluster.get("/apis/example.org/v1").await;
    assert_eq!(
        (&list["resources"][0]["name"], &list["resources"][0]["shortNames"]),
        (&json!("things"), &json!(["th"]))
    );
    let index = cluster.get("/openapi/v3").await;
    assert!(index["paths"]["apis/example.org/v1"].is_object());
    let document = cluster.get("/openapi/v3/apis/example.org/v1").await;
    let explained = &document["components"]["schemas"]["org.example.v1.Thing"];
    assert_eq!(explained["description"], "A thing of the test.");
    assert_eq!(explained["properties"]["spec"]["properties"]["size"]["description"], "How large it is.");
    assert!(document["paths"]["/apis/example.org/v1/namespaces/{namespace}/things/{name}"]["patch"].is_object());
}

async fn is_written_and_watched(cluster: &Cluster) {
    let (code, mut watch) = Watch::open(cluster, &format!("{THINGS}?watch=true&fieldSelector=spec.colour=red")).await;
    assert_eq!(code, StatusCode::OK);
    let mut sent = thing("a", json!(1));
    sent["spec"]["unknown"] = json!(true);
    let (code, refused) = cluster.post(&format!("{THINGS}?fieldValidation=Strict"), &sent).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(refused["message"].as_str().unwrap().contains(r#"unknown field "spec.unknown""#), "{refused}");
    let made = cluster.ok(THINGS, sent).await;
    assert_eq!(made["spec"], json!({"size": 1, "colour": "blue"}), "pruned and defaulted");
    let (code, refused) = cluster.post(THINGS, &thing("b", json!("large"))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.size", "{refused}");
    for name in ["b", "c", "d", "e"] {
        cluster.ok(THINGS, thing(name, json!(2))).await;
    }
    let page = cluster.get(&format!("{THINGS}?limit=2")).await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["kind"]), (2, &json!("ThingList")));
    let rest = page["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.get(&format!("{THINGS}?limit=9&continue={rest}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
    let one = format!("{THINGS}/a");
    let merged = cluster.patch(&one, MERGE, &json!({"spec": {"colour": "red"}})).await;
    assert_eq!((merged.0, &merged.1["spec"]["colour"]), (StatusCode::OK, &json!("red")));
    let operations = json!([{"op": "replace", "path": "/spec/size", "value": 7}]);
    assert_eq!(cluster.patch(&one, JSON_PATCH, &operations).await.0, StatusCode::OK);
    assert_eq!(cluster.patch(&one, STRATEGIC, &json!({})).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let other = cluster.get("/apis/example.org/v1beta1/namespaces/test/things/a").await;
    assert_eq!((&other["apiVersion"], &other["spec"]["size"]), (&json!("example.org/v1beta1"), &json!(7)));
    let blue = cluster.get(&format!("{THINGS}?fieldSelector=spec.colour=blue")).await;
    assert_eq!(blue["items"].as_array().unwrap().len(), 4);
    // It began to match, changed, and is deleted.
    let (code, _) = cluster.ask(Method::DELETE, &one, JSON, "").await;
    assert_eq!(code, StatusCode::OK);
    for wanted in ["ADDED", "MODIFIED", "DELETED"] {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(wanted), &json!("a")));
    }
}

async fn is_gone(cluster: &Cluster) {
    for path in [THINGS, "/apis/example.org/v1", "/apis/example.org", "/openapi/v3/apis/example.org/v1"] {
        let (code, _) = cluster.ask(Method::GET, path, JSON, "").await;
        assert_eq!(code, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(cluster.post(THINGS, &thing("z", json!(1))).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kind_comes_and_goes_under_traffic() {
    let cluster = Arc::new(Cluster::new().await);
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let users: Vec<_> = (0..3)
        .map(|n| tokio::spawn(traffic(cluster.clone(), format!("user-{n}"), stop.clone(), failed.clone())))
        .collect();
    is_gone(&cluster).await;
    let mut old_version = String::new();
    for round in 0..10 {
        cluster.registry.add(definition()).await.unwrap();
        assert!(matches!(cluster.registry.add(definition()).await, Err(ChangeError::Taken(_))));
        let before = cluster.get(THINGS).await;
        assert_eq!(before["items"], json!([]), "nothing is left of round {round} before");
        if round > 0 {
            let (_, mut stale) =
                Watch::open(&cluster, &format!("{THINGS}?watch=true&resourceVersion={old_version}")).await;
            let event = stale.next().await.unwrap();
            assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
        }
        is_discovered(&cluster).await;
        is_written_and_watched(&cluster).await;
        let (_, mut watch) = Watch::open(&cluster, &format!("{THINGS}?watch=true&resourceVersion=0")).await;
        old_version = cluster.get(THINGS).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        cluster.registry.remove(&things()).await.unwrap();
        assert!(matches!(cluster.registry.remove(&things()).await, Err(ChangeError::Unknown(_))));
        is_gone(&cluster).await;
        let mut seen = Vec::new();
        while let Some(event) = watch.next().await {
            seen.push(event["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(
            seen.iter().filter(|kind| *kind == "DELETED").count(),
            4,
            "all are told to go, then the watch ends: {seen:?}"
        );
        assert!(!seen.contains(&"ERROR".to_owned()), "{seen:?}");
    }
    stop.store(true, Ordering::SeqCst);
    for user in users {
        assert!(user.await.unwrap() > 0);
    }
    assert_eq!(failed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn built_in_kinds_stay_as_they_are() {
    let cluster = Cluster::new().await;
    let pods = GroupResource::new("", "pods");
    assert!(matches!(cluster.registry.remove(&pods).await, Err(ChangeError::Unknown(_))));
    let mut taken = definition();
    taken.versions.iter_mut().for_each(|info| info.info.group = Text::of("apps"));
    assert!(matches!(cluster.registry.add(taken).await, Err(ChangeError::BuiltInGroup(_))));
    cluster.get("/api/v1/pods").await;
}
