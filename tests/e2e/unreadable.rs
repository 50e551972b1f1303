//! Values in the store that are no objects: what is asked for them is refused as a stock server refuses it, and nothing else.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::etcd::Etcd;
use crate::support::{TestCluster, eventually};

const GARBAGE: &str = "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"bad\",";

#[test]
fn what_cannot_be_read_is_refused_and_never_taken_for_nothing() {
    let etcd = Etcd::one();
    let mut cluster = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--token", "t"]);
    cluster.ok(&["create", "secret", "generic", "good", "--from-literal=a=b"]);
    cluster.ok(&["create", "namespace", "other"]);
    cluster.ok(&["-n", "other", "create", "secret", "generic", "there", "--from-literal=a=b"]);
    etcd.etcdctl(&["put", "/registry/secrets/default/bad", GARBAGE]);
    let refused = |said: String| {
        let wanted = "Internal error occurred: unable to transform key \"/registry/secrets/default/bad\": ";
        assert!(said.contains("(InternalError)") && said.contains(wanted), "{said}");
    };
    let all_refused = |cluster: &TestCluster| {
        refused(cluster.fails(&["get", "secret", "bad"]));
        refused(cluster.fails(&["get", "secrets"]));
        refused(cluster.fails(&["get", "secrets", "-A", "--chunk-size=0"]));
        refused(cluster.fails(&["get", "secrets", "--field-selector=metadata.name=bad"]));
        refused(cluster.fails(&["label", "secret", "bad", "a=b"]));
        refused(cluster.fails(&["delete", "secret", "bad"]));
        refused(cluster.fails(&["delete", "secrets", "--all"]));
        for more in [&[][..], &["--dry-run=server"]] {
            let create = [&["create", "secret", "generic", "bad", "--from-literal=a=b"], more].concat();
            let said = cluster.fails(&create);
            assert!(said.contains("secrets \"bad\" already exists"), "{said}");
        }
        // Whatever does not cover it is served.
        cluster.ok(&["get", "secret", "good"]);
        cluster.ok(&["get", "secrets", "--field-selector=metadata.name=good"]);
        assert!(cluster.ok(&["-n", "other", "get", "secrets", "-o", "name"]).contains("secret/there"));
        cluster.ok(&["get", "configmaps", "-A"]);
    };
    all_refused(&cluster);
    let manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\n";
    let file = cluster.file("bad.yaml", manifest);
    refused(cluster.fails(&["replace", "-f", &file.to_string_lossy()]));
    // Such values of all kinds of resources do not keep a server from starting.
    let others =
        ["clusterroles/bad", "services/specs/default/bad", "namespaces/bad", "apiregistration.k8s.io/apiservices/bad"];
    for key in others {
        etcd.etcdctl(&["put", &format!("/registry/{key}"), GARBAGE]);
    }
    assert!(cluster.stop());
    cluster.start();
    all_refused(&cluster);
    cluster.ok(&["create", "configmap", "c"]);
    for key in others {
        etcd.etcdctl(&["del", &format!("/registry/{key}")]);
    }
    assert_eq!(etcd.etcdctl(&["get", "/registry/secrets/default/bad", "--print-value-only"]).trim_end(), GARBAGE);
    etcd.etcdctl(&["del", "/registry/secrets/default/bad"]);
    cluster.ok(&["get", "secrets"]);
    cluster.ok(&["create", "secret", "generic", "bad", "--from-literal=a=b"]);
}

#[test]
fn an_object_that_becomes_unreadable_is_never_shown_as_deleted() {
    let etcd = Etcd::one();
    let cluster = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--token", "t"]);
    cluster.ok(&["create", "secret", "generic", "s", "--from-literal=a=b"]);
    let stored = etcd.etcdctl(&["get", "/registry/secrets/default/s", "--print-value-only"]);
    let seen = cluster.data_dir().join("watched");
    let mut watch = cluster
        .kubectl_command(&["get", "--raw", "/api/v1/namespaces/default/secrets?watch=true&resourceVersion=0"])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&seen).unwrap())
        .spawn()
        .unwrap();
    let events = || {
        let text = std::fs::read_to_string(&seen).unwrap();
        // The last line may not be there wholly.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
    };
    eventually("the secret to be watched", || match events() {
        some if some.iter().any(|event| event["type"] == "ADDED") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    etcd.etcdctl(&["put", "/registry/secrets/default/s", GARBAGE]);
    // The watch says what is wrong and ends.
    eventually("the end of the watch", || watch.try_wait().unwrap().map_or(Err("it goes on".into()), |_| Ok(())));
    let events = events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "ERROR"]);
    let status = &events[1]["object"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(500), &json!("InternalError")));
    assert!(status["message"].as_str().unwrap().contains("\"/registry/secrets/default/s\""), "{status}");
    assert!(cluster.fails(&["get", "secret", "s"]).contains("(InternalError)"));
    etcd.etcdctl(&["put", "/registry/secrets/default/s", stored.trim_end()]);
    assert_eq!(cluster.ok(&["get", "secret", "s", "-o", "jsonpath={.data.a}"]), "Yg==");
}
