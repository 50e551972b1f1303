//! Services take addresses and node ports, and give them back.

use std::sync::Arc;

use bytes::Bytes;
use kedge_storage::{Amend, ResourceStore, Taken};

use super::*;

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn service_cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": cidrs}})
}

fn store(cluster: &Cluster, plural: &str) -> ResourceStore {
    cluster.registry.builtin("networking.k8s.io", "v1", plural).unwrap().store.clone()
}

#[tokio::test]
async fn a_service_gets_addresses_and_gives_them_back() {
    let cluster = Cluster::new().await;
    let web = service("web", json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [{"port": 80}]}));
    let created = cluster.create(&web).await.unwrap();
    assert_eq!(created["spec"]["clusterIPs"], json!(["10.43.0.9"]));
    let port = created["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=30_100).contains(&port));
    let other = service("other", json!({"clusterIP": "10.43.0.9", "ports": [{"port": 80}]}));
    assert!(complaints(&cluster.create(&other).await.unwrap_err()).contains("provided IP is already allocated"));
    let mut changed = created.clone();
    changed["spec"]["type"] = json!("ClusterIP");
    let changed = cluster.update(&changed, "").await.unwrap();
    assert!(changed["spec"]["ports"][0].get("nodePort").is_none());
    let same_port = service("third", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}));
    cluster.create(&same_port).await.unwrap();
    assert!(matches!(cluster.delete(&web).await, Deleted::Gone(_)));
    cluster.create(&other).await.unwrap();
}

#[tokio::test]
async fn a_node_port_that_is_asked_for_is_taken_and_given_back_by_its_owner_alone() {
    let cluster = Cluster::new().await;
    let ports = json!([{"port": 80, "nodePort": 30_050}]);
    let balanced = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
    let first = service("first", balanced.clone());
    cluster.create(&first).await.unwrap();
    for spec in [balanced, json!({"type": "NodePort", "ports": ports})] {
        let taken = cluster.create(&service("second", spec)).await.unwrap_err();
        assert!(complaints(&taken).contains("provided port is already allocated"), "{taken:?}");
    }
    // A number in a service that has no node ports is nobody's.
    let name = service("name", json!({"type": "ExternalName", "externalName": "a.example", "ports": ports}));
    cluster.create(&name).await.unwrap();
    cluster.delete(&name).await;
    let second = service("second", json!({"type": "NodePort", "ports": ports}));
    assert!(cluster.create(&second).await.is_err(), "still the first one's");
    cluster.delete(&first).await;
    cluster.create(&second).await.unwrap();
}

#[tokio::test]
async fn an_address_without_its_service_is_given_back() {
    let cluster = Cluster::new().await;
    let address = |name: &str, created: &str, labels: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": name, "creationTimestamp": created, "labels": labels},
            "spec": {"parentRef": {"resource": "services", "namespace": "test", "name": "gone"}}})
    };
    let managed = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let web = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 80}]}});
    cluster.create(&web).await.unwrap();
    let store = cluster.registry.builtin("networking.k8s.io", "v1", "ipaddresses").unwrap().store.clone();
    let now = kedge_base::time::rfc3339(kedge_base::system_clock().now());
    let old = "2020-01-01T00:00:00Z";
    for (name, created, labels) in [
        ("10.43.0.20", old, managed.clone()),
        ("10.43.0.21", now.as_str(), managed),
        ("10.43.0.22", old, json!({"ipaddress.kubernetes.io/managed-by": "another"})),
    ] {
        store.create(name, &address(name, created, labels), kedge_storage::With::default()).await.unwrap();
    }
    cluster.registry.repair_claims().await.unwrap();
    let left: Vec<bool> = ["10.43.0.9", "10.43.0.20", "10.43.0.21", "10.43.0.22"]
        .iter()
        .map(|n| store.get(n).unwrap().is_some())
        .collect();
    assert_eq!(left, [true, false, true, true]);
}

#[tokio::test]
async fn addresses_come_from_every_range_that_is_ready() {
    let cluster = Cluster::with(&["10.43.0.0/28"], false).await;
    let plain = || json!({"ports": [{"port": 80}]});
    cluster.create(&service_cidr("kubernetes", &["10.43.0.0/28"])).await.unwrap();
    for n in 0..14 {
        cluster.create(&service(&format!("s{n}"), plain())).await.unwrap();
    }
    let full = cluster.create(&service("more", plain())).await.unwrap_err();
    assert_eq!(full.code, 500);
    let said = "Internal error occurred: failed to allocate a serviceIP for Service \"more\": range is full";
    assert_eq!(complaints(&full), said);
    let by_name = |address: &str| service("named", json!({"clusterIP": address, "ports": [{"port": 80}]}));
    let refused = cluster.create(&by_name("10.44.0.7")).await.unwrap_err();
    assert!(complaints(&refused).contains("the provided network does not match the current range"), "{refused:?}");
    let second = cluster.create(&service_cidr("second", &["10.44.0.0/28"])).await.unwrap();
    let more = cluster.create(&service("more", plain())).await.unwrap();
    let given = more["spec"]["clusterIP"].as_str().unwrap();
    assert!(given.starts_with("10.44.0."));
    // Any of the range may have been given.
    let free = if given == "10.44.0.7" { "10.44.0.8" } else { "10.44.0.7" };
    cluster.create(&by_name(free)).await.unwrap();
    // Nothing is given out of one that somebody says is not ready, nor of one that is to go.
    let mut not_ready = second.clone();
    let condition = |status: &str| {
        json!({"conditions": [{"type": "Ready", "status": status, "reason": "", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    not_ready["status"] = condition("False");
    let not_ready = cluster.update(&not_ready, "status").await.unwrap();
    assert_eq!(cluster.create(&service("none", plain())).await.unwrap_err().code, 500);
    let mut held = not_ready.clone();
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    cluster.update(&held, "").await.unwrap();
    assert!(matches!(cluster.delete(&held).await, Deleted::Marked(_)));
    let mut marked = store(&cluster, "servicecidrs").get("second").unwrap().unwrap().to_value().unwrap();
    marked["status"] = condition("True");
    cluster.update(&marked, "status").await.unwrap();
    assert_eq!(cluster.create(&service("none", plain())).await.unwrap_err().code, 500);
}

#[tokio::test]
async fn a_service_of_two_families_is_made_grows_and_shrinks() {
    let cluster = Cluster::with(&["10.43.0.0/24", "fd00:43::/112"], false).await;
    let held = || store(&cluster, "ipaddresses").count();
    let ports = json!([{"port": 80}]);
    let both = service("both", json!({"ipFamilyPolicy": "RequireDualStack", "ports": ports}));
    let created = cluster.create(&both).await.unwrap();
    let ips = created["spec"]["clusterIPs"].as_array().unwrap();
    assert!(ips[0].as_str().unwrap().starts_with("10.43.0.") && ips[1].as_str().unwrap().starts_with("fd00:43::"));
    assert_eq!((created["spec"]["clusterIP"].clone(), held()), (ips[0].clone(), 2));
    let second = store(&cluster, "ipaddresses").get(ips[1].as_str().unwrap()).unwrap().unwrap().to_value().unwrap();
    assert_eq!(second["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv6");
    let mut shrunk = created.clone();
    shrunk["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    let shrunk = cluster.update(&shrunk, "").await.unwrap();
    assert_eq!((shrunk["spec"]["clusterIPs"].clone(), held()), (json!([ips[0]]), 1));
    let mut grown = shrunk.clone();
    grown["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
    let grown = cluster.update(&grown, "").await.unwrap();
    assert_eq!((grown["spec"]["ipFamilies"].clone(), held()), (json!(["IPv4", "IPv6"]), 2));
    let mut named = grown.clone();
    named["spec"] = json!({"type": "ExternalName", "externalName": "a.example", "ports": ports});
    cluster.update(&named, "").await.unwrap();
    assert_eq!(held(), 0);
    let v6 = service("six", json!({"ipFamilies": ["IPv6"], "clusterIP": "FD00:43::7", "ports": ports}));
    assert_eq!(cluster.create(&v6).await.unwrap()["spec"]["clusterIPs"], json!(["FD00:43::7"]));
    assert!(store(&cluster, "ipaddresses").get("fd00:43::7").unwrap().is_some(), "claims are written in one way");
    cluster.delete(&v6).await;
    assert_eq!(held(), 0);
}

/// What a stock server stores: it knows nothing of our claims.
#[derive(Debug)]
struct Stock(&'static str);

impl Amend for Stock {
    fn key(&self) -> &str {
        "/registry/ranges/servicenodeports"
    }

    fn amend(&self, _: Option<&[u8]>) -> Result<Option<Bytes>, Taken> {
        let record = json!({"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {}, "range": "30000-30100",
            "data": self.0});
        Ok(Some(record.to_string().into()))
    }
}

#[tokio::test]
async fn node_ports_are_shared_with_servers_that_keep_a_record_of_their_own() {
    let cluster = Cluster::with(&["10.43.0.0/24"], true).await;
    let record = || async {
        let value = store(&cluster, "ipaddresses").value_of("/registry/ranges/servicenodeports").await.unwrap();
        let value: Value = serde_json::from_slice(&value.unwrap().0).unwrap();
        (value["range"].as_str().unwrap().to_owned(), value["data"].as_str().unwrap().to_owned())
    };
    let web = |port: u32| service("web", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}));
    cluster.registry.repair_claims().await.unwrap();
    cluster.create(&web(30_000)).await.unwrap();
    // The lowest bit is the first port.
    assert_eq!(record().await, ("30000-30100".into(), "AQ==".into()));
    // Another server takes 30001, for a service that is not there yet.
    let services = store(&cluster, "ipaddresses");
    services.amend(Arc::new(Stock("Aw=="))).await.unwrap();
    let taken = service("other", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_001}]}));
    let refused = cluster.create(&taken).await.unwrap_err();
    assert!(complaints(&refused).contains("provided port is already allocated"), "{refused:?}");
    cluster.registry.repair_claims().await.unwrap();
    assert_eq!(record().await.1, "Aw==", "it may be about to be stored");
    // It gives it back, and here it can be had.
    services.amend(Arc::new(Stock("AQ=="))).await.unwrap();
    cluster.create(&taken).await.unwrap();
    assert_eq!(record().await.1, "Aw==");
    cluster.delete(&web(30_000)).await;
    assert_eq!(record().await.1, "Ag==");
    // What the record lacks is told and put right.
    services.amend(Arc::new(Stock(""))).await.unwrap();
    let findings = cluster.registry.repair_claims().await.unwrap();
    assert_eq!(findings.iter().map(|f| f.reason).collect::<Vec<_>>(), ["PortNotAllocated"]);
    assert_eq!(record().await.1, "Ag==");
}

#[tokio::test]
async fn ports_of_one_number_and_two_protocols_share_a_node_port() {
    let cluster = Cluster::new().await;
    let ports = json!([{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53, "protocol": "TCP"},
        {"name": "c", "port": 54, "protocol": "TCP"}]);
    let created = cluster.create(&service("dns", json!({"type": "NodePort", "ports": ports}))).await.unwrap();
    let port = |n: usize| created["spec"]["ports"][n]["nodePort"].as_i64().unwrap();
    assert!(port(0) == port(1) && port(1) != port(2));
}
