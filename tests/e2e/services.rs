//! Services: what the node's rules do with real packets.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// Rather a failure than a test that hangs; nothing that is refused takes so long.
const HANGS: Duration = Duration::from_secs(60);
/// Enough for chance to draw each of three endpoints.
const DRAWS: usize = 40;

fn workload(cluster: &TestCluster) {
    cluster.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: names}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: names}}}}
  template:
    metadata: {{labels: {{app: names}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {WEB_1}
        args:
        - |
          nc -ll -p 8080 -e hostname &
          nc -ll -p 8081 -e echo administration &
          trap 'exit 0' TERM; while true; do sleep 0.2; done
        ports:
        - {{name: name, containerPort: 8080}}
        - {{name: admin, containerPort: 8081}}
        - {{name: name-udp, containerPort: 9053, protocol: UDP}}
        readinessProbe: {{tcpSocket: {{port: admin}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: names}}
spec:
  type: NodePort
  selector: {{app: names}}
  ports:
  - {{name: name, port: 80, targetPort: name}}
  - {{name: admin, port: 81, targetPort: admin}}
  - {{name: datagrams, port: 80, targetPort: name-udp, protocol: UDP}}
---
apiVersion: v1
kind: Service
metadata: {{name: sticky}}
spec:
  sessionAffinity: ClientIP
  selector: {{app: names}}
  ports: [{{port: 80, targetPort: name}}]
---
apiVersion: v1
kind: Service
metadata: {{name: empty}}
spec:
  type: NodePort
  selector: {{app: nobody}}
  ports:
  - {{name: stream, port: 80, targetPort: 8080}}
  - {{name: datagrams, port: 80, targetPort: 9053, protocol: UDP}}
"
    ));
    cluster.ok(&["rollout", "status", "deployment/names", "--timeout=180s"]);
    cluster.ok(&["run", "client", &format!("--image={WEB_1}"), "--restart=Never", "--", "sleep 3600"]);
    cluster.ok(&["wait", "--for=condition=Ready", "pod/client", "--timeout=180s"]);
}

fn cluster_ip(cluster: &TestCluster, service: &str) -> String {
    cluster.ok(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"])
}

fn node_port(cluster: &TestCluster, service: &str, port: usize) -> String {
    cluster.ok(&["get", "service", service, "-o", &format!("jsonpath={{.spec.ports[{port}].nodePort}}")])
}

fn node_ip(cluster: &TestCluster) -> String {
    cluster.ok(&["get", "node", "n1", "-o", "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}"])
}

/// Answers datagrams in the network of a pod with the pod's name. No part of the images' busybox speaks UDP, so a thread
/// goes there; it ends when the flag is set.
pub fn answer_datagrams(cluster: &TestCluster, pod: &str, done: Arc<AtomicBool>) {
    let id = cluster.ok(&["get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"]);
    let id = id.trim_start_matches("containerd://");
    let tasks = std::process::Command::new("ctr")
        .arg("--address")
        .arg(cluster.runtime_socket())
        .args(["-n", "k8s.io", "tasks", "ls"])
        .output()
        .unwrap();
    let tasks = String::from_utf8(tasks.stdout).unwrap();
    let task = tasks.lines().find(|l| l.starts_with(id)).unwrap();
    let pid = task.split_whitespace().nth(1).unwrap();
    let network = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let (pod, (ready, wait)) = (pod.to_owned(), mpsc::channel());
    std::thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let socket = UdpSocket::bind(("0.0.0.0", 9053)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 512];
        while !done.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                socket.send_to(format!("{pod} {line}").as_bytes(), from).unwrap();
            }
        }
    });
    wait.recv().unwrap();
}

/// Sets a flag when the test ends, however it ends.
pub struct Done(pub Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn answer_in_all_pods(cluster: &TestCluster) -> Done {
    let done = Done(Arc::default());
    for pod in pods(cluster) {
        answer_datagrams(cluster, &pod, done.0.clone());
    }
    done
}

/// What a server says over TCP.
fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), HANGS)?;
    stream.set_read_timeout(Some(HANGS))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// One client of a service over UDP: the same port every time, so the same flow for the kernel.
struct Flow(UdpSocket);

impl Flow {
    fn to(address: &str) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self(socket)
    }

    /// The answer to a datagram, which may get lost.
    fn ask(&self, line: &str) -> std::io::Result<String> {
        // To a process of the node the kernel says twice that a datagram is rejected: here, and in the answer.
        match self.0.send(format!("{line}\n").as_bytes()) {
            Err(err) if err.kind() != ErrorKind::PermissionDenied => return Err(err),
            _ => {}
        }
        let mut buffer = [0; 512];
        let length = self.0.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    }

    fn answered(&self, line: &str) -> String {
        eventually("an answer to a datagram", || self.ask(line).map_err(|e| e.to_string()))
    }

    fn refused(&self) {
        eventually("a refusal of a datagram", || refused(self.ask("x")));
    }
}

fn pods(cluster: &TestCluster) -> BTreeSet<String> {
    let names = cluster.ok(&["get", "pods", "-l", "app=names", "-o", "jsonpath={.items[*].metadata.name}"]);
    names.split(' ').map(str::to_owned).collect()
}

#[test]
fn ports_protocols_and_affinity() {
    let cluster = TestCluster::node();
    workload(&cluster);
    let _servers = answer_in_all_pods(&cluster);
    let (ip, pods) = (cluster_ip(&cluster, "names"), pods(&cluster));
    assert_eq!(pods.len(), 3);
    eventually("rules for all endpoints", || {
        let heard: BTreeSet<String> = (0..DRAWS).filter_map(|_| ask(&format!("{ip}:80")).ok()).collect();
        if heard == pods { Ok(()) } else { Err(format!("{heard:?} of {pods:?}")) }
    });
    assert_eq!(ask(&format!("{ip}:81")).unwrap(), "administration", "the other port, by its name");
    for i in 0..5 {
        let answer = Flow::to(&format!("{ip}:80")).answered(&format!("datagram-{i}"));
        let (pod, line) = answer.split_once(' ').unwrap();
        assert!(pods.contains(pod) && line == format!("datagram-{i}"), "{answer}");
    }
    for host in ["127.0.0.1", &node_ip(&cluster)] {
        let at = |port| format!("{host}:{}", node_port(&cluster, "names", port));
        assert!(pods.contains(&ask(&at(0)).unwrap()), "{host}");
        assert_eq!(ask(&at(1)).unwrap(), "administration", "{host}");
        let answer = Flow::to(&at(2)).answered("x");
        assert!(answer.ends_with(" x"), "{host}: {answer}");
    }
    // From a pod, too, with the node port on the node's address.
    let from_pod = |ip: &str, port: &str| {
        let get = format!("echo | nc -w 20 {ip} {port}");
        eventually(&format!("an answer from {ip}:{port} to a pod"), || {
            let out = cluster.kubectl(&["exec", "client", "--", "sh", "-c", &get]);
            let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            if pods.contains(&said) { Ok(said) } else { Err(format!("{out:?}")) }
        })
    };
    from_pod(&ip, "80");
    from_pod(&node_ip(&cluster), &node_port(&cluster, "names", 0));
    let sticky = cluster_ip(&cluster, "sticky");
    let first = ask(&format!("{sticky}:80")).unwrap();
    let heard: BTreeSet<String> = (0..DRAWS).map(|_| ask(&format!("{sticky}:80")).unwrap()).collect();
    assert_eq!(heard, BTreeSet::from([first]), "a client stays with its endpoint");
    let first = from_pod(&sticky, "80");
    assert!((0..8).all(|_| from_pod(&sticky, "80") == first), "so does another one");
}

/// Whether a connection is refused, as opposed to nobody answering.
fn refused<T: std::fmt::Debug>(answer: std::io::Result<T>) -> Result<(), String> {
    match answer {
        Err(err) if err.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn without_endpoints_a_service_refuses() {
    let cluster = TestCluster::node();
    workload(&cluster);
    let (empty, names) = (cluster_ip(&cluster, "empty"), cluster_ip(&cluster, "names"));
    let port = node_port(&cluster, "empty", 0);
    for address in [format!("{empty}:80"), format!("127.0.0.1:{port}"), format!("{}:{port}", node_ip(&cluster))] {
        eventually(&format!("a refusal from {address}"), || refused(ask(&address)));
    }
    Flow::to(&format!("{empty}:80")).refused();
    refused(ask(&format!("{names}:8080"))).expect("a port that the service has not");
    let from_pod = |ip: &str| {
        let out = cluster.kubectl(&["exec", "client", "--", "nc", "-w", "60", ip, "80"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if said.contains("Connection refused") { Ok(()) } else { Err(format!("{out:?}")) }
    };
    from_pod(&empty).unwrap();
    let _servers = answer_in_all_pods(&cluster);
    // The same once the last endpoint has gone, also for a flow that the kernel had translated.
    let known = Flow::to(&format!("{names}:80"));
    known.answered("x");
    cluster.ok(&["scale", "deployment", "names", "--replicas=0"]);
    eventually("a refusal", || refused(ask(&format!("{names}:80"))));
    known.refused();
    Flow::to(&format!("{names}:80")).refused();
    eventually("a refusal in a pod", || from_pod(&names));
    cluster.ok(&["scale", "deployment", "names", "--replicas=1"]);
    eventually("an answer again", || ask(&format!("{names}:80")).map_err(|e| e.to_string()));
}
