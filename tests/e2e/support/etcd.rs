//! A real etcd, of one or more members. Members that are to be cut off live in network namespaces of their own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use super::{eventually, free_port};

fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("KEDGE_TEST_ETCD_DIR").expect("run the tests with `cargo xtask test`");
    PathBuf::from(dir).join(name)
}

/// Runs one of etcd's tools, which must succeed; returns what it printed.
pub fn tool(name: &str, args: &[&str]) -> String {
    let out = run(name, args);
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{name} {args:?} failed: {stdout}{stderr}");
    stdout.into_owned()
}

/// Runs one of etcd's tools.
pub fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).stdin(Stdio::null()).output().unwrap()
}

struct Member {
    name: String,
    address: String,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// An etcd; stopped and removed when dropped.
pub struct Etcd {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    network: Option<Network>,
}

impl Etcd {
    /// One member on this host.
    pub fn one() -> Self {
        Self::start(vec!["127.0.0.1".to_owned()], None)
    }

    /// One member that begins with a snapshot.
    pub fn restored(snapshot: &std::path::Path) -> Self {
        let mut etcd = Self::prepare(vec!["127.0.0.1".to_owned()], None);
        let dir = etcd.data_dir(0);
        tool(
            "etcdutl",
            &[
                "snapshot",
                "restore",
                &snapshot.to_string_lossy(),
                "--data-dir",
                &dir,
                "--name",
                "m0",
                "--initial-cluster",
                &etcd.initial_cluster(),
                "--initial-advertise-peer-urls",
                &etcd.peer_url(0),
            ],
        );
        etcd.run_all();
        etcd
    }

    /// Three members, each behind a link of its own.
    pub fn three_apart() -> Self {
        let network = Network::new(3);
        let addresses = network.addresses();
        Self::start(addresses, Some(network))
    }

    fn start(addresses: Vec<String>, network: Option<Network>) -> Self {
        let mut etcd = Self::prepare(addresses, network);
        etcd.run_all();
        etcd
    }

    fn prepare(addresses: Vec<String>, network: Option<Network>) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-etcd-").tempdir().unwrap();
        let member = |(i, address): (usize, String)| Member {
            name: format!("m{i}"),
            address,
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        Self { dir, members: addresses.into_iter().enumerate().map(member).collect(), network }
    }

    fn run_all(&mut self) {
        (0..self.members.len()).for_each(|i| self.run(i));
        eventually("a healthy etcd", || {
            let out = self.etcdctl_output(&["endpoint", "health"]);
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
    }

    fn data_dir(&self, i: usize) -> String {
        self.dir.path().join(&self.members[i].name).to_string_lossy().into_owned()
    }

    fn client_url(&self, i: usize) -> String {
        format!("http://{}:{}", self.members[i].address, self.members[i].client)
    }

    fn peer_url(&self, i: usize) -> String {
        format!("http://{}:{}", self.members[i].address, self.members[i].peer)
    }

    fn initial_cluster(&self) -> String {
        let member = |i: usize| format!("{}={}", self.members[i].name, self.peer_url(i));
        (0..self.members.len()).map(member).collect::<Vec<_>>().join(",")
    }

    /// Starts a member, new or again.
    pub fn run(&mut self, i: usize) {
        let (client, peer) = (self.client_url(i), self.peer_url(i));
        let etcd = program("etcd");
        let mut command = match &self.network {
            Some(network) => network.command(i, &etcd),
            None => Command::new(&etcd),
        };
        let log = std::fs::File::create(self.dir.path().join(format!("{i}.log"))).unwrap();
        command
            .args(["--name", &self.members[i].name, "--data-dir", &self.data_dir(i)])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.initial_cluster(), "--initial-cluster-state", "new"])
            .stdout(Stdio::null())
            .stderr(log);
        self.members[i].process = Some(command.spawn().unwrap());
    }

    /// All client addresses, as `--datastore-endpoint` takes them.
    pub fn endpoints(&self) -> String {
        (0..self.members.len()).map(|i| self.client_url(i)).collect::<Vec<_>>().join(",")
    }

    /// Runs etcdctl on all members.
    pub fn etcdctl(&self, args: &[&str]) -> String {
        let out = self.etcdctl_output(args);
        assert!(out.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn etcdctl_output(&self, args: &[&str]) -> Output {
        run("etcdctl", &[&["--endpoints", &self.endpoints(), "--command-timeout=5s"], args].concat())
    }

    /// The member that leads.
    pub fn leader(&self) -> usize {
        eventually("a leader", || {
            for i in 0..self.members.len() {
                let out = run(
                    "etcdctl",
                    &["--endpoints", &self.client_url(i), "--command-timeout=2s", "endpoint", "status", "-w", "json"],
                );
                let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
                let status = &status[0]["Status"];
                if status["leader"].is_u64() && status["leader"] == status["header"]["member_id"] {
                    return Ok(i);
                }
            }
            Err("no member says that it leads".into())
        })
    }

    fn signal(&self, i: usize, signal: &str) {
        let process = self.members[i].process.as_ref().unwrap();
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
    }

    /// Ends a member as a power cut would.
    pub fn kill(&mut self, i: usize) {
        let mut process = self.members[i].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Freezes a member.
    pub fn freeze(&self, i: usize) {
        self.signal(i, "-STOP");
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, i: usize) {
        self.signal(i, "-CONT");
    }

    /// Cuts a member off from everything, or connects it again.
    pub fn connect(&self, i: usize, connected: bool) {
        self.network.as_ref().unwrap().connect(i, connected);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// Namespaces on one bridge; removed when dropped.
struct Network {
    id: String,
    subnet: u16,
    members: usize,
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Network {
    fn new(members: usize) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let subnet = (std::process::id() % 250) as u16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let network = Self { id: format!("kt{subnet}"), subnet, members };
        network.remove();
        let bridge = network.id.clone();
        let must = |args: &[&str]| assert!(ip(args), "ip {args:?} failed");
        must(&["link", "add", &bridge, "type", "bridge"]);
        must(&["addr", "add", &format!("10.231.{subnet}.1/24"), "dev", &bridge]);
        must(&["link", "set", &bridge, "up"]);
        for i in 0..members {
            let (space, outer) = (network.space(i), network.outer(i));
            must(&["netns", "add", &space]);
            must(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            must(&["link", "set", &outer, "master", &bridge, "up"]);
            must(&["-n", &space, "link", "set", "lo", "up"]);
            must(&["-n", &space, "addr", "add", &format!("{}/24", network.address(i)), "dev", "eth0"]);
            must(&["-n", &space, "link", "set", "eth0", "up"]);
        }
        network
    }

    fn space(&self, i: usize) -> String {
        format!("{}n{i}", self.id)
    }

    fn outer(&self, i: usize) -> String {
        format!("{}v{i}", self.id)
    }

    fn address(&self, i: usize) -> String {
        format!("10.231.{}.{}", self.subnet, 10 + i)
    }

    fn addresses(&self) -> Vec<String> {
        (0..self.members).map(|i| self.address(i)).collect()
    }

    fn command(&self, i: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        // `ip` becomes the program, so that a signal reaches it.
        command.args(["netns", "exec", &self.space(i)]).arg(program);
        command
    }

    fn connect(&self, i: usize, connected: bool) {
        assert!(ip(&["link", "set", &self.outer(i), if connected { "up" } else { "down" }]));
    }

    fn remove(&self) {
        for i in 0..self.members {
            ip(&["netns", "del", &self.space(i)]);
            ip(&["link", "del", &self.outer(i)]);
        }
        ip(&["link", "del", &self.id]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}
