//! Ports of the node that lead to pods.

use std::io::Read as _;
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::services::{Done, answer_datagrams};
use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

const PORT: u16 = 28_080;
/// Rather a failure than a test that hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A pod that tells its name to whoever comes. Over UDP somebody else has to, in its network.
fn pod(cluster: &TestCluster, name: &str, host_ip: &str, protocol: &str) {
    let port = if protocol == "UDP" { 9053 } else { 8080 };
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {WEB_1}
    args: [\"exec nc -ll -p 8080 -e hostname\"]
    ports: [{{containerPort: {port}, hostPort: {PORT}, hostIP: \"{host_ip}\", protocol: {protocol}}}]
"
    ));
}

fn ready(cluster: &TestCluster, name: &str) {
    cluster.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
}

/// Who answers at an address over TCP.
fn who(address: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect((address, PORT)).map_err(|err| err.to_string())?;
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let mut name = String::new();
    stream.read_to_string(&mut name).map_err(|err| err.to_string())?;
    Ok(name.trim().to_owned())
}

/// Who answers one sender, which always sends from the same port.
fn who_hears(sender: &UdpSocket, address: &str) -> Result<String, String> {
    sender.send_to(b"who\n", (address, PORT)).map_err(|err| err.to_string())?;
    let mut name = [0; 100];
    let length = sender.recv(&mut name).map_err(|err| err.to_string())?;
    Ok(String::from_utf8_lossy(&name[..length]).split(' ').next().unwrap_or_default().to_owned())
}

fn is(expected: &str, got: Result<String, String>) -> Result<(), String> {
    if got.as_deref() == Ok(expected) { Ok(()) } else { Err(format!("{got:?}")) }
}

/// One number may be a port of several pods, by address and protocol; and whoever gets a port over UDP also hears those who
/// were sending before.
#[test]
fn ports_of_the_node_are_those_of_their_pods_by_address_and_protocol() {
    let cluster = TestCluster::node();
    let address = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
    let address = cluster.ok(&["get", "nodes", "-o", address]);
    for (name, host_ip, protocol) in [("a", "127.0.0.1", "TCP"), ("b", &address, "TCP"), ("c", &address, "UDP")] {
        pod(&cluster, name, host_ip, protocol);
        ready(&cluster, name);
    }
    eventually("the port of 127.0.0.1", || is("a", who("127.0.0.1")));
    eventually("the port of the node's address", || is("b", who(&address)));
    let done = Done(Arc::default());
    answer_datagrams(&cluster, "c", done.0.clone());
    let sender = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    sender.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    eventually("the port over UDP", || is("c", who_hears(&sender, &address)));
    // It keeps on sending while nobody has the port.
    cluster.ok(&["delete", "pod", "c"]);
    // Answers to what was asked before may still be on their way.
    eventually("nobody has the port over UDP", || match who_hears(&sender, &address) {
        Ok(name) => Err(name),
        Err(_) => Ok(()),
    });
    pod(&cluster, "d", &address, "UDP");
    ready(&cluster, "d");
    answer_datagrams(&cluster, "d", done.0.clone());
    eventually("the next pod with the port over UDP", || is("d", who_hears(&sender, &address)));
    // Nobody has the port when its pods are gone.
    cluster.ok(&["delete", "pod", "a", "b", "d"]);
    eventually("the port is free", || if who(&address).is_err() { Ok(()) } else { Err("somebody answers".to_owned()) });
}
