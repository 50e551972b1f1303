//! The proxy's rules in a real kernel: packets from pods, from the node and from outside reach the
//! endpoints they should. Needs root; without it the tests say so and do nothing.
//!
//! Every test has network namespaces of its own, named `kedge-test-*`, and removes them at its end.
#![allow(clippy::unwrap_used)]

use kedge_meta::ObjectKey;
use kedge_nft::{Nft, NftCommand};
use kedge_proxy::endpoints::Place;
use kedge_proxy::objects::{EndpointSlice, Service};
use kedge_proxy::plan::Context;
use kedge_proxy::ruleset::Shape;
use kedge_proxy::syncer::Syncer;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{test}: skipped, network namespaces need root");
    }
    root
}

fn sh(script: &str) {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

fn in_namespace<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = File::open(format!("/run/netns/{name}")).unwrap();
    std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

/// A node with two pods on it, and a client outside.
struct Net {
    id: String,
}

impl Net {
    fn new(test: &str) -> Self {
        let net = Self { id: format!("kedge-test-{test}-{}", std::process::id()) };
        let (node, a, b, x) = (net.ns("node"), net.ns("a"), net.ns("b"), net.ns("x"));
        sh(&format!("for ns in {node} {a} {b} {x}; do ip netns add $ns; ip -n $ns link set lo up; done"));
        sh(&format!(
            "ip netns exec {node} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'"
        ));
        for (ns, dev, ip) in [(&a, "va", "10.42.0.5"), (&b, "vb", "10.42.0.6")] {
            sh(&format!(
                "ip link add {dev} netns {node} type veth peer name eth0 netns {ns}
                 ip -n {node} addr add 10.42.0.1/32 dev {dev}
                 ip -n {node} link set {dev} up
                 ip -n {node} route add {ip}/32 dev {dev}
                 ip -n {ns} addr add {ip}/32 dev eth0
                 ip -n {ns} link set eth0 up
                 ip -n {ns} route add 10.42.0.1 dev eth0
                 ip -n {ns} route add default via 10.42.0.1"
            ));
        }
        sh(&format!(
            "ip link add vx netns {node} type veth peer name eth0 netns {x}
             ip -n {node} addr add 192.168.77.1/24 dev vx
             ip -n {node} link set vx up
             ip -n {node} route add default via 192.168.77.2
             ip -n {x} addr add 192.168.77.2/24 dev eth0
             ip -n {x} link set eth0 up
             ip -n {x} route add default via 192.168.77.1"
        ));
        net.listen("a", "10.42.0.5:8080");
        net.listen("b", "10.42.0.6:8080");
        net
    }

    fn ns(&self, which: &str) -> String {
        format!("{}-{which}", self.id)
    }

    /// Answers every connection with the own name and the client's address.
    fn listen(&self, which: &'static str, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let listener = in_namespace(&self.ns(which), move || TcpListener::bind(address).unwrap());
        let listener = listener.join().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(format!("{which} {}", peer.ip()).as_bytes());
            }
        });
    }

    /// Makes a pod, or whoever is outside, send packets for 127.0.0.0/8 to the node instead of to itself.
    fn sends_loopback(&self, which: &str, node: &str) {
        let ns = self.ns(which);
        sh(&format!(
            "ip netns exec {ns} sh -c 'for name in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$name/route_localnet; done'
             ip -n {ns} link set lo down
             ip -n {ns} addr flush dev lo
             ip -n {ns} route add 127.0.0.0/8 via {node}"
        ));
    }

    /// Who answered and which client address it saw, or how the connection failed.
    fn dial(&self, from: &str, to: &str) -> Result<(String, IpAddr), std::io::ErrorKind> {
        let to: SocketAddr = to.parse().unwrap();
        let answer = in_namespace(&self.ns(from), move || {
            let limit = Duration::from_secs(1);
            let mut stream = TcpStream::connect_timeout(&to, limit).map_err(|e| e.kind())?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map_err(|e| e.kind())?;
            let (name, ip) = text.split_once(' ').unwrap();
            Ok((name.to_owned(), ip.parse().unwrap()))
        });
        answer.join().unwrap()
    }

    fn names(&self, from: &str, to: &str) -> BTreeSet<String> {
        (0..24).map(|_| self.dial(from, to).unwrap().0).collect()
    }

    fn nft(&self) -> NftCommand {
        NftCommand::with_prefix(["ip", "netns", "exec", self.ns("node").as_str()])
    }

    fn syncer(&self) -> Syncer {
        let shape = Shape {
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            localhost_node_ports: true,
        };
        let place = Place { node: "n1".into(), zone: String::new() };
        Syncer::new(Arc::new(self.nft()), shape, Context { place, node_ips: Vec::new() })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for which in ["node", "a", "b", "x"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(which)]).output();
        }
    }
}

fn service(extra: Value) -> Service {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": "10.43.0.10", "externalIPs": ["203.0.113.9"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "d"}, "spec": spec})).unwrap()
}

fn slices(ips: &[&str]) -> Vec<Arc<EndpointSlice>> {
    let node = |ip: &str| if ip.starts_with("10.42.0.") { "n1" } else { "n2" };
    let endpoints: Vec<_> = ips.iter().map(|ip| json!({"addresses": [ip], "nodeName": node(ip)})).collect();
    let slice = json!({
        "metadata": {"name": "web-1", "namespace": "d"}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    });
    vec![Arc::new(serde_json::from_value(slice).unwrap())]
}

fn key() -> ObjectKey {
    ObjectKey::new("d", "web")
}

const BOTH: [&str; 2] = ["10.42.0.5", "10.42.0.6"];

#[tokio::test]
async fn every_kind_of_address_reaches_the_endpoints() {
    if !is_root("every_kind_of_address_reaches_the_endpoints") {
        return;
    }
    let net = Net::new("reach");
    let mut syncer = net.syncer();
    syncer.update(&key(), Some(&service(json!({}))), &slices(&BOTH));
    assert!(syncer.sync().await.unwrap().full);
    let all = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    for (from, to) in [
        ("a", "10.43.0.10:80"),
        ("node", "10.43.0.10:80"),
        ("x", "10.43.0.10:80"),
        ("x", "192.168.77.1:30080"),
        ("x", "203.0.113.9:80"),
        ("a", "192.168.77.1:30080"),
        ("node", "192.168.77.1:30080"),
        ("node", "127.0.0.1:30080"),
    ] {
        assert_eq!(net.names(from, to), all, "from {from} to {to}");
    }
    // Pods keep their address inside the cluster; others are masqueraded; a pod that reaches
    // itself through the service sees the node.
    for _ in 0..8 {
        let (name, ip) = net.dial("a", "10.43.0.10:80").unwrap();
        assert_eq!(ip.to_string() == "10.42.0.5", name == "b", "{name} saw {ip}");
        assert_eq!(net.dial("x", "10.43.0.10:80").unwrap().1.to_string(), "10.42.0.1");
    }
    // A port that the service does not have is refused, an unused service address leads nowhere,
    // and the service's port is not open on the node.
    use std::io::ErrorKind::{ConnectionRefused, TimedOut};
    assert_eq!(net.dial("a", "10.43.0.10:81"), Err(ConnectionRefused));
    assert_eq!(net.dial("a", "10.43.9.9:80"), Err(TimedOut));
    assert_eq!(net.dial("x", "192.168.77.1:80"), Err(ConnectionRefused));
}

/// CVE-2020-8558: `route_localnet`, which node ports on 127.0.0.1 need, let neighbours and pods reach what listens on 127.0.0.1 alone.
#[tokio::test]
async fn what_listens_on_loopback_is_for_the_node_alone() {
    if !is_root("what_listens_on_loopback_is_for_the_node_alone") {
        return;
    }
    let net = Net::new("loopback");
    net.listen("node", "127.0.0.1:9000");
    net.sends_loopback("x", "192.168.77.1");
    net.sends_loopback("a", "10.42.0.1");
    for from in ["x", "a"] {
        assert_eq!(net.dial(from, "127.0.0.1:9000").unwrap().0, "node", "that is how it is done from {from}");
    }
    let mut syncer = net.syncer();
    syncer.update(&key(), Some(&service(json!({}))), &slices(&BOTH[1..]));
    syncer.sync().await.unwrap();
    for from in ["x", "a"] {
        for to in ["127.0.0.1:9000", "127.0.0.1:30080", "127.9.9.9:30080"] {
            assert_eq!(net.dial(from, to), Err(std::io::ErrorKind::TimedOut), "from {from} to {to}");
        }
    }
    assert_eq!(net.dial("node", "127.0.0.1:9000").unwrap().0, "node");
    assert_eq!(net.dial("node", "127.0.0.1:30080").unwrap().0, "b");
}

#[tokio::test]
async fn endpoints_come_and_go_incrementally() {
    if !is_root("endpoints_come_and_go_incrementally") {
        return;
    }
    let net = Net::new("incr");
    let mut syncer = net.syncer();
    let web = service(json!({}));
    syncer.update(&key(), Some(&web), &slices(&BOTH));
    syncer.sync().await.unwrap();
    syncer.update(&key(), Some(&web), &slices(&BOTH[1..]));
    assert!(!syncer.sync().await.unwrap().full);
    assert_eq!(net.names("x", "192.168.77.1:30080"), BTreeSet::from(["b".to_owned()]));
    syncer.update(&key(), Some(&web), &slices(&[]));
    syncer.sync().await.unwrap();
    for (from, to) in [("a", "10.43.0.10:80"), ("node", "10.43.0.10:80"), ("x", "192.168.77.1:30080")] {
        assert_eq!(net.dial(from, to), Err(std::io::ErrorKind::ConnectionRefused), "from {from} to {to}");
    }
    syncer.update(&key(), Some(&web), &slices(&BOTH[..1]));
    syncer.sync().await.unwrap();
    assert_eq!(net.names("a", "10.43.0.10:80"), BTreeSet::from(["a".to_owned()]));
    syncer.update(&key(), None, &[]);
    syncer.sync().await.unwrap();
    let left = net.nft().list_table("ip", "kedge-proxy").await.unwrap().unwrap();
    assert!(!left.contains("10.43.0.10") && !left.contains("10.42.0.5"), "{left}");
    // The maps for each number of endpoints stayed for good, once there had been a service with as many.
    assert!(syncer.has_leftovers());
    syncer.sync().await.unwrap();
    let left = net.nft().list_table("ip", "kedge-proxy").await.unwrap().unwrap();
    assert!(!left.contains("-ep") && !syncer.has_leftovers(), "{left}");
    syncer.update(&key(), Some(&web), &slices(&BOTH));
    assert!(!syncer.sync().await.unwrap().full);
    assert_eq!(net.names("x", "192.168.77.1:30080").len(), 2);
}

#[tokio::test]
async fn local_policy_keeps_the_source_and_drops_without_a_local_endpoint() {
    if !is_root("local_policy_keeps_the_source_and_drops_without_a_local_endpoint") {
        return;
    }
    let net = Net::new("local");
    let mut syncer = net.syncer();
    let web = service(json!({"externalTrafficPolicy": "Local"}));
    syncer.update(&key(), Some(&web), &slices(&["10.42.0.5", "10.42.9.9"]));
    syncer.sync().await.unwrap();
    for _ in 0..8 {
        let (name, ip) = net.dial("x", "192.168.77.1:30080").unwrap();
        assert_eq!((name.as_str(), ip.to_string().as_str()), ("a", "192.168.77.2"));
    }
    syncer.update(&key(), Some(&web), &slices(&["10.42.9.9"]));
    syncer.sync().await.unwrap();
    assert_eq!(net.dial("x", "192.168.77.1:30080"), Err(std::io::ErrorKind::TimedOut));
}

#[tokio::test]
async fn affinity_keeps_a_client_at_its_endpoint() {
    if !is_root("affinity_keeps_a_client_at_its_endpoint") {
        return;
    }
    let net = Net::new("affinity");
    let mut syncer = net.syncer();
    let sticky = service(json!({"sessionAffinity": "ClientIP"}));
    syncer.update(&key(), Some(&sticky), &slices(&BOTH));
    syncer.sync().await.unwrap();
    for (from, to) in [("x", "192.168.77.1:30080"), ("x", "10.43.0.10:80"), ("node", "10.43.0.10:80")] {
        assert_eq!(net.names(from, to).len(), 1, "from {from} to {to}");
    }
    let plain = service(json!({}));
    syncer.update(&key(), Some(&plain), &slices(&BOTH));
    syncer.sync().await.unwrap();
    assert_eq!(net.names("x", "192.168.77.1:30080").len(), 2);
    // The chains that fell out of use are deleted by the next change.
    syncer.update(&key(), Some(&sticky), &slices(&BOTH[..1]));
    syncer.sync().await.unwrap();
    assert_eq!(net.names("x", "10.43.0.10:80"), BTreeSet::from(["a".to_owned()]));
}

#[tokio::test]
async fn a_table_that_somebody_removed_is_written_again_and_cleanup_removes_it() {
    if !is_root("a_table_that_somebody_removed_is_written_again_and_cleanup_removes_it") {
        return;
    }
    let net = Net::new("repair");
    let mut syncer = net.syncer();
    syncer.update(&key(), Some(&service(json!({}))), &slices(&BOTH));
    syncer.sync().await.unwrap();
    kedge_proxy::cleanup(&net.nft()).await.unwrap();
    kedge_proxy::cleanup(&net.nft()).await.unwrap();
    assert_eq!(net.nft().list_table("ip", "kedge-proxy").await.unwrap(), None);
    syncer.update(&key(), Some(&service(json!({}))), &slices(&BOTH[..1]));
    assert!(syncer.sync().await.is_err());
    assert!(syncer.sync().await.unwrap().full);
    assert_eq!(net.names("a", "10.43.0.10:80"), BTreeSet::from(["a".to_owned()]));
    // A new process writes over the table that is there.
    let mut next = net.syncer();
    next.update(&key(), Some(&service(json!({}))), &slices(&BOTH[1..]));
    assert!(next.sync().await.unwrap().full);
    assert_eq!(net.names("a", "10.43.0.10:80"), BTreeSet::from(["b".to_owned()]));
}
