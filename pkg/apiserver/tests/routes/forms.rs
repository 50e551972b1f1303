//! Every resource in every form in which it can be asked for.

use http::{Method, StatusCode};
use kedge_schema::encode::to_json;
use kedge_schema::{ResourceInfo, TypeId, defaults, encode, kind, normalize, protobuf};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, collection, objects, path, with_each};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What is in an envelope, as JSON would show it.
fn opened(bytes: &[u8]) -> Value {
    let envelope = protobuf::envelope(bytes).unwrap();
    let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
    let ty = kind(group, version, &envelope.kind).unwrap_or_else(|| panic!("{envelope:?}"));
    let mut value = protobuf::decode(ty, envelope.raw).unwrap();
    value["apiVersion"] = envelope.api_version.clone().into();
    value["kind"] = envelope.kind.clone().into();
    normalized(ty, value)
}

/// As everybody reads it: the type of an object within another is not in protobuf, and a default.
fn normalized(ty: TypeId, mut value: Value) -> Value {
    defaults::apply_type(ty, &mut value);
    normalize(ty, &mut value);
    value
}

/// Without what is drawn anew for every object.
fn alike(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| {
                !matches!(name.as_str(), "uid" | "creationTimestamp" | "managedFields" | "clusterIP" | "clusterIPs")
                    && !matches!(name.as_str(), "healthCheckNodePort" | "nodePort" | "lastPhaseTransitionTime")
            });
            map.values_mut().for_each(alike);
        }
        Value::Array(list) => list.iter_mut().for_each(alike),
        Value::String(text) if text.starts_with("kube-api-access-") => *text = "drawn".into(),
        Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => *text = "uid".into(),
        _ => {}
    }
}

fn list_type(info: &ResourceInfo) -> TypeId {
    kind(&info.group, &info.version, &info.list_kind).unwrap()
}

/// Creates an ordinary object of every kind.
async fn filled() -> (Cluster, Vec<(&'static ResourceInfo, String)>) {
    let cluster = Cluster::new().await;
    let mut places = Vec::new();
    for (info, object) in objects() {
        let (code, answer) = cluster.post(&collection(info), &object).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        places.push((info, path(info, &object)));
    }
    (cluster, places)
}

#[tokio::test]
async fn protobuf_says_what_json_says() {
    let (cluster, places) = filled().await;
    for (info, place) in places {
        let ty = info.schema.builtin().unwrap();
        let (code, form, bytes) = cluster.accepting(&place, PROTOBUF, true).await;
        assert_eq!((code, form.as_str()), (StatusCode::OK, PROTOBUF), "{place}");
        assert_eq!(opened(&bytes), normalized(ty, cluster.get(&place).await), "{place}");

        let all = collection(info);
        let (code, form, bytes) = cluster.accepting(&all, PROTOBUF, true).await;
        assert_eq!((code, form.as_str()), (StatusCode::OK, PROTOBUF), "{all}");
        let (mut list, mut json) = (opened(&bytes), cluster.get(&all).await);
        for list in [&mut list, &mut json] {
            list["metadata"]["resourceVersion"] = Value::Null;
        }
        for list in [&mut list, &mut json] {
            let items = list["items"].as_array_mut().unwrap();
            items.iter_mut().for_each(|item| *item = normalized(ty, item.take()));
        }
        assert_eq!(normalized(list_type(info), list), normalized(list_type(info), json), "{all}");

        let watched = format!("{all}?watch=true&resourceVersion=0");
        let (code, form, frame) = cluster.accepting(&watched, PROTOBUF, false).await;
        assert_eq!((code, form.as_str()), (StatusCode::OK, "application/vnd.kubernetes.protobuf;stream=watch"));
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 4, "{all}");
        let event = kind("", "v1", "WatchEvent").unwrap();
        let event = protobuf::decode(event, &frame[4..]);
        // The object of an event is in an envelope of its own, which is no JSON.
        assert!(event.is_err() && frame.windows(4).any(|bytes| bytes == protobuf::MAGIC), "{all}");
    }
}

#[tokio::test]
async fn what_is_sent_as_protobuf_is_what_is_sent_as_json() {
    let cluster = Cluster::new().await;
    with_each(async |info, object| {
        let ty = info.schema.builtin().unwrap();
        let body = encode::to_protobuf(ty, &info.api_version(), &info.kind, &object).unwrap();
        let place = format!("{}?dryRun=All", collection(info));
        let (code, from_protobuf) = cluster.ask(Method::POST, &place, PROTOBUF, body).await;
        assert_eq!(code, StatusCode::CREATED, "{from_protobuf}");
        let yaml = serde_yaml::to_string(&object).unwrap();
        let (code, from_yaml) = cluster.ask(Method::POST, &place, "application/yaml", yaml).await;
        assert_eq!(code, StatusCode::CREATED, "{from_yaml}");
        let (_, from_json) = cluster.ask(Method::POST, &place, JSON, object.to_string()).await;
        let plain = |mut value: Value| {
            alike(&mut value);
            normalized(ty, value)
        };
        assert_eq!(plain(from_protobuf), plain(from_json.clone()));
        assert_eq!(plain(from_yaml), plain(from_json));
        // What the tests after this one stand on.
        cluster.ok(&collection(info), object).await;
    })
    .await;
}

#[tokio::test]
async fn json_is_in_upstreams_order_and_ends_with_a_newline() {
    let (cluster, places) = filled().await;
    for (_, place) in places {
        for form in ["application/json", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"] {
            let (code, _, bytes) = cluster.accepting(&place, form, true).await;
            assert_eq!(code, StatusCode::OK);
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&bytes),
                String::from_utf8(to_json(&value).unwrap()).unwrap(),
                "{place}"
            );
            assert!(bytes.starts_with(b"{\"kind\":\""), "{place}");
        }
    }
}

#[tokio::test]
async fn tables_and_metadata_come_in_both_versions() {
    let (cluster, places) = filled().await;
    for (info, place) in places {
        let all = collection(info);
        for version in ["v1", "v1beta1"] {
            let form = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v={version}");
            for place in [&place, &all] {
                let (code, _, bytes) = cluster.accepting(place, &form("Table"), true).await;
                let table: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((code, &table["kind"]), (StatusCode::OK, &json!("Table")), "{place}: {table}");
                assert_eq!(table["apiVersion"], format!("meta.k8s.io/{version}"));
                let columns = table["columnDefinitions"].as_array().unwrap();
                assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns.len());
                assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
            }
            for (place, right, wrong) in [
                (&place, "PartialObjectMetadata", "PartialObjectMetadataList"),
                (&all, "PartialObjectMetadataList", "PartialObjectMetadata"),
            ] {
                let (code, _, bytes) = cluster.accepting(place, &form(right), true).await;
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((code, &value["kind"]), (StatusCode::OK, &json!(right)), "{place}");
                assert_eq!(value["apiVersion"], format!("meta.k8s.io/{version}"));
                let (code, ..) = cluster.accepting(place, &form(wrong), true).await;
                assert_eq!(code, StatusCode::NOT_ACCEPTABLE, "{place}");
                let protobuf = form(right).replace("application/json", PROTOBUF);
                let (code, _, bytes) = cluster.accepting(place, &protobuf, true).await;
                assert_eq!((code, &opened(&bytes)["kind"]), (StatusCode::OK, &json!(right)), "{place}");
            }
        }
    }
}

#[tokio::test]
async fn a_watch_tells_the_columns_once() {
    let cluster = Cluster::new().await;
    for name in ["a", "b"] {
        cluster.ok("/api/v1/namespaces/test/configmaps", json!({"metadata": {"name": name}})).await;
    }
    let place = "/api/v1/configmaps?watch=true&resourceVersion=0&timeoutSeconds=1";
    let (_, _, bytes) = cluster.accepting(place, "application/json;as=Table;g=meta.k8s.io;v=v1", true).await;
    let events: Vec<Value> =
        bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    let columns: Vec<_> = events.iter().map(|event| event["object"]["columnDefinitions"].is_array()).collect();
    assert_eq!(columns, [true, false]);
}

/// Errors are in the form that was asked for, and in lines of JSON when there is no such form.
#[tokio::test]
async fn errors_come_in_the_form_that_was_asked_for() {
    let cluster = Cluster::new().await;
    let place = "/api/v1/namespaces/test/configmaps/none";
    let (code, form, bytes) = cluster.accepting(place, PROTOBUF, true).await;
    assert_eq!((code, form.as_str()), (StatusCode::NOT_FOUND, PROTOBUF));
    assert_eq!(opened(&bytes)["reason"], "NotFound");
    let (_, form, bytes) = cluster.accepting(place, "application/yaml", true).await;
    assert_eq!(form, "application/yaml");
    assert_eq!(serde_yaml::from_slice::<Value>(&bytes).unwrap()["code"], 404);
    let (code, form, bytes) = cluster.accepting(place, "text/html", true).await;
    assert_eq!((code, form.as_str()), (StatusCode::NOT_ACCEPTABLE, JSON));
    assert!(bytes.starts_with(b"{\n  \"kind\": \"Status\""), "{bytes:?}");
    let (code, form, bytes) = cluster.accepting("/nowhere", JSON, true).await;
    assert_eq!((code, form.as_str()), (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"));
    assert_eq!(bytes, "404 page not found\n");
    let (code, form, bytes) = cluster.accepting("/api/v1", PROTOBUF, true).await;
    assert_eq!((code, form.as_str()), (StatusCode::OK, PROTOBUF));
    assert_eq!(opened(&bytes)["groupVersion"], "v1");
}
