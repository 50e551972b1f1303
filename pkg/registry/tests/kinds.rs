//! Ordinary objects of every kind go through decoding, defaults, the verbs and their strategies unharmed; what the
//! server decides for them is there afterwards, and what is wrong with them is named.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kedge_kv::{Embedded, Options};
use kedge_meta::{Status, UserInfo};
use kedge_registry::verbs::{self, DeleteOptions, Deleted, Request, UpdateOptions};
use kedge_registry::{ClusterConfig, NoAdmission, Registry, WriteOptions};
use kedge_storage::Storage;
use serde_json::{Value, json};

const OPTIONAL: [&str; 2] = ["storagemigration.k8s.io", "metrics.k8s.io"];

mod claims;
mod services;

struct Cluster {
    registry: Registry,
    user: UserInfo,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Self {
        Self::with(&["10.43.0.0/24"], false).await
    }

    async fn with(service_cidrs: &[&str], shared: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = kedge_base::system_clock();
        let kv = Embedded::open(Options::new(dir.path().to_owned(), clock.clone())).unwrap();
        let storage = Arc::new(
            Storage::open(Arc::new(kv), &Registry::storage_configs(), Arc::default(), kedge_base::system_clock())
                .await
                .unwrap(),
        );
        let service_cidrs = service_cidrs.iter().map(|text| text.parse().unwrap()).collect();
        let config = ClusterConfig { service_cidrs, node_ports: (30_000, 30_100), shared };
        Self {
            registry: Registry::new(storage, clock, config).with_optional(&OPTIONAL),
            user: UserInfo::new("tester", &[]),
            _dir: dir,
        }
    }

    fn request<'a>(&'a self, object: &'a Value, subresource: &'a str) -> Request<'a> {
        let (group, version, kind) = names(object);
        let info = kedge_schema::resources()
            .iter()
            .chain(kedge_schema::optional_resources())
            .find(|info| info.group == group && info.version == version && info.kind == kind)
            .unwrap();
        let namespace = if info.namespaced { "test" } else { "" };
        Request {
            registry: &self.registry,
            served: self.registry.builtin(&info.group, &info.version, &info.plural).unwrap(),
            admission: &NoAdmission,
            user: &self.user,
            namespace,
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            subresource,
            dry_run: false,
            options: WriteOptions::default(),
            writer: verbs::Writer::Manager("tester".into()),
            later: verbs::Later::default(),
            notes: kedge_registry::Notes::default(),
        }
    }

    async fn create(&self, object: &Value) -> Result<Value, Status> {
        let ready = defaulted(object);
        Ok(verbs::create(&self.request(object, ""), ready).await?.object)
    }

    async fn update(&self, object: &Value, subresource: &str) -> Result<Value, Status> {
        let ready = defaulted(object);
        let transform = move |_: Option<&Value>| Ok(ready.clone());
        let request = self.request(object, subresource);
        Ok(verbs::update(&request, &transform, UpdateOptions::default()).await?.object)
    }

    async fn delete(&self, object: &Value) -> Deleted {
        verbs::delete(&self.request(object, ""), &DeleteOptions::default()).await.unwrap()
    }
}

fn names(object: &Value) -> (String, String, String) {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    (group.into(), version.into(), object["kind"].as_str().unwrap().into())
}

fn defaulted(object: &Value) -> Value {
    let (group, version, kind) = names(object);
    let ty = kedge_schema::kind(&group, &version, &kind).unwrap();
    let mut value = object.clone();
    let mut strict = Vec::new();
    kedge_schema::conform(ty, &mut value, &mut strict).unwrap();
    assert!(strict.is_empty(), "{kind}: {strict:?}");
    kedge_schema::defaults::apply(&group, &version, &kind, &mut value);
    value
}

fn yaml(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

fn complaints(status: &Status) -> String {
    status.message.clone()
}

#[tokio::test]
async fn ordinary_objects_are_accepted_and_stay_as_they_are() {
    let cluster = Cluster::new().await;
    let mut failures = Vec::new();
    for object in yaml(include_str!("objects.yaml")) {
        let title = format!("{} {}", object["kind"], object["metadata"]["name"]);
        match cluster.create(&object).await {
            Err(status) => failures.push(format!("{title}: {}", status.message)),
            // What was read can be written back, and changes nothing.
            Ok(created) => match cluster.update(&created, "").await {
                Err(status) => failures.push(format!("{title}: on update: {}", status.message)),
                Ok(written) if written != created => failures.push(format!("{title}: {created}\n  became {written}")),
                Ok(_) => {}
            },
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_pod_is_pending_and_hardly_changes() {
    let cluster = Cluster::new().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "x", "resources": {"requests": {"cpu": "1"}}}]}});
    let created = cluster.create(&pod).await.unwrap();
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
    assert_eq!(created["metadata"]["generation"], 1);
    let mut new = created.clone();
    new["spec"]["containers"][0]["image"] = json!("y");
    let changed = cluster.update(&new, "").await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let mut new = changed.clone();
    new["spec"]["hostNetwork"] = json!(true);
    let status = cluster.update(&new, "").await.unwrap_err();
    assert!(status.message.contains("pod updates may not change fields other than"), "{}", status.message);
    let mut new = changed.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let debugged = cluster.update(&new, "ephemeralcontainers").await.unwrap();
    assert_eq!(debugged["spec"]["ephemeralContainers"][0]["name"], "debug");
    let mut status = debugged.clone();
    status["status"] = json!({"phase": "Running", "qosClass": "Burstable"});
    assert_eq!(cluster.update(&status, "status").await.unwrap()["status"]["phase"], "Running");
    // It runs nowhere, so it goes at once.
    assert!(matches!(cluster.delete(&pod).await, Deleted::Gone(_)));
}

#[tokio::test]
async fn selectors_fit_templates_and_stay() {
    let cluster = Cluster::new().await;
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let deployment = |selector: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": selector}}, "template": template}})
    };
    let status = cluster.create(&deployment("db")).await.unwrap_err();
    assert_eq!(
        status.message,
        "Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` \
         does not match template `labels`"
    );
    let mut created = cluster.create(&deployment("web")).await.unwrap();
    created["spec"]["selector"]["matchLabels"] = json!({"app": "web", "tier": "a"});
    created["spec"]["template"]["metadata"]["labels"] = json!({"app": "web", "tier": "a"});
    assert!(complaints(&cluster.update(&created, "").await.unwrap_err()).contains("field is immutable"));
}

#[tokio::test]
async fn a_namespace_is_held_by_its_finalizer() {
    let cluster = Cluster::new().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let created = cluster.create(&namespace).await.unwrap();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let Deleted::Marked(marked) = cluster.delete(&namespace).await else { panic!("it waits") };
    assert_eq!(marked["status"]["phase"], "Terminating");
}

#[tokio::test]
async fn names_follow_the_rules_of_their_kind() {
    let cluster = Cluster::new().await;
    for (api_version, kind, name) in [
        ("v1", "Namespace", "a.b"),
        ("v1", "Service", "a.b"),
        ("v1", "ConfigMap", "A"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "a/b"),
    ] {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        let status = cluster.create(&object).await.unwrap_err();
        assert!(status.message.contains("metadata.name: Invalid value"), "{kind}: {}", status.message);
    }
}

#[tokio::test]
async fn events_of_the_newer_group_say_who_reports_them_and_only_count() {
    let cluster = Cluster::new().await;
    let event = |name: &str, more: Value| {
        let mut event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": "test"}, "type": "Normal", "reason": "Tested", "action": "Testing",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/tester",
            "reportingInstance": "tester-1", "regarding": {"kind": "Pod", "name": "p", "namespace": "elsewhere"}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let created = cluster.create(&event("good", json!({}))).await.unwrap();
    for (more, wrong) in [
        (json!({"type": "Odd"}), "type"),
        (json!({"reportingController": "no name at all"}), "reportingController"),
        (json!({"action": "x".repeat(129)}), "action: Invalid value: \"\": can have at most 128 characters"),
        (json!({"deprecatedCount": 3}), "count: Invalid value: \"\": needs to be unset"),
        (json!({"series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}), "should be at least 2"),
    ] {
        let refused = cluster.create(&event("bad", more)).await.unwrap_err();
        assert!(refused.code == 422 && refused.message.contains(wrong), "{wrong}: {}", refused.message);
    }
    let mut counted = created.clone();
    counted["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
    let counted = cluster.update(&counted, "").await.unwrap();
    let mut other = counted.clone();
    other["reason"] = json!("Another");
    let refused = cluster.update(&other, "").await.unwrap_err();
    assert!(refused.message.contains("reason: Invalid value: \"Another\": field is immutable"), "{}", refused.message);
}

#[tokio::test]
async fn a_migration_asks_once_and_ends_once() {
    let cluster = Cluster::new().await;
    let migration = |group: &str, resource: &str| {
        json!({"apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
        "metadata": {"name": "m"}, "spec": {"resource": {"group": group, "resource": resource}}})
    };
    let refused = cluster.create(&migration("example.com", "")).await.unwrap_err();
    assert!(complaints(&refused).contains("spec.resource.resource: Required value: resource is required to be set"));
    let refused = cluster.create(&migration("Example", "Crontabs")).await.unwrap_err();
    assert!(complaints(&refused).contains("spec.resource.group: Invalid value: \"Example\""), "{refused:?}");
    let mut asked = migration("", "secrets");
    asked["status"] = json!({"resourceVersion": "5"});
    let created = cluster.create(&asked).await.unwrap();
    assert!(created["status"].get("resourceVersion").is_none() && created["metadata"].get("generation").is_none());
    let mut other = created.clone();
    other["spec"]["resource"]["resource"] = json!("configmaps");
    let refused = cluster.update(&other, "").await.unwrap_err();
    assert!(
        complaints(&refused).contains("spec: Invalid value") && complaints(&refused).contains("field is immutable")
    );
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Because", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let with = |object: &Value, version: &str, conditions: Value| {
        let mut object = object.clone();
        object["status"] = json!({"resourceVersion": version, "conditions": conditions});
        object
    };
    for (version, conditions, text) in [
        ("07", json!([]), "resource version is not well formed: 07"),
        (
            "7",
            json!([condition("Succeeded", "True"), condition("Failed", "True")]),
            "Both success and failed conditions cannot be true",
        ),
        ("7", json!([condition("Running", "maybe")]), "Unsupported value: \"maybe\""),
        ("7", json!([condition("Running", "True"), condition("Running", "True")]), "Duplicate value: \"Running\""),
    ] {
        let refused = cluster.update(&with(&created, version, conditions), "status").await.unwrap_err();
        assert!(complaints(&refused).contains(text), "{text}: {}", refused.message);
    }
    let done = cluster.update(&with(&created, "7", json!([condition("Succeeded", "True")])), "status").await.unwrap();
    let refused = cluster.update(&with(&done, "8", json!([])), "status").await.unwrap_err();
    assert!(complaints(&refused).contains("status.resourceVersion: Invalid value: \"8\": field is immutable"));
    assert!(complaints(&refused).contains("Success condition cannot be set to false once it is true"));
}
