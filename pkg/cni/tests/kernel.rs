//! The plug-in in a real kernel: two pods on a node reach each other, the node and the outside, and
//! nothing is left of them afterwards. Needs root; without it the tests say so and do nothing.
//!
//! Every test has network namespaces of its own, named `kedge-test-*`, and removes them at its end.
#![allow(clippy::unwrap_used)]

use kedge_cni::{BRIDGE, CniError, Invocation, NetConf, Settings};
use kedge_nft::{Nft, NftCommand};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{test}: skipped, network namespaces need root");
    }
    root
}

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn in_namespace<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{name}")).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// A node with an outside, and empty namespaces for two pods.
struct Net {
    id: String,
    dir: tempfile::TempDir,
}

impl Net {
    fn new(test: &str) -> Self {
        let id = format!("kedge-test-{test}-{}", std::process::id());
        let net = Self { id, dir: tempfile::tempdir().unwrap() };
        for which in ["node", "a", "b", "x"] {
            sh(&format!("ip netns add {}", net.ns(which)));
        }
        let (node, x) = (net.ns("node"), net.ns("x"));
        sh(&format!(
            "ip -n {node} link set lo up
             ip link add uplink netns {node} type veth peer name eth0 netns {x}
             ip -n {node} addr add 192.168.78.1/24 dev uplink
             ip -n {node} link set uplink up
             ip -n {x} addr add 192.168.78.2/24 dev eth0
             ip -n {x} link set eth0 up"
        ));
        net
    }

    fn ns(&self, which: &str) -> String {
        format!("{}-{which}", self.id)
    }

    /// Runs a command of the plug-in as the runtime does: in the node's namespace.
    fn on_node<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        in_namespace(&self.ns("node"), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        })
    }

    fn conf(&self, ports: Value) -> NetConf {
        let conf = json!({
            "cniVersion": "1.0.0", "name": "kedge", "type": "kedge-cni",
            "podCIDR": "10.42.0.0/24", "clusterCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16",
            "mtu": 1400, "dataDir": self.dir.path(), "runtimeConfig": {"portMappings": ports},
        });
        NetConf::parse(conf.to_string().as_bytes()).unwrap()
    }

    fn pod(&self, which: &str) -> Invocation {
        Invocation {
            container_id: format!("container-{which}"),
            ifname: "eth0".into(),
            netns: Some(format!("/run/netns/{}", self.ns(which)).into()),
            pod: format!("default/{which}"),
        }
    }

    /// ADD; the answer's address.
    fn add(&self, which: &str, ports: Value) -> Result<IpAddr, CniError> {
        let (conf, pod) = (self.conf(ports), self.pod(which));
        let result = self.on_node(move || async move { kedge_cni::add(&conf, &pod, &NftCommand::new()).await })?;
        let address = result["ips"][0]["address"].as_str().unwrap().to_owned();
        Ok(address.trim_end_matches("/32").parse().unwrap())
    }

    fn del(&self, which: &str) {
        let (conf, pod) = (self.conf(json!([])), self.pod(which));
        self.on_node(move || async move { kedge_cni::del(&conf, &pod, &NftCommand::new()).await }).unwrap();
    }

    fn check(&self, which: &str) -> Result<(), CniError> {
        let (conf, pod) = (self.conf(json!([])), self.pod(which));
        self.on_node(move || async move { kedge_cni::check(&conf, &pod).await })
    }

    /// Answers every connection with the client's address.
    fn listen(&self, which: &str, port: u16) {
        let listener = in_namespace(&self.ns(which), move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        });
    }

    /// The client address that the listener saw.
    fn dial(&self, from: &str, to: impl ToString) -> Result<String, ErrorKind> {
        let to: SocketAddr = to.to_string().parse().unwrap();
        in_namespace(&self.ns(from), move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(|e| e.kind())?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map_err(|e| e.kind())?;
            Ok(text)
        })
    }

    fn links(&self) -> String {
        sh(&format!("ip -n {} -br link", self.ns("node")))
    }

    fn records(&self) -> Vec<String> {
        let dir = self.dir.path().join("agent/cni/ips");
        let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).collect()
    }

    fn table(&self, name: &'static str) -> Option<String> {
        self.on_node(move || async move { NftCommand::new().list_table("ip", name).await.unwrap() })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for which in ["node", "a", "b", "x"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(which)]).output();
        }
    }
}

fn port(host: u16, pod: u16) -> Value {
    json!({"hostPort": host, "containerPort": pod, "protocol": "tcp"})
}

#[test]
fn pods_reach_each_other_the_node_and_the_outside_and_leave_nothing() {
    if !is_root("pods_reach_each_other_the_node_and_the_outside_and_leave_nothing") {
        return;
    }
    let net = Net::new("cni");
    let a = net.add("a", json!([port(18080, 80)])).unwrap();
    let b = net.add("b", json!([])).unwrap();
    assert_eq!((a.to_string(), b.to_string()), ("10.42.0.2".into(), "10.42.0.3".into()));
    net.listen("a", 80);
    net.listen("b", 80);
    net.listen("x", 80);
    net.listen("node", 8000);
    assert_eq!(net.dial("a", format!("{b}:80")).unwrap(), a.to_string());
    assert_eq!(net.dial("b", format!("{a}:80")).unwrap(), b.to_string());
    assert_eq!(net.dial("a", "10.42.0.1:8000").unwrap(), a.to_string());
    assert_eq!(net.dial("node", format!("{a}:80")).unwrap(), "10.42.0.1");
    assert_eq!(net.dial("a", "192.168.78.2:80").unwrap(), "192.168.78.1", "masqueraded");
    // The host port, from everywhere.
    assert_eq!(net.dial("x", "192.168.78.1:18080").unwrap(), "192.168.78.2");
    assert_eq!(net.dial("node", "127.0.0.1:18080").unwrap(), "10.42.0.1");
    assert_eq!(net.dial("node", "192.168.78.1:18080").unwrap(), "192.168.78.1");
    assert_eq!(net.dial("b", "192.168.78.1:18080").unwrap(), b.to_string());
    assert_eq!(net.dial("a", "192.168.78.1:18080").unwrap(), "10.42.0.1", "to itself");
    let mtu = sh(&format!("ip -n {} link show eth0", net.ns("a")));
    assert!(mtu.contains("mtu 1400"), "{mtu}");
    net.check("a").unwrap();

    // The namespace of one pod is gone before its DEL, as after a crash of the runtime.
    sh(&format!("ip netns del {}", net.ns("a")));
    net.del("a");
    net.del("b");
    net.del("b");
    assert!(!net.links().contains("veth"), "{}", net.links());
    assert!(net.links().contains(BRIDGE), "the bridge belongs to the node");
    assert_eq!(net.records(), [""; 0]);
    assert_eq!(net.table("kedge-hostport"), None);
    assert_eq!(net.check("b").unwrap_err().code(), 104);
}

#[test]
fn add_can_be_repeated_and_a_failed_one_leaves_nothing() {
    if !is_root("add_can_be_repeated_and_a_failed_one_leaves_nothing") {
        return;
    }
    let net = Net::new("again");
    let a = net.add("a", json!([port(18080, 80)])).unwrap();
    let b = net.add("b", json!([port(18080, 80)]));
    assert_eq!(b.unwrap_err().code(), 101, "the host port is taken");
    assert_eq!(net.records().len(), 1);
    // The first process was killed after it had made the interface in the pod.
    sh(&format!("ip -n {} link del eth0", net.ns("a")));
    assert_eq!(net.check("a").unwrap_err().code(), 104);
    assert_eq!(net.add("a", json!([port(18080, 80)])).unwrap(), a);
    net.check("a").unwrap();
    // A namespace that is none: the address goes back, the other pod stays.
    let mut pod = net.pod("b");
    pod.netns = Some("/etc/hostname".into());
    let conf = net.conf(json!([]));
    let failed = net.on_node(move || async move { kedge_cni::add(&conf, &pod, &NftCommand::new()).await });
    assert!(failed.is_err());
    assert_eq!(net.records(), ["10.42.0.2"]);
    // A pod that went without DEL does not keep its host port.
    sh(&format!("ip netns del {}", net.ns("a")));
    for _ in 0..500 {
        if !net.links().contains("veth") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    net.add("b", json!([port(18080, 80)])).unwrap();
    assert_eq!(net.records().len(), 1);
}

#[test]
fn the_runtimes_loopback_plug_in_is_served_as_well() {
    if !is_root("the_runtimes_loopback_plug_in_is_served_as_well") {
        return;
    }
    let net = Net::new("lo");
    let conf = NetConf::parse(br#"{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}"#).unwrap();
    let pod = Invocation { ifname: "lo".into(), ..net.pod("a") };
    let nft = NftCommand::new();
    let result = net.on_node(move || async move {
        let result = kedge_cni::add(&conf, &pod, &nft).await.unwrap();
        kedge_cni::check(&conf, &pod).await.unwrap();
        kedge_cni::del(&conf, &pod, &nft).await.unwrap();
        result
    });
    assert_eq!(result["ips"][0], json!({"version": "4", "address": "127.0.0.1/8", "interface": 0}));
    let link = sh(&format!("ip -n {} link show lo", net.ns("a")));
    assert!(link.contains("LOOPBACK,UP"), "{link}");
}

#[test]
fn gc_and_cleanup_take_everything_away() {
    if !is_root("gc_and_cleanup_take_everything_away") {
        return;
    }
    let net = Net::new("gc");
    net.add("a", json!([port(18080, 80)])).unwrap();
    let b = net.add("b", json!([])).unwrap();
    let conf = json!({
        "cniVersion": "1.1.0", "name": "kedge", "podCIDR": "10.42.0.0/24", "dataDir": net.dir.path(),
        "cni.dev/valid-attachments": [{"containerID": "container-b", "ifname": "eth0"}],
    });
    let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
    net.on_node(move || async move { kedge_cni::gc(&conf, &NftCommand::new()).await }).unwrap();
    assert_eq!(net.records(), [b.to_string()]);
    assert_eq!(net.table("kedge-hostport"), None);
    let dir = net.dir.path().to_owned();
    net.on_node(move || async move {
        kedge_cni::cleanup(&dir, &NftCommand::new()).await.unwrap();
        kedge_cni::cleanup(&dir, &NftCommand::new()).await.unwrap();
    });
    assert!(!net.links().contains("veth") && !net.links().contains(BRIDGE), "{}", net.links());
    assert_eq!(net.table("kedge-masq"), None);
    // Without the guard nobody keeps the network from what listens on 127.0.0.1 (CVE-2020-8558).
    let open = "cat /proc/sys/net/ipv4/conf/all/route_localnet";
    assert_eq!(sh(&format!("ip netns exec {} {open}", net.ns("node"))).trim(), "0");
    assert!(!net.dir.path().join("agent/cni/ips").exists());
}

#[test]
fn the_node_can_be_prepared_more_than_once() {
    if !is_root("the_node_can_be_prepared_more_than_once") {
        return;
    }
    let net = Net::new("host");
    let settings: Settings = net.conf(json!([])).settings().unwrap();
    net.on_node(move || async move {
        kedge_cni::ensure_host(&settings, &NftCommand::new()).await.unwrap();
        kedge_cni::ensure_host(&settings, &NftCommand::new()).await.unwrap();
    });
    let node = net.ns("node");
    let routes = sh(&format!("ip -n {node} route"));
    assert!(routes.contains("10.43.0.0/16 dev kedge0") && routes.contains("10.42.0.0/24 dev kedge0"), "{routes}");
    // A server can listen on the bridge's address before there is any pod.
    in_namespace(&node, || TcpListener::bind("10.42.0.1:53").map(drop)).unwrap();
}
