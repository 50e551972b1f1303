//! A workload on a node, from its creation until nothing of it is left.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::support::images::{WEB_1, WEB_2};
use crate::support::{TestCluster, eventually, is_empty_dir};

fn deployment() -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {WEB_1}
        args: [\"echo serving; exec httpd -f -p 8080 -h /www\"]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        volumeMounts: [{{name: scratch, mountPath: /scratch}}]
      volumes: [{{name: scratch, emptyDir: {{}}}}]
"
    )
}

/// A GET over plain HTTP; the body.
fn http(address: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

fn ready(cluster: &TestCluster, count: &str) {
    cluster.wait_for(count, &["-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]);
}

fn pods(cluster: &TestCluster) -> Vec<String> {
    let args = ["-n", "shop", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"];
    cluster.ok(&args).split_whitespace().map(str::to_owned).collect()
}

/// Killed when dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_deployment_lives_and_dies() {
    let cluster = TestCluster::node();
    let links = pod_links();
    cluster.ok(&["create", "namespace", "shop"]);
    cluster.apply(&deployment());
    ready(&cluster, "3");
    reach_it(&cluster);
    talk_to_it(&cluster);
    scale_and_roll(&cluster);
    break_it(&cluster);
    cluster.ok(&["delete", "namespace", "shop", "--timeout=60s"]);
    nothing_is_left(&cluster, &links);
}

/// By service name from another pod; by cluster address and node port from the host.
fn reach_it(cluster: &TestCluster) {
    cluster.ok(&["-n", "shop", "expose", "deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort"]);
    let service = cluster.json(&["-n", "shop", "service", "web"]);
    let ip = service["spec"]["clusterIP"].as_str().unwrap();
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    for address in [format!("{ip}:80"), format!("127.0.0.1:{port}")] {
        let body = eventually(&format!("an answer from {address}"), || http(&address));
        assert_eq!(body, "1", "{address}");
    }
    let image = format!("--image={WEB_1}");
    cluster.ok(&["-n", "shop", "run", "client", &image, "--restart=Never", "--", "sleep 3600"]);
    cluster.ok(&["-n", "shop", "wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    for name in ["web", "web.shop.svc.cluster.local"] {
        // Debian's static busybox crashes in getaddrinfo, which wants plug-ins of the C library; so its parts that do
        // without it are put together.
        let resolve = format!("nslookup -type=a {name} | awk '/^Address: /{{print $2; exit}}'");
        let request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'";
        let get = format!("ip=$({resolve}); [ -n \"$ip\" ] && {request} | nc -w 5 $ip 80 | tail -n 1");
        // nc may hang up before it has read everything, so it is asked again.
        eventually(&format!("an answer from {name}"), || {
            let out = cluster.kubectl(&["-n", "shop", "exec", "client", "--", "sh", "-c", &get]);
            if out.stdout == b"1" { Ok(()) } else { Err(format!("{out:?}")) }
        });
    }
}

/// logs, exec, cp, port-forward.
fn talk_to_it(cluster: &TestCluster) {
    let pod = pods(cluster).remove(0);
    assert_eq!(cluster.ok(&["-n", "shop", "logs", &pod]).trim(), "serving");
    assert_eq!(cluster.ok(&["-n", "shop", "logs", &pod, "--tail=1", "--timestamps"]).lines().count(), 1);
    let failed = cluster.kubectl(&["-n", "shop", "exec", &pod, "--", "sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7), "the exit code comes through");
    let mut shell = cluster
        .kubectl_command(&["-n", "shop", "exec", "-i", &pod, "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = "line\n".repeat(20_000);
    let mut input = shell.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(copy.as_bytes()).unwrap());
    let echoed = shell.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(echoed.stdout.len(), sent.len(), "what goes in comes out");
    let file = cluster.file("copied.txt", "content");
    cluster.ok(&["-n", "shop", "cp", &file.to_string_lossy(), &format!("{pod}:/scratch/copied.txt")]);
    assert_eq!(cluster.ok(&["-n", "shop", "exec", &pod, "--", "cat", "/scratch/copied.txt"]), "content");
    forward(cluster, &pod);
}

fn forward(cluster: &TestCluster, pod: &str) {
    let mut command = cluster.kubectl_command(&["-n", "shop", "port-forward", pod, ":8080"]);
    let mut forward = Background(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    let stdout = forward.0.stdout.as_mut().unwrap();
    let mut byte = [0];
    while !said.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
        said.push(char::from(byte[0]));
    }
    let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    assert_eq!(eventually("an answer through the forward", || http(&format!("127.0.0.1:{port}"))), "1");
}

fn scale_and_roll(cluster: &TestCluster) {
    cluster.ok(&["-n", "shop", "scale", "deployment", "web", "--replicas=5"]);
    ready(cluster, "5");
    cluster.ok(&["-n", "shop", "set", "image", "deployment/web", &format!("web={WEB_2}")]);
    cluster.ok(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=90s"]);
    let versions = |wanted: &str| {
        for pod in pods(cluster) {
            assert_eq!(cluster.ok(&["-n", "shop", "exec", &pod, "--", "cat", "/etc/version"]), wanted);
        }
    };
    let settled = || {
        cluster.wait_for("5", &["-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.status.replicas}"]);
        eventually("five pods", || if pods(cluster).len() == 5 { Ok(()) } else { Err(format!("{:?}", pods(cluster))) });
    };
    settled();
    versions("2");
    assert!(cluster.ok(&["-n", "shop", "rollout", "history", "deployment/web"]).contains('2'));
    cluster.ok(&["-n", "shop", "rollout", "undo", "deployment/web"]);
    cluster.ok(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=90s"]);
    settled();
    versions("1");
}

/// A killed container is started again and counted; so is one whose liveness probe fails.
fn break_it(cluster: &TestCluster) {
    let pod = pods(cluster).remove(0);
    let id = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = cluster.ok(&["-n", "shop", "get", "pod", &pod, "-o", id]);
    // From inside, the first process of a container cannot be killed.
    let socket = cluster.runtime_socket();
    let killed = std::process::Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id.trim_start_matches("containerd://")])
        .status()
        .unwrap();
    assert!(killed.success());
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    cluster.wait_for("1", &["-n", "shop", "get", "pod", &pod, "-o", restarts]);
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: sick, namespace: shop}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: sick
    image: {WEB_1}
    args: [\"touch /tmp/well; sleep 3600\"]
    livenessProbe: {{exec: {{command: [cat, /tmp/well]}}, periodSeconds: 1, failureThreshold: 1}}
"
    ));
    cluster.ok(&["-n", "shop", "wait", "--for=condition=Ready", "pod/sick", "--timeout=60s"]);
    cluster.ok(&["-n", "shop", "exec", "sick", "--", "rm", "/tmp/well"]);
    cluster.wait_for("1", &["-n", "shop", "get", "pod", "sick", "-o", restarts]);
    let events = cluster.ok(&["-n", "shop", "events", "--for", "pod/sick"]);
    assert!(events.contains("Unhealthy") && events.contains("Liveness probe failed"), "{events}");
}

/// The links of pods on this host.
fn pod_links() -> Vec<String> {
    let out = std::process::Command::new("ip").args(["-o", "link", "show", "type", "veth"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter_map(|l| l.split(':').nth(1)).map(|name| name.trim().to_owned()).collect()
}

fn nothing_is_left(cluster: &TestCluster, links: &[String]) {
    let socket = cluster.runtime_socket();
    let run = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program).args(args).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    eventually("no container", || {
        let left = run("ctr", &["--address", &socket.to_string_lossy(), "-n", "k8s.io", "containers", "ls", "-q"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let new: Vec<String> = pod_links().into_iter().filter(|link| !links.contains(link)).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(is_empty_dir(&cluster.data_dir().join("agent/kubelet/pods")), "volumes are left");
    eventually("no rule", || {
        let table = run("nft", &["list", "table", "ip", "kedge-proxy"]);
        if table.contains("8080") { Err(table) } else { Ok(()) }
    });
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let volumes = cluster.data_dir().join("agent/kubelet/pods");
    assert!(!mounts.contains(&*volumes.to_string_lossy()), "{mounts}");
}

#[test]
fn images_that_are_not_there_are_said() {
    let cluster = TestCluster::node();
    cluster.ok(&["run", "never", "--image=kedge.test/none:1", "--image-pull-policy=Never"]);
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_for("ErrImageNeverPull", &["get", "pod", "never", "-o", reason]);
    cluster.ok(&["run", "unknown", "--image=127.0.0.1:1/none:1"]);
    eventually("a failed pull", || {
        let reason = cluster.ok(&["get", "pod", "unknown", "-o", reason]);
        if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff") { Ok(()) } else { Err(reason) }
    });
    let events = cluster.ok(&["events", "--for", "pod/unknown"]);
    assert!(events.contains("Failed to pull image \"127.0.0.1:1/none:1\""), "{events}");
}
