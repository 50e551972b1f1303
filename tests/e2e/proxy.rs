//! `proxy` of pods, services and nodes through kubectl, and logs in the messages of a WebSocket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

const NAMESPACE: &str = "/api/v1/namespaces/default";
/// Rather a failure than a test that hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A web server, and somebody who switches protocols and says back what it is told.
fn workload(cluster: &TestCluster) {
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {WEB_1}
    args:
    - |
      echo ready
      mkdir /www/sub; echo '<a href=\"/x\">x</a>' > /www/page.html
      cat > /tmp/echo <<'END'
      printf 'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'
      while read -r line; do case $line in say*) echo \"heard${{line#say}}\";; esac; done
      END
      nc -ll -p 9000 -e sh /tmp/echo &
      exec httpd -f -p 8080 -h /www
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{httpGet: {{port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: pages, port: 80, targetPort: http}}]
"
    ));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    cluster.wait_for("8080", &["get", "endpoints", "web", "-o", "jsonpath={.subsets[*].ports[*].port}"]);
}

/// A running `kubectl proxy`, killed when dropped.
struct KubectlProxy {
    child: Child,
    address: String,
}

impl KubectlProxy {
    fn start(cluster: &TestCluster) -> Self {
        // All paths: kubectl itself refuses those of exec and attach otherwise.
        let mut command = cluster.kubectl_command(&["proxy", "--port=0", "--reject-paths=^$"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, address }
    }

    /// Sends a request; the connection on which the answer comes.
    fn ask(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.ask(path, "Connection: close\r\n").read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for KubectlProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The head of an answer, byte by byte: what follows belongs to somebody else.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn pods_services_and_nodes_are_reached_through_the_api() {
    let cluster = TestCluster::node();
    workload(&cluster);
    for place in ["pods/web", "pods/http:web:8080", "pods/web:http", "services/web:pages", "services/http:web:80"] {
        let said = cluster.ok(&["get", "--raw", &format!("{NAMESPACE}/{place}/proxy/")]);
        assert_eq!(said, "1", "{place}");
    }
    let refused = cluster.fails(&["get", "--raw", &format!("{NAMESPACE}/pods/web:81/proxy/")]);
    assert!(refused.contains("error trying to reach service: dial tcp 10."), "{refused}");
    assert!(refused.contains(":81: connect: connection refused"), "{refused}");
    let none = cluster.fails(&["get", "--raw", &format!("{NAMESPACE}/services/web:99/proxy/")]);
    assert!(none.contains("no service port 99 found for service \"web\""), "{none}");
    let name = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let pods = cluster.ok(&["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/pods")]);
    assert!(pods.contains("\"web\""), "{pods}");
    links(&cluster);
    tunnels(&cluster);
    logs(&cluster);
}

fn links(cluster: &TestCluster) {
    let proxy = KubectlProxy::start(cluster);
    let moved = proxy.get(&format!("{NAMESPACE}/pods/web/proxy"));
    assert!(moved.contains(" 301 ") && moved.contains(&format!("{NAMESPACE}/pods/web/proxy/\r\n")), "{moved}");
    let moved = proxy.get(&format!("{NAMESPACE}/services/web:pages/proxy/sub"));
    assert!(moved.contains(&format!("{NAMESPACE}/services/web:pages/proxy/sub/\r\n")), "{moved}");
    let page = proxy.get(&format!("{NAMESPACE}/pods/web/proxy/page.html"));
    assert!(page.contains(&format!("<a href=\"{NAMESPACE}/pods/web/proxy/x\">")), "{page}");
}

/// Bytes pass both ways once the pod has switched protocols, and the pod learns when its client has gone.
fn tunnels(cluster: &TestCluster) {
    let proxy = KubectlProxy::start(cluster);
    let path = format!("{NAMESPACE}/pods/web:9000/proxy/");
    let mut stream = proxy.ask(&path, "Connection: Upgrade\r\nUpgrade: echo\r\n");
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream.write_all(b"say one\nsay two\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "heard one");
    assert_eq!(lines.next().unwrap().unwrap(), "heard two");
    stream.shutdown(Shutdown::Both).unwrap();
    eventually("the pod learns that its client has gone", || {
        let running = cluster.ok(&["exec", "web", "--", "ps"]);
        let heard = running.lines().any(|line| line.split_whitespace().nth(2) == Some("sh"));
        if heard { Err(running) } else { Ok(()) }
    });
}

fn logs(cluster: &TestCluster) {
    let proxy = KubectlProxy::start(cluster);
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let path = format!("{NAMESPACE}/pods/web/log?follow=true");
    for (protocol, first, message) in [
        ("", [0x82, 0], &b"\x82\x06ready\n"[..]),
        ("binary.k8s.io", [0x82, 0], b"\x82\x06ready\n"),
        ("base64.binary.k8s.io", [0x81, 0], b"\x81\x08cmVhZHkK"),
    ] {
        let wanted = match protocol {
            "" => String::new(),
            protocol => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
        };
        let mut stream = proxy.ask(&path, &format!("{socket}{wanted}"));
        let answer = head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(answer.contains(protocol), "{answer}");
        let mut seen = vec![0; 2 + message.len()];
        stream.read_exact(&mut seen).unwrap();
        assert_eq!((&seen[..2], &seen[2..]), (&first[..], message), "{protocol}");
    }
    let mut stream = proxy.ask(&path, &format!("{socket}Sec-WebSocket-Protocol: x\r\n"));
    assert!(head(&mut stream).starts_with("HTTP/1.1 403"));
}
