//! Migrations of storage versions, through kubectl and with a look into the store.

use serde_json::{Value, json};

use crate::support::etcd::Etcd;
use crate::support::{TestCluster, eventually};

const ON: [&str; 2] = ["--kube-apiserver-arg", "runtime-config=storagemigration.k8s.io/v1beta1=true"];

fn migrate(cluster: &TestCluster, name: &str, group: &str, resource: &str) -> Value {
    cluster.apply(
        &json!({"apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
            "metadata": {"name": name}, "spec": {"resource": {"group": group, "resource": resource}}})
        .to_string(),
    );
    eventually("the end of a migration", || {
        let migration = cluster.json(&["storageversionmigration", name]);
        let holds = |kind: &str, status: &str| {
            let conditions = migration["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status)
        };
        let over = holds("Succeeded", "True") || holds("Failed", "True");
        if over && !holds("Running", "True") { Ok(migration) } else { Err(migration.to_string()) }
    })
}

fn reason(migration: &Value, kind: &str) -> Value {
    let conditions = migration["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).map(|c| c["reason"].clone()).unwrap_or_default()
}

fn boats(stored: &str, versions: &[&str]) -> Value {
    let version = |name: &&str| {
        json!({"name": name, "served": true, "storage": *name == stored,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
            "versions": versions.iter().map(version).collect::<Vec<_>>()}})
}

/// Where a version went from the schema before its objects had been written again, they were lost.
#[test]
fn custom_resources_are_migrated_and_their_old_version_goes() {
    let etcd = Etcd::one();
    let endpoints = etcd.endpoints();
    let mut cluster =
        TestCluster::control_plane_with(&[&["--datastore-endpoint", &endpoints, "--token", "t"], &ON[..]].concat());
    cluster.apply(&boats("v1", &["v1"]).to_string());
    cluster.ok(&["wait", "--for=condition=Established", "crd/boats.example.org", "--timeout=10s"]);
    let all: Vec<Value> = (0..50)
        .map(|n| json!({"apiVersion": "example.org/v1", "kind": "Boat", "metadata": {"name": format!("b{n}")}, "spec": {"sails": n}}))
        .collect();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string());
    cluster.apply(&boats("v2", &["v1", "v2"]).to_string());
    let stored = || etcd.etcdctl(&["get", "--prefix", "/registry/example.org/boats/", "--print-value-only"]);
    // Who owns which fields says of what version they were; what counts is how an object begins.
    let count = |version: &str| {
        let head = format!("{{\"apiVersion\":\"example.org/{version}\"");
        stored().lines().filter(|line| line.starts_with(&head)).count()
    };
    let versions = || cluster.json(&["crd", "boats.example.org"])["status"]["storedVersions"].clone();
    assert_eq!(versions(), json!(["v1", "v2"]));
    cluster.ok(&["patch", "boat", "b7", "--type=merge", "-p", r#"{"spec":{"sails":77}}"#]);
    assert_eq!((count("v1"), count("v2")), (49, 1));

    let done = migrate(&cluster, "m", "example.org", "boats");
    assert_eq!(reason(&done, "Succeeded"), "StorageVersionMigrationSucceeded", "{done}");
    assert_eq!(reason(&done, "Running"), "MigrationCompleted");
    assert_eq!((count("v1"), count("v2")), (0, 50));
    assert_eq!(versions(), json!(["v2"]));
    let table = cluster.ok(&["get", "storageversionmigration", "m", "--no-headers"]);
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["m", "boats.example.org", "Succeeded"]);
    let definition = cluster.json(&["crd", "boats.example.org"]);
    let migrating =
        definition["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "StorageMigrating");
    assert_eq!(migrating.map(|c| (&c["status"], &c["reason"])), Some((&json!("False"), &json!("MigrationSucceeded"))));

    // The old version goes, and all objects are there; also after a restart.
    cluster.apply(&boats("v2", &["v2"]).to_string());
    let read = |cluster: &TestCluster| {
        let list = cluster.json(&["boats.v2.example.org"]);
        let items = list["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 50);
        assert!(items.iter().all(|item| item["apiVersion"] == "example.org/v2"));
        items.iter().find(|item| item["metadata"]["name"] == "b7").unwrap()["spec"]["sails"].clone()
    };
    assert_eq!(read(&cluster), 77);
    assert!(cluster.stop());
    cluster.start();
    assert_eq!(read(&cluster), 77);
    // A second one has nothing to write.
    let before = stored();
    migrate(&cluster, "again", "example.org", "boats");
    assert_eq!(stored(), before);
    let missing = cluster.fails(&[
        "patch",
        "storageversionmigration",
        "m",
        "--type=merge",
        "-p",
        r#"{"spec":{"resource":{"resource":"x"}}}"#,
    ]);
    assert!(missing.contains("field is immutable"), "{missing}");
    let reviews = migrate(&cluster, "reviews", "authentication.k8s.io", "tokenreviews");
    assert_eq!(reason(&reviews, "Failed"), "StorageVersionMigrationFailed");
}

/// What changes nothing was not written, and stayed under the old key.
#[test]
fn secrets_are_written_with_the_newest_key() {
    let etcd = Etcd::one();
    let endpoints = etcd.endpoints();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("encryption.yaml");
    let setting = format!("encryption-provider-config={}", file.display());
    let config = |keys: &str| {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n{keys}  - identity: {{}}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let old = "      - {name: old, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}\n";
    let new = "      - {name: new, secret: YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=}\n";
    config(old);
    let flags =
        [&["--datastore-endpoint", &endpoints, "--token", "t", "--kube-apiserver-arg", &setting], &ON[..]].concat();
    let mut cluster = TestCluster::control_plane_with(&flags);
    for name in ["a", "b"] {
        cluster.ok(&["create", "secret", "generic", name, "--from-literal=word=hush"]);
    }
    let stored =
        |name: &str| etcd.etcdctl(&["get", &format!("/registry/secrets/default/{name}"), "--print-value-only"]);
    assert!(stored("a").starts_with("k8s:enc:aesgcm:v1:old:"), "{}", stored("a"));
    assert!(cluster.stop());
    config(&[new, old].concat());
    cluster.start();
    assert!(stored("a").starts_with("k8s:enc:aesgcm:v1:old:"), "{}", stored("a"));
    let done = migrate(&cluster, "keys", "", "secrets");
    assert_eq!(reason(&done, "Succeeded"), "StorageVersionMigrationSucceeded", "{done}");
    for name in ["a", "b"] {
        assert!(stored(name).starts_with("k8s:enc:aesgcm:v1:new:"), "{}", stored(name));
    }
    assert_eq!(cluster.ok(&["get", "secret", "b", "-o", "jsonpath={.data.word}"]), "aHVzaA==");
}

#[test]
fn the_kind_is_served_when_it_is_switched_on() {
    let cluster = TestCluster::control_plane();
    assert_eq!(cluster.ok(&["api-resources", "--api-group=storagemigration.k8s.io", "--no-headers"]), "");
}
