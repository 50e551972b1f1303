//! An operator on kube-rs: a definition derived from its types, a controller with children, a finalizer, events, an election, and a webhook; and what is left of all
//! that when the server is killed in the middle.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::webhook::{Webhook, allow, configuration, deny};
use crate::support::{TestCluster, eventually, operator_binary};

/// The lease that instances compete for.
const LEASE: &str = "fleet-operator";
/// The config map in which each fleet that went is noted, with its uid.
const FAREWELLS: &str = "farewells";

/// A running instance of the operator; killed when dropped, so that it gives nothing up by itself.
struct Instance {
    process: Child,
    log: PathBuf,
}

impl Instance {
    fn start(cluster: &TestCluster, identity: &str) -> Self {
        let log = cluster.file(&format!("operator-{identity}.log"), "");
        let stderr = File::options().append(true).open(&log).unwrap();
        let mut command = Command::new(operator_binary());
        command.arg(cluster.kubeconfig()).args(["run", identity]).stdin(Stdio::null()).stdout(Stdio::null());
        Self { process: command.stderr(stderr).spawn().unwrap(), log }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let ended = self.process.try_wait().and_then(|already| {
            self.process.kill()?;
            self.process.wait()?;
            Ok(already)
        });
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {}\n{}", self.log.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        } else {
            // It works until it is killed.
            assert_eq!(ended.unwrap(), None);
        }
    }
}

fn fleet(name: &str, ships: i64, motto: &str) -> String {
    json!({"apiVersion": "operators.example.com/v1", "kind": "Fleet", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ships": ships, "motto": motto}})
    .to_string()
}

/// The names of the objects of a resource that a fleet controls, directly.
fn owned(cluster: &TestCluster, resource: &str, fleet: &Value) -> Vec<String> {
    let list = cluster.json(&[resource]);
    let items = list["items"].as_array().unwrap().iter();
    let is_owned = |item: &&Value| {
        let owners = item["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == fleet["metadata"]["uid"]))
    };
    items.filter(is_owned).map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a fleet says of itself what `ships` says, in its newest generation.
fn wait_until_ready(cluster: &TestCluster, name: &str, ships: i64) {
    eventually(&format!("{ships} ships of {name}"), || {
        let fleet = cluster.json(&["fleet", name]);
        let status = &fleet["status"];
        let newest = status["observedGeneration"] == fleet["metadata"]["generation"];
        let ready = status["conditions"][0]["status"] == "True" && status["ships"] == ships;
        if newest && ready { Ok(()) } else { Err(fleet.to_string()) }
    });
}

/// A fleet has one config map and one deployment, that one replica set, and that so many pods.
fn check_children(cluster: &TestCluster, name: &str, ships: usize) {
    let fleet = cluster.json(&["fleet", name]);
    assert_eq!(owned(cluster, "configmaps", &fleet), [name]);
    assert_eq!(owned(cluster, "deployments", &fleet), [name]);
    let deployment = cluster.json(&["deployment", name]);
    let sets = owned(cluster, "replicasets", &deployment);
    assert_eq!(sets.len(), 1, "{sets:?}");
    let set = cluster.json(&["replicaset", &sets[0]]);
    assert_eq!(owned(cluster, "pods", &set).len(), ships);
}

fn holder(cluster: &TestCluster) -> Option<String> {
    let out = cluster.kubectl(&["get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}"]);
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The definition of the derive is taken as it is, and objects of it are what its types say: checked, filled in, selected, scaled.
#[test]
fn a_derived_definition_is_served() {
    let cluster = TestCluster::control_plane();
    let out = Command::new(operator_binary()).arg(cluster.kubeconfig()).arg("try").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // Each item of a list says what it is, which those who read objects of all kinds rely on.
    let list: Value =
        serde_json::from_str(&cluster.ok(&["get", "--raw", "/apis/operators.example.com/v1/fleets"])).unwrap();
    assert_eq!(
        (&list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
        (&json!("Fleet"), &json!("operators.example.com/v1"))
    );
    assert!(
        cluster.ok(&["get", "fl"]).lines().nth(1).is_some_and(|line| line.starts_with("a ") && line.contains(" 3 "))
    );
}

/// An operator's life: what it is asked for comes about, through a webhook, a new leader and a server that is killed; what is deleted is said farewell
/// to, and its children go.
#[test]
fn an_operator_reconciles_through_all_that_happens() {
    let mut cluster = TestCluster::control_plane();
    let first = Instance::start(&cluster, "first");
    eventually("a leader", || holder(&cluster).filter(|holder| holder == "first").map(|_| ()).ok_or(String::new()));
    let second = Instance::start(&cluster, "second");
    let webhook = Webhook::start(|_, request| match request["object"]["spec"]["motto"].as_str() {
        Some("mutiny") => deny("there is no mutiny here"),
        _ => allow(),
    });
    let rules = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["operators.example.com"], "apiVersions": ["v1"], "resources": ["fleets"]}]);
    cluster.apply(&configuration("Validating", "fleets", &[webhook.hook("fleets", &json!({"rules": rules}))]));
    for name in ["a", "b"] {
        cluster.apply(&fleet(name, 2, "onward"));
    }
    for name in ["a", "b"] {
        wait_until_ready(&cluster, name, 2);
        check_children(&cluster, name, 2);
    }
    let file = cluster.file("mutiny.json", &fleet("c", 1, "mutiny"));
    let said = cluster.fails(&["create", "-f", file.to_str().unwrap()]);
    assert!(said.contains("there is no mutiny here"), "{said}");
    // What somebody takes away comes back, since its owner is told.
    cluster.ok(&["delete", "configmap", "a"]);
    cluster.wait_for("onward", &["get", "configmap", "a", "-o", "jsonpath={.data.motto}"]);
    killed_in_the_middle(&mut cluster);
    // Whoever leads, the other takes over when it is gone.
    let leader = holder(&cluster).unwrap();
    let (gone, _stays) = if leader == "first" { (first, second) } else { (second, first) };
    drop(gone);
    eventually("another leader", || match holder(&cluster) {
        Some(now) if now != leader => Ok(()),
        now => Err(format!("{now:?}")),
    });
    cluster.ok(&["scale", "fleet/a", "--replicas=3"]);
    wait_until_ready(&cluster, "a", 3);
    check_children(&cluster, "a", 3);
    eventually("an event", || {
        let events = cluster.ok(&[
            "get",
            "events",
            "--field-selector=involvedObject.name=a,involvedObject.kind=Fleet",
            "-o",
            "jsonpath={.items[*].reason}",
        ]);
        if events.contains("Complete") { Ok(()) } else { Err(events) }
    });
    let fleets = cluster.json(&["fleets"]);
    cluster.ok(&["delete", "fleet", "--all", "--timeout=120s"]);
    for resource in ["configmap/a", "deployment/a", "deployment/b"] {
        eventually(&format!("the end of {resource}"), || {
            let out = cluster.kubectl(&["get", resource]);
            if out.status.success() { Err(String::from_utf8_lossy(&out.stdout).into_owned()) } else { Ok(()) }
        });
    }
    cluster.wait_for("", &["get", "replicasets,pods", "-o", "name"]);
    let farewells = &cluster.json(&["configmap", FAREWELLS])["data"];
    for gone in fleets["items"].as_array().unwrap().iter().map(|fleet| &fleet["metadata"]) {
        assert_eq!(farewells[gone["name"].as_str().unwrap()], gone["uid"], "{farewells}");
    }
}

/// The server is killed while fleets are being made. All that were acknowledged are there afterwards, and become what they should, once.
fn killed_in_the_middle(cluster: &mut TestCluster) {
    let made: Vec<(String, String)> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut made = Vec::new();
            for name in (0..20).map(|i| format!("k{i}")) {
                let file = cluster.file(&format!("{name}.json"), &fleet(&name, 1, "hold fast"));
                let out = cluster.kubectl(&["create", "-f", file.to_str().unwrap(), "-o", "jsonpath={.metadata.uid}"]);
                if !out.status.success() {
                    break;
                }
                made.push((name, String::from_utf8_lossy(&out.stdout).into_owned()));
            }
            made
        });
        eventually("some fleets", || {
            let out = cluster.kubectl(&["get", "fleet", "k2"]);
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
        let killed = Command::new("kill").args(["-9", &cluster.pid().to_string()]).status().unwrap();
        assert!(killed.success());
        writer.join().unwrap()
    });
    cluster.kill();
    cluster.start();
    assert!(made.len() >= 3, "{made:?}");
    for (name, uid) in &made {
        assert_eq!(&cluster.json(&["fleet", name])["metadata"]["uid"], uid, "{name}");
        wait_until_ready(cluster, name, 1);
        check_children(cluster, name, 1);
    }
}
