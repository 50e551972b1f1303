//! Who owns which fields, through every route that writes; and server-side apply.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Cluster, JSON, MERGE, NAMESPACE, collection, path, with_each};

const APPLY: &str = "application/apply-patch+yaml";
const MAPS: &str = "/api/v1/namespaces/test/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/test/deployments";

async fn apply(cluster: &Cluster, path: &str, manager: &str, body: &Value) -> (StatusCode, Value) {
    cluster.patch(&format!("{path}?fieldManager={manager}"), APPLY, body).await
}

fn entries(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

/// The entry of a manager.
fn entry(object: &Value, manager: &str) -> Value {
    entries(object).into_iter().find(|entry| entry["manager"] == manager).unwrap_or_default()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// Every kind is tracked, and can be applied: by somebody else who wants the same, without a write of anything but that.
#[tokio::test]
async fn every_kind_has_owners_and_can_be_applied() {
    let cluster = Cluster::new().await;
    with_each(async |info, object| {
        let (code, created) = cluster.post(&format!("{}?fieldManager=creator", collection(info)), &object).await;
        assert_eq!(code, StatusCode::CREATED, "{created}");
        let own = entry(&created, "creator");
        let has_fields = object
            .as_object()
            .unwrap()
            .keys()
            .any(|key| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        // The request in a signing request is nobody's: it cannot be changed.
        if has_fields && info.kind != "CertificateSigningRequest" {
            assert_eq!((&own["operation"], &own["fieldsType"]), (&json!("Update"), &json!("FieldsV1")), "{created}");
            assert_eq!(own["apiVersion"], info.api_version(), "{created}");
            let metadata = own["fieldsV1"]["f:metadata"].as_object().cloned().unwrap_or_default();
            for nobodys in ["f:name", "f:namespace", "f:uid", "f:creationTimestamp", "f:managedFields", "f:generation"]
            {
                assert!(!metadata.contains_key(nobodys), "{created}");
            }
        }
        let at = path(info, &created);
        // What was written is written again: no owner, no time and no version changes.
        let (code, same) =
            cluster.ask(Method::PUT, &format!("{at}?fieldManager=creator"), JSON, created.to_string()).await;
        assert_eq!(code, StatusCode::OK, "{same}");
        assert_eq!(same["metadata"], created["metadata"], "{}", info.plural);
        let mut wanted = json!({"apiVersion": info.api_version(), "kind": info.kind.to_string(),
            "metadata": {"name": created["metadata"]["name"], "labels": {"applied": "yes"}}});
        let (code, applied) = apply(&cluster, &at, "me", &wanted).await;
        assert_eq!(code, StatusCode::OK, "{applied}");
        let own = entry(&applied, "me");
        assert_eq!(
            (&own["operation"], &own["fieldsV1"]),
            (&json!("Apply"), &json!({"f:metadata": {"f:labels": {"f:applied": {}}}}))
        );
        let (_, again) = apply(&cluster, &at, "me", &wanted).await;
        assert_eq!(again, applied, "{}", info.plural);
        wanted["metadata"].as_object_mut().unwrap().remove("labels");
        let (code, gone) = apply(&cluster, &at, "me", &wanted).await;
        assert_eq!(code, StatusCode::OK, "{gone}");
        assert_eq!((gone["metadata"]["labels"].get("applied"), entry(&gone, "me")), (None, Value::Null), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn what_is_applied_is_made_changed_and_fought_over() {
    let cluster = Cluster::new().await;
    let at = format!("{MAPS}/m");
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let before = cluster.revision();
    let (code, _) = cluster.patch(&format!("{at}?fieldManager=one&dryRun=All"), APPLY, &map(json!({"a": "1"}))).await;
    assert_eq!((code, cluster.revision()), (StatusCode::CREATED, before), "a dry run stores nothing");
    let (code, made) = apply(&cluster, &at, "one", &map(json!({"a": "1"}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata: {a: \"1\", b: \"2\"}\n";
    let (code, more) = cluster.ask(Method::PATCH, &format!("{at}?fieldManager=one"), APPLY, yaml).await;
    assert_eq!((code, &more["data"]), (StatusCode::OK, &json!({"a": "1", "b": "2"})));
    let (code, refused) = apply(&cluster, &at, "two", &map(json!({"a": "9", "b": "2"}))).await;
    assert_eq!((code, &refused["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    assert_eq!(refused["message"], "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"});
    assert_eq!(refused["details"], json!({"causes": [cause]}));
    let (code, forced) =
        cluster.patch(&format!("{at}?fieldManager=two&force=true"), APPLY, &map(json!({"a": "9", "b": "2"}))).await;
    assert_eq!((code, &forced["data"]["a"]), (StatusCode::OK, &json!("9")));
    assert_eq!(entry(&forced, "one")["fieldsV1"], json!({"f:data": {"f:b": {}}}));
    assert_eq!(entry(&forced, "two")["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
    let (_, less) = apply(&cluster, &at, "two", &map(json!({}))).await;
    assert_eq!(less["data"], json!({"b": "2"}), "b is also one's");
    let (code, stale) = apply(&cluster, &at, "two", &{
        let mut wanted = map(json!({"c": "1"}));
        wanted["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        wanted
    })
    .await;
    assert_eq!(code, StatusCode::CONFLICT, "{stale}");
}

#[tokio::test]
async fn an_apply_that_makes_no_sense_is_refused_as_upstream_refuses_it() {
    let cluster = Cluster::new().await;
    let at = format!("{MAPS}/m");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let (code, refused) = cluster.patch(&at, APPLY, &map).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused["message"].as_str().unwrap().ends_with("fieldManager: Required value: is required for apply patch")
    );
    let (code, refused) = cluster.patch(&format!("{at}?force=true"), MERGE, &map).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["message"].as_str().unwrap().contains("may not be specified for non-apply patch"));
    let (code, refused) = cluster.patch(&at, "application/apply-patch+cbor", &map).await;
    assert_eq!(code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(refused["message"], "415: Unsupported Media Type");
    for (body, code, said) in [
        (json!({"apiVersion": "v1", "kind": "Secret"}), 400, "invalid object type: /v1, Kind=Secret"),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "uid": "x"}}),
            409,
            "uid mismatch: the provided object specified uid x, and no existing object was found",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}}),
            400,
            "does not match the name on the URL (m)",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "nope": 1}),
            500,
            "failed to create typed patch object (/; /v1, Kind=ConfigMap): .nope: field not declared in schema",
        ),
        (json!([]), 400, "error decoding YAML"),
    ] {
        let (is, refused) = apply(&cluster, &at, "me", &body).await;
        assert_eq!(is.as_u16(), code, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(said), "{refused}");
    }
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: \"1\"\n  a: \"2\"\n";
    let strict = format!("{at}?fieldManager=me&fieldValidation=Strict");
    let (code, refused) = cluster.ask(Method::PATCH, &strict, APPLY, twice).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("line 7: key \"a\" already set in map"), "{refused}");
    let (code, missing) = apply(&cluster, &format!("{DEPLOYMENTS}/d/status"), "me", &deployment()).await;
    assert_eq!(code, StatusCode::NOT_FOUND, "a subresource makes no object: {missing}");
}

/// As upstream's own test of scales goes.
#[tokio::test]
async fn replicas_have_one_owner_whether_the_object_or_its_scale_is_written() {
    let cluster = Cluster::new().await;
    let (at, scale_at) = (format!("{DEPLOYMENTS}/d"), format!("{DEPLOYMENTS}/d/scale"));
    let owners = async || {
        let object = cluster.get(&at).await;
        let owns = |entry: &Value| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some();
        let names: Vec<String> =
            entries(&object).iter().filter(|e| owns(e)).map(|e| e["manager"].as_str().unwrap().to_owned()).collect();
        (object["spec"]["replicas"].as_i64().unwrap(), names)
    };
    let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (code, made) = apply(&cluster, &at, "apply_test", &deployment()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(owners().await, (1, own(&["apply_test"])));
    let five = json!({"spec": {"replicas": 5}});
    cluster.patch(&format!("{scale_at}?fieldManager=scale_test"), MERGE, &five).await;
    assert_eq!(owners().await, (5, own(&["scale_test"])));
    let written = entry(&cluster.get(&at).await, "scale_test");
    assert_eq!((&written["subresource"], &written["apiVersion"]), (&json!("scale"), &json!("apps/v1")));
    let (code, _) = apply(&cluster, &at, "apply_test", &deployment()).await;
    assert_eq!(code, StatusCode::CONFLICT);
    cluster.patch(&format!("{at}?fieldManager=apply_test&force=true"), APPLY, &deployment()).await;
    assert_eq!(owners().await, (1, own(&["apply_test"])));
    let scale = |replicas: i64| {
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "d", "namespace": NAMESPACE},
            "spec": {"replicas": replicas}})
    };
    let (code, refused) = apply(&cluster, &scale_at, "apply_scale", &scale(17)).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("\"apply_test\": .spec.replicas"), "{refused}");
    cluster.patch(&format!("{scale_at}?fieldManager=apply_scale&force=true"), APPLY, &scale(17)).await;
    assert_eq!(owners().await, (17, own(&["apply_scale"])));
    let put = format!("{scale_at}?fieldManager=replace_test");
    cluster.ask(Method::PUT, &put, JSON, scale(7).to_string()).await;
    assert_eq!(owners().await, (7, own(&["replace_test"])));
    apply(&cluster, &scale_at, "co_owning_test", &scale(7)).await;
    let (replicas, mut both) = owners().await;
    both.sort();
    assert_eq!((replicas, both), (7, own(&["co_owning_test", "replace_test"])));
    cluster.patch(&format!("{scale_at}?fieldManager=scale_test"), MERGE, &five).await;
    assert_eq!(owners().await, (5, own(&["scale_test"])));
    cluster.patch(&format!("{scale_at}?fieldManager=status"), MERGE, &json!({"status": {"replicas": 42}})).await;
    assert_eq!(owners().await, (5, own(&["scale_test"])), "a scale's status is not written");
}

#[tokio::test]
async fn a_status_has_owners_of_its_own() {
    let cluster = Cluster::new().await;
    let (at, status_at) = (format!("{DEPLOYMENTS}/d"), format!("{DEPLOYMENTS}/d/status"));
    apply(&cluster, &at, "me", &deployment()).await;
    let mut wanted = deployment();
    wanted["spec"]["replicas"] = 9.into();
    wanted["status"] = json!({"observedGeneration": 1});
    wanted["metadata"]["labels"] = json!({"x": "y"});
    let (code, applied) = apply(&cluster, &status_at, "controller", &wanted).await;
    assert_eq!(code, StatusCode::OK, "{applied}");
    assert_eq!((&applied["spec"]["replicas"], &applied["status"]["observedGeneration"]), (&json!(1), &json!(1)));
    let own = entry(&applied, "controller");
    assert_eq!(
        (&own["subresource"], &own["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {"f:observedGeneration": {}}}))
    );
    let (_, again) = apply(&cluster, &status_at, "controller", &wanted).await;
    assert_eq!(version(&again), version(&applied), "what the server puts back is no change");
    wanted["metadata"]["labels"] = json!({"z": "y"});
    let (_, object) = apply(&cluster, &at, "me", &wanted).await;
    assert_eq!(object["status"]["observedGeneration"], 1);
    assert_eq!(entry(&object, "me")["fieldsV1"].get("f:status"), None, "a status is not written with its object");
}

/// A pod is bound and announced to be disrupted on the server's own account, and nobody comes to own that; whoever has no name goes by
/// its user agent.
#[tokio::test]
async fn what_the_server_does_is_nobodys() {
    let cluster = Cluster::new().await;
    let pods = "/api/v1/namespaces/test/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = cluster.ok(pods, pod).await;
    assert_eq!(entries(&made).len(), 1);
    assert_eq!(entry(&made, "unknown")["operation"], "Update", "{made}");
    let volumes = entry(&made, "unknown")["fieldsV1"]["f:spec"].get("f:volumes").cloned();
    assert_eq!(volumes, None, "what admission adds is nobody's");
    assert!(made["spec"]["volumes"].is_array(), "{made}");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let (code, answer) = cluster.post(&format!("{pods}/p/binding"), &binding).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let bound = cluster.get(&format!("{pods}/p")).await;
    assert_eq!((&bound["spec"]["nodeName"], entries(&bound)), (&json!("n"), entries(&made)));
}

#[tokio::test]
async fn owners_are_reset_by_those_who_say_so_and_by_nobody_else() {
    let cluster = Cluster::new().await;
    let at = format!("{MAPS}/m");
    let made = cluster.ok(MAPS, json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).await;
    for (kept, patch) in [
        (1, json!({"metadata": {"managedFields": null}})),
        (1, json!({"metadata": {"managedFields": [{"operation": "Nonsense"}]}})),
        (0, json!({"metadata": {"managedFields": [{}]}})),
    ] {
        let (code, object) = cluster.patch(&at, MERGE, &patch).await;
        assert_eq!((code, entries(&object).len()), (StatusCode::OK, kept), "{patch}: {object}");
    }
    let other = cluster.ok(MAPS, json!({"metadata": {"name": "n"}, "data": {"a": "1"}})).await;
    let mut emptied = other.clone();
    emptied["metadata"]["managedFields"] = json!([]);
    let (_, emptied) = cluster.ask(Method::PUT, &format!("{MAPS}/n"), JSON, emptied.to_string()).await;
    assert_eq!(entries(&emptied), Vec::<Value>::new());
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"b": "1"}});
    let (_, applied) = apply(&cluster, &at, "me", &applied).await;
    assert_eq!(entry(&applied, "before-first-apply")["fieldsV1"], json!({"f:data": {".": {}, "f:a": {}}}));
    assert_ne!(version(&applied), version(&made));
}

/// Events are stored as one version and shown as two; so are autoscalers.
#[tokio::test]
async fn owners_of_another_version_are_asked_in_theirs() {
    let cluster = Cluster::new().await;
    let at = |version: &str| format!("/apis/autoscaling/{version}/namespaces/test/horizontalpodautoscalers/h");
    let scaler = |version: &str, spec: Value| {
        let mut spec = spec;
        spec["scaleTargetRef"] = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        spec["maxReplicas"] = 3.into();
        json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": spec})
    };
    let (code, made) = apply(&cluster, &at("v1"), "old", &scaler("v1", json!({"minReplicas": 2}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, refused) = apply(&cluster, &at("v2"), "new", &scaler("v2", json!({"minReplicas": 1}))).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    assert_eq!(refused["message"], "Apply failed with 1 conflict: conflict with \"old\": .spec.minReplicas");
    let (code, moved) = apply(&cluster, &at("v2"), "old", &scaler("v2", json!({}))).await;
    assert_eq!(code, StatusCode::OK, "{moved}");
    assert_eq!(
        (&entry(&moved, "old")["apiVersion"], moved["spec"].get("minReplicas").cloned()),
        (&json!("autoscaling/v2"), Some(json!(1))),
        "what was named no more has its default"
    );
}

/// What is answered and not stored has owners, too, as upstream shows it.
#[tokio::test]
async fn reviews_say_who_asked() {
    let cluster = Cluster::new().await;
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews?fieldManager=asker";
    let review = json!({"spec": {"user": "u", "nonResourceAttributes": {"path": "/x", "verb": "get"}}});
    let answer = cluster.ok(reviews, review).await;
    let own = entry(&answer, "asker");
    assert_eq!(
        (&own["operation"], &own["apiVersion"]),
        (&json!("Update"), &json!("authorization.k8s.io/v1")),
        "{answer}"
    );
    assert_eq!(
        own["fieldsV1"],
        json!({"f:spec": {"f:nonResourceAttributes": {".": {}, "f:path": {}, "f:verb": {}}, "f:user": {}}})
    );
    let tokens = "/api/v1/namespaces/test/serviceaccounts/default/token?fieldManager=asker";
    let answer = cluster.ok(tokens, json!({"spec": {"expirationSeconds": 700}})).await;
    assert_eq!(entry(&answer, "asker")["subresource"], "token", "{answer}");
}
