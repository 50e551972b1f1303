//! `kubectl port-forward`, tunnelled through a WebSocket and over plain SPDY.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::images::WEB_1;
use crate::support::{TestCluster, eventually};

/// What is sent in one piece; far more than all buffers on the way hold.
const LARGE: usize = 1 << 20;
/// Connections at a time.
const MANY: usize = 12;
const ECHO: u16 = 9000;
const DIGEST: u16 = 9001;
const LARGE_FILE: u16 = 9002;
/// Takes nothing of what it is sent, and is gone.
const RUDE: u16 = 9003;
const NOBODY: u16 = 9009;
const PORTS: [u16; 5] = [ECHO, DIGEST, LARGE_FILE, RUDE, NOBODY];

/// A running `kubectl port-forward`, killed when dropped.
struct Forward {
    child: Child,
    /// Ports on this side, in the order in which the pod's were named.
    ports: Vec<u16>,
    stderr: Arc<Mutex<String>>,
}

impl Forward {
    fn start(cluster: &TestCluster, websockets: bool) -> Self {
        let named: Vec<String> = PORTS.iter().map(|p| format!(":{p}")).collect();
        let mut args = vec!["port-forward", "pod/p", "--address=127.0.0.1"];
        args.extend(named.iter().map(String::as_str));
        let mut command = cluster.kubectl_command(&args);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::<Mutex<String>>::default();
        let (source, seen) = (child.stderr.take().unwrap(), stderr.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                seen.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut forward = Self { child, ports: Vec::new(), stderr };
        let mut lines = BufReader::new(forward.child.stdout.take().unwrap()).lines();
        for port in PORTS {
            let line = lines.next().unwrap_or_else(|| panic!("{}", forward.said())).unwrap();
            assert!(line.ends_with(&format!(" -> {port}")), "{line}");
            let local = line.split(' ').nth(2).unwrap().rsplit(':').next().unwrap();
            forward.ports.push(local.parse().unwrap());
        }
        // kubectl tells of every connection and must not wait for a reader.
        std::thread::spawn(move || lines.count());
        forward
    }

    fn said(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    fn connect(&self, remote: u16) -> TcpStream {
        let at = PORTS.iter().position(|p| *p == remote).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.ports[at]));
        let stream = stream.unwrap_or_else(|e| panic!("{remote}: {e}: {}", self.said()));
        // Rather a failure than a test that hangs.
        stream.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
        stream
    }

    /// Sends all, ends that direction, and reads until the other end does the same.
    fn exchange(&self, remote: u16, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(remote);
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let sent = writer.write_all(bytes).and_then(|()| writer.shutdown(Shutdown::Write));
                sent.unwrap_or_else(|e| panic!("{remote}: {e}: {}", self.said()));
            });
            let mut answer = Vec::new();
            let got = stream.read_to_end(&mut answer);
            got.unwrap_or_else(|e| panic!("{remote}: {e}: {}", self.said()));
            answer
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes without a pattern that a mistake could repeat.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(LARGE).collect()
}

/// Their digest, by a program of this host.
fn sha256(bytes: &[u8]) -> String {
    let mut child =
        std::process::Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn pod(cluster: &TestCluster) {
    let script = format!(
        "head -c {LARGE} /dev/urandom > /tmp/large; nc -ll -p {ECHO} -e cat & nc -ll -p {DIGEST} -e sha256sum & \
         nc -ll -p {LARGE_FILE} -e cat /tmp/large & nc -ll -p {RUDE} -e true & trap 'exit 0' TERM; while true; do sleep 0.2; done"
    );
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {WEB_1}
    args: [\"{script}\"]
    readinessProbe: {{tcpSocket: {{port: {LARGE_FILE}}}, periodSeconds: 1}}
"
    ));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=180s"]);
}

fn connections_do_not_mix(forward: &Forward) {
    let mut open: Vec<TcpStream> = (0..MANY).map(|_| forward.connect(ECHO)).collect();
    for round in 0..3 {
        for (i, stream) in open.iter_mut().enumerate() {
            writeln!(stream, "round {round} of {i}").unwrap();
        }
        for (i, stream) in open.iter().enumerate().rev() {
            let mut line = String::new();
            BufReader::with_capacity(1, stream).read_line(&mut line).unwrap();
            assert_eq!(line, format!("round {round} of {i}\n"));
        }
    }
}

/// A port that nobody listens on is said; kubectl gives up all its connections then.
fn refused(mut forward: Forward) {
    let mut stream = forward.connect(NOBODY);
    // The connection may be reset instead of ended.
    let _ = stream.read_to_end(&mut Vec::new());
    let code = eventually("kubectl to give up", || match forward.child.try_wait().unwrap() {
        Some(status) => Ok(status.code()),
        None => Err(forward.said()),
    });
    assert_eq!(code, Some(1));
    eventually("what kubectl says about a refused port", || {
        let said = forward.said();
        let told = said.contains(&format!("error forwarding port {NOBODY} to pod p, uid "));
        let refused = said.to_lowercase().contains("connection refused") && said.contains("lost connection to pod");
        if told && refused { Ok(()) } else { Err(said) }
    });
}

#[test]
fn ports_of_a_pod_over_both_protocols() {
    let cluster = TestCluster::node();
    pod(&cluster);
    let file = cluster.ok(&["exec", "p", "--", "sha256sum", "/tmp/large"]);
    let file = file.split(' ').next().unwrap();
    for websockets in [true, false] {
        let forward = Forward::start(&cluster, websockets);
        connections_do_not_mix(&forward);
        // The digest comes after the end of what was sent: one direction ends before the other.
        let sent = noise(7);
        let answer = String::from_utf8(forward.exchange(DIGEST, &sent)).unwrap();
        assert_eq!(answer.split(' ').next().unwrap(), sha256(&sent), "websockets: {websockets}");
        assert_eq!(sha256(&forward.exchange(LARGE_FILE, b"")), file);
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let forward = &forward;
                scope.spawn(move || assert!(forward.exchange(ECHO, &noise(seed)) == noise(seed), "{seed}"));
            }
        });
        // A server that breaks off ends that connection only.
        let mut rude = forward.connect(RUDE);
        // Whether the break comes before the last byte is sent or after it is chance.
        let _ = rude.write_all(&sent);
        let _ = rude.read_to_end(&mut Vec::new());
        assert_eq!(forward.exchange(ECHO, b"still here"), b"still here", "{}", forward.said());
        refused(forward);
    }
    let missing = cluster.fails(&["port-forward", "pod/nobody", ":80"]);
    assert!(missing.contains("pods \"nobody\" not found"), "{missing}");
}
