//! What is over leaves nothing in memory; and the deletion of collections, of which that once could not be said.

use crate::support::http::Http;
use crate::support::{TestCluster, eventually};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &serde_json::Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// Once all that matched went, whatever the limit.
#[test]
fn a_collection_is_deleted_by_the_options_of_lists() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    for name in ["a", "b", "c", "d", "e"] {
        cluster.ok(&["create", "configmap", name, "--from-literal", "x=y"]);
        let group = if name < "d" { "few" } else { "rest" };
        cluster.ok(&["label", "configmap", name, &format!("group={group}")]);
    }
    let delete = |query: &str| http.ask("--http2", &format!("{MAPS}?{query}"), &["-X", "DELETE"]);
    let left = || {
        let list = http.ask("--http2", &format!("{MAPS}?labelSelector=group"), &[]).json();
        names(&list).join("")
    };
    for (query, code) in
        [("limit=x", 400), ("labelSelector=a%3D%3D%3Db", 400), ("fieldSelector=spec.x%3Dy", 400), ("continue=x", 400)]
    {
        assert_eq!(delete(query).code, code, "{query}");
    }
    assert_eq!(delete("labelSelector=group&dryRun=All").code, 200);
    assert_eq!(left(), "abcde");
    let first = delete("labelSelector=group%3Dfew&limit=1").json();
    assert_eq!((names(&first), left()), (vec!["a"], "bcde".to_owned()));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = delete(&format!("labelSelector=group%3Dfew&limit=1&continue={token}")).json();
    assert_eq!((names(&second), left()), (vec!["b"], "cde".to_owned()));
    let named = delete("fieldSelector=metadata.name%3Dd").json();
    assert_eq!((names(&named), left()), (vec!["d"], "ce".to_owned()));
    // One that a finalizer holds is marked, and does not keep the others.
    cluster.ok(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"metadata":{"finalizers":["test/x"]}}"#]);
    let rest = delete("labelSelector=group").json();
    assert_eq!((names(&rest), rest["kind"].as_str(), left()), (vec!["c", "e"], Some("ConfigMapList"), "c".to_owned()));
    cluster.ok(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    assert_eq!(left(), "");
}

fn resident_mib(cluster: &TestCluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// Once 410 cycles of a large object left 170 MB for good: in the ring of its resource, with the old and the new value and
/// the encoding of each event, in the store's history, and in what the allocator did not give back.
#[test]
fn large_objects_that_come_and_go_leave_nothing() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let large = format!(r#"{{"metadata":{{"name":"large"}},"data":{{"x":"{}"}}}}"#, "y".repeat(700_000));
    let body = format!("@{}", cluster.file("large.json", &large).to_string_lossy());
    let before = resident_mib(&cluster);
    for _ in 0..150 {
        assert_eq!(http.send("POST", MAPS, "application/json", &body).code, 201);
        assert_eq!(http.ask("--http2", &format!("{MAPS}/large"), &["-X", "DELETE"]).code, 200);
    }
    // What is bounded by bytes may stay for a while; the rest is 210 MB.
    eventually("memory as before", || {
        let now = resident_mib(&cluster);
        if now <= before + 70 { Ok(()) } else { Err(format!("{before} MiB became {now}")) }
    });
    let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
    let line = r#"kedge_memory_bytes{owner="store",part="history"} "#;
    let history: f64 = metrics.lines().find_map(|l| l.strip_prefix(line)).unwrap().parse().unwrap();
    assert!(history <= 8_f64 * 1_048_576.0, "{history}");
    assert!(metrics.contains("\nprocess_resident_memory_bytes ") && metrics.contains("\nkedge_tasks{group=\"server\""));
    let refused = cluster.fails(&["get", "--raw", "/metrics", "--as=nobody"]);
    assert!(refused.contains("cannot get path \"/metrics\""), "{refused}");
}

/// A list that is longer than one piece comes whole, over both versions of HTTP and in each form, and its length is announced.
#[test]
fn long_lists_come_whole() {
    let cluster = TestCluster::control_plane();
    let http = Http::of(&cluster);
    let filler = "z".repeat(1_500);
    let maps: Vec<_> = (0..150)
        .map(|i| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{i:03}, namespace: default}}\ndata: {{x: {filler}}}\n"))
        .collect();
    let path = cluster.file("maps.yaml", &maps.join("---\n"));
    cluster.ok(&["create", "-f", &path.to_string_lossy()]);
    let query = format!("{MAPS}?fieldSelector=metadata.name!%3Dkube-root-ca.crt");
    for version in ["--http1.1", "--http2"] {
        let list = http.ask(version, &query, &["-H", "Accept: application/json"]).json();
        assert_eq!((names(&list).len(), names(&list)[149]), (150, "m149"));
        let metadata = "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let list = http.ask(version, &query, &["-H", metadata]).json();
        assert_eq!((list["kind"].as_str(), names(&list).len()), (Some("PartialObjectMetadataList"), 150));
        assert!(list["items"][7]["metadata"]["resourceVersion"].is_string() && list["items"][7]["data"].is_null());
        let table = "Accept: application/json;as=Table;g=meta.k8s.io;v=v1";
        let list = http.ask(version, &format!("{query}&includeObject=Object"), &["-H", table]).json();
        assert_eq!((list["kind"].as_str(), list["rows"].as_array().unwrap().len()), (Some("Table"), 150));
        assert_eq!(list["rows"][149]["object"]["data"]["x"], filler.as_str());
        let yaml = http.ask(version, &query, &["-H", "Accept: application/yaml"]);
        assert!(yaml.body.contains("kind: ConfigMapList") && yaml.body.contains("name: m149"), "{}", yaml.code);
    }
    assert_eq!(cluster.ok(&["get", "configmaps", "-o", "name"]).lines().count(), 151);
}
