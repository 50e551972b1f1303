//! A kind with two versions that somebody else converts: every route waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use kedge_base::BoxFuture;
use kedge_kv::{Kv as _, Op, Txn};
use kedge_meta::{Reason, Status, Text};
use kedge_registry::convert::{Conversed, Conversion};
use kedge_registry::{Definition, Stored};
use kedge_schema::structural::Structural;
use kedge_schema::{ResourceInfo, SchemaRef};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, MERGE, Watch, defined};

const V1: &str = "/apis/example.org/v1/namespaces/test/boards";
const V2: &str = "/apis/example.org/v2/namespaces/test/boards";
const APPLY: &str = "application/apply-patch+yaml";

/// `v1` has `spec.size`, which `v2` calls `spec.width`; it is asked over a wire, so to say.
#[derive(Default)]
struct Elsewhere {
    asked: AtomicUsize,
    objects: AtomicUsize,
    down: AtomicBool,
}

impl Conversion for Elsewhere {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        Conversed::Waits(self.answer(objects, to))
    }

    fn waits(&self) -> bool {
        true
    }
}

impl Elsewhere {
    fn answer<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.objects.fetch_add(objects.len(), Ordering::SeqCst);
            // Not ready when it is first looked at.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.down.load(Ordering::SeqCst) {
                return Err(Status::failure(500, Reason::InternalError, "nobody converts"));
            }
            for object in objects.iter_mut().filter(|object| object["apiVersion"] != to) {
                let (old, new) = if to.ends_with("v2") { ("size", "width") } else { ("width", "size") };
                if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(old)) {
                    object["spec"][new] = value;
                }
                object["apiVersion"] = to.into();
            }
            Ok(())
        })
    }
}

fn version(version: &'static str, stored: &'static str) -> ResourceInfo {
    let field = if version == "v1" { "size" } else { "width" };
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        (field): {"type": "integer"}, "colour": {"type": "string"}, "shape": {"type": "string"}}}}});
    let definition = format!("org.example.{version}.Board").into();
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    ResourceInfo {
        group: Text::of("example.org"),
        version: Text::of(version),
        plural: Text::of("boards"),
        singular: Text::of("board"),
        kind: Text::of("Board"),
        list_kind: Text::of("BoardList"),
        namespaced: true,
        verbs: verbs.map(Text::of).to_vec(),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: Text::of("abc="),
        storage_prefix: Text::of("example.org/boards"),
        storage_group: Text::of("example.org"),
        storage_version: Text::of(stored),
        schema: SchemaRef::Structural(Arc::new(Structural::parse(definition, &schema).unwrap())),
        subresources: Vec::new(),
    }
}

fn definition(elsewhere: &Arc<Elsewhere>, stored: &'static str) -> Definition {
    Definition {
        versions: ["v1", "v2"].map(|name| defined(version(name, stored), Vec::new())).to_vec(),
        conversion: elsewhere.clone(),
        fields: Vec::new(),
        stored: Stored::default(),
    }
}

async fn serve(cluster: &Cluster, stored: &'static str) -> Arc<Elsewhere> {
    let elsewhere = Arc::new(Elsewhere::default());
    cluster.registry.add(definition(&elsewhere, stored)).await.unwrap();
    elsewhere
}

fn board(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.org/{version}"), "kind": "Board", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn every_verb_speaks_both_versions() {
    let cluster = Cluster::new().await;
    let elsewhere = serve(&cluster, "v1").await;
    let made = cluster.ok(V2, board("v2", "a", json!({"width": 3}))).await;
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("example.org/v2"), &json!({"width": 3})));
    assert!(elsewhere.asked.load(Ordering::SeqCst) > 0);
    assert_eq!(cluster.get(&format!("{V1}/a")).await["spec"], json!({"size": 3}));
    assert_eq!(cluster.get(&format!("{V2}/a")).await["spec"], json!({"width": 3}));
    // What is as it is stored costs nothing.
    let asked = elsewhere.asked.load(Ordering::SeqCst);
    cluster.get(&format!("{V1}/a")).await;
    cluster.get(V1).await;
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), asked);
    let (code, merged) = cluster.patch(&format!("{V2}/a"), MERGE, &json!({"spec": {"width": 4}})).await;
    assert_eq!((code, &merged["spec"]["width"]), (StatusCode::OK, &json!(4)));
    let mut put = board("v2", "a", json!({"width": 5}));
    // Custom resources are replaced in a version that is known.
    let (code, refused) = cluster.ask(Method::PUT, &format!("{V2}/a"), JSON, put.to_string()).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    put["metadata"]["resourceVersion"] = merged["metadata"]["resourceVersion"].clone();
    let (code, written) = cluster.ask(Method::PUT, &format!("{V2}/a"), JSON, put.to_string()).await;
    assert_eq!((code, &written["spec"]["width"]), (StatusCode::OK, &json!(5)), "{written}");
    assert_eq!(cluster.get(&format!("{V1}/a")).await["spec"]["size"], 5);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (code, _, bytes) = cluster.accepting(&format!("{V2}?includeObject=Object"), table, true).await;
    let rows: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((code, &rows["rows"][0]["object"]["spec"]["width"]), (StatusCode::OK, &json!(5)));
    let (code, _) = cluster.ask(Method::DELETE, &format!("{V2}/a"), JSON, "").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(cluster.ask(Method::GET, &format!("{V1}/a"), JSON, "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_and_watches_are_converted_some_objects_at_a_time() {
    let cluster = Cluster::new().await;
    let elsewhere = serve(&cluster, "v1").await;
    for n in 0..250 {
        cluster.ok(V1, board("v1", &format!("b-{n:03}"), json!({"size": n}))).await;
    }
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
    let list = cluster.get(V2).await;
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &list["apiVersion"]), (250, &json!("example.org/v2")));
    assert!((0..250).all(|n| items[n]["spec"] == json!({ "width": n }) && items[n]["kind"] == "Board"));
    assert_eq!((elsewhere.asked.load(Ordering::SeqCst), elsewhere.objects.load(Ordering::SeqCst)), (3, 250));
    let page = cluster.get(&format!("{V2}?limit=2")).await;
    assert_eq!((page["items"].as_array().unwrap().len(), page["metadata"]["continue"].is_string()), (2, true));
    assert_eq!(cluster.get(&format!("{V2}?labelSelector=a=b")).await["items"], json!([]));

    let (code, mut watch) =
        Watch::open(&cluster, &format!("{V2}?watch=true&allowWatchBookmarks=true&resourceVersion=0")).await;
    assert_eq!(code, StatusCode::OK);
    for n in 0..250 {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("ADDED"), &json!({ "width": n })));
    }
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    cluster.patch(&format!("{V1}/b-000"), MERGE, &json!({"spec": {"size": 7}})).await;
    cluster.ask(Method::DELETE, &format!("{V1}/b-000"), JSON, "").await;
    for wanted in ["MODIFIED", "DELETED"] {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["spec"]["width"]), (&json!(wanted), &json!(7)));
        assert_eq!(event["object"]["apiVersion"], "example.org/v2");
    }
    // What cannot be converted ends the watch with an error, and breaks a list off.
    elsewhere.down.store(true, Ordering::SeqCst);
    cluster.patch(&format!("{V1}/b-001"), MERGE, &json!({"spec": {"size": 7}})).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["message"]), (&json!("ERROR"), &json!("nobody converts")));
    assert!(watch.next().await.is_none());
    let (code, refused) = cluster.ask(Method::GET, &format!("{V2}/b-001"), JSON, "").await;
    assert_eq!((code.as_u16(), &refused["message"]), (500, &json!("nobody converts")));
    let (code, refused) = cluster.post(V2, &board("v2", "z", json!({"width": 1}))).await;
    assert_eq!((code.as_u16(), &refused["message"]), (500, &json!("nobody converts")));
    assert_eq!(cluster.ask(Method::GET, &format!("{V1}/z"), JSON, "").await.0, StatusCode::NOT_FOUND);
}

/// Fields are owned in the version in which they were written, and are the same fields in another one.
#[tokio::test]
async fn owners_of_both_versions_get_along() {
    let cluster = Cluster::new().await;
    serve(&cluster, "v1").await;
    let apply = async |path: &str, manager: &str, body: Value| {
        cluster.patch(&format!("{path}/a?fieldManager={manager}"), APPLY, &body).await
    };
    let (code, made) = apply(V1, "one", board("v1", "a", json!({"size": 1, "shape": "round"}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, both) = apply(V2, "two", board("v2", "a", json!({"width": 1, "colour": "red"}))).await;
    assert_eq!((code, &both["spec"]), (StatusCode::OK, &json!({"width": 1, "colour": "red", "shape": "round"})));
    let (code, refused) = apply(V2, "two", board("v2", "a", json!({"width": 2, "colour": "red"}))).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    let message = refused["message"].as_str().unwrap();
    // As upstream, in the words of the owner's version.
    assert!(message.contains("\"one\"") && message.contains(".spec.size"), "{message}");
    // Who applies less gives up what nobody else has.
    let (code, less) = apply(V1, "one", board("v1", "a", json!({"size": 1}))).await;
    assert_eq!((code, &less["spec"]), (StatusCode::OK, &json!({"size": 1, "colour": "red"})), "{less}");
    // An update in the other version takes a field away from its owner.
    let (code, merged) =
        cluster.patch(&format!("{V2}/a?fieldManager=three"), MERGE, &json!({"spec": {"width": 9}})).await;
    assert_eq!(code, StatusCode::OK, "{merged}");
    let owns = |manager: &str| {
        let entries = merged["metadata"]["managedFields"].as_array().unwrap();
        entries.iter().find(|entry| entry["manager"] == manager).map(|entry| entry["fieldsV1"].to_string())
    };
    assert!(owns("three").unwrap().contains("f:width"), "{merged}");
    assert!(owns("one").is_none_or(|fields| !fields.contains("f:size")), "{merged}");
    assert!(!owns("two").unwrap().contains("f:width") && owns("two").unwrap().contains("f:colour"), "{merged}");
}

/// The stored version has changed since: what is there is converted when it is read, and stored anew when it is written.
#[tokio::test]
async fn what_was_stored_in_another_version_is_read_and_renewed() {
    let cluster = Cluster::new().await;
    let key = "/registry/example.org/boards/test/old";
    let old = r#"{"apiVersion":"example.org/v1","kind":"Board","metadata":{"name":"old","namespace":"test","uid":"u"},"spec":{"size":8}}"#;
    let put = Op::Put { key: key.into(), value: old.into(), lease: 0 };
    cluster.kv.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    let elsewhere = serve(&cluster, "v2").await;
    cluster.ok(V2, board("v2", "new", json!({"width": 1}))).await;
    assert_eq!(cluster.get(&format!("{V2}/old")).await["spec"], json!({"width": 8}));
    assert_eq!(cluster.get(&format!("{V1}/old")).await["spec"], json!({"size": 8}));
    assert_eq!(cluster.get(&format!("{V1}/new")).await["spec"], json!({"size": 1}));
    let list = cluster.get(V2).await;
    let widths: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["spec"]["width"].clone()).collect();
    assert_eq!(widths, [json!(1), json!(8)]);
    // A write that changes nothing renews it all the same, once.
    let before = cluster.revision();
    let (code, same) = cluster.patch(&format!("{V2}/old"), MERGE, &json!({})).await;
    assert_eq!((code, &same["spec"]), (StatusCode::OK, &json!({"width": 8})));
    let stored = cluster.kv.get(key.as_bytes()).await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored.value).unwrap();
    assert_eq!((&stored["apiVersion"], &stored["spec"]), (&json!("example.org/v2"), &json!({"width": 8})));
    let renewed = cluster.revision();
    assert!(renewed > before);
    cluster.patch(&format!("{V2}/old"), MERGE, &json!({})).await;
    assert_eq!(cluster.revision(), renewed);
    let asked = elsewhere.asked.load(Ordering::SeqCst);
    cluster.get(&format!("{V2}/old")).await;
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), asked, "it is copied now");
}

/// A request that had found the kind when its storage version changed was told that there is no such thing: a garbage collector that believes
/// that deletes what it owns.
#[tokio::test]
async fn nobody_is_told_that_a_kind_is_gone_whose_storage_version_changes() {
    let cluster = Cluster::new().await;
    let elsewhere = serve(&cluster, "v1").await;
    for n in 0..150 {
        cluster.ok(V1, board("v1", &format!("b-{n:03}"), json!({"size": n}))).await;
    }
    // Kinds change until everybody has read some.
    let read = [(); 3].map(|()| AtomicUsize::new(0));
    let done = || read.iter().all(|read| read.load(Ordering::SeqCst) >= 10);
    let changes = async {
        for stored in ["v2", "v1"].into_iter().cycle().take_while(|_| !done()) {
            cluster.registry.serve(definition(&elsewhere, stored)).await.unwrap();
            // Whoever waited for this change goes on, and is overtaken by the next.
            tokio::task::yield_now().await;
        }
    };
    let reads = async |reader: usize, what: &str| {
        while !done() {
            let (code, answer) = cluster.ask(Method::GET, &format!("{V2}{what}"), JSON, "").await;
            assert_eq!(code, StatusCode::OK, "{answer}");
            read[reader].fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::join!(changes, reads(0, "/b-007"), reads(1, "?resourceVersion=0"), reads(2, "?limit=10"));
}
