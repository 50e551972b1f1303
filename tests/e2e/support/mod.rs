//! A cluster for a test.

pub mod driver;
pub mod etcd;
pub mod extension;
pub mod fuse;
pub mod http;
pub mod images;
mod node;
mod terminal;
pub mod webhook;
pub mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use node::NodeGuard;
use serde_json::Value;
pub use terminal::Terminal;

/// How long a state may take to come about; far more than it takes, for machines that stall.
const PATIENCE: Duration = Duration::from_secs(180);

/// The machine may be nearly full; that must not fail tests of something else.
const NEVER_SHORT: [&str; 4] = [
    "--kubelet-arg",
    "eviction-hard=memory.available<1Mi,nodefs.available<0.1%,imagefs.available<0.1%",
    "--kubelet-arg",
    "image-gc-high-threshold=100",
];

/// Waits until `state` holds.
///
/// # Panics
/// When it does not within the patience; with what `state` said last.
pub fn eventually<T>(what: &str, mut state: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        let why = match state() {
            Ok(value) => return value,
            Err(why) => why,
        };
        assert!(start.elapsed() < PATIENCE, "{what} did not come about: {why}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where the product's binary is.
pub fn binary() -> PathBuf {
    std::env::var_os("KEDGE_TEST_BINARY").expect("run the tests with `cargo xtask test`").into()
}

fn kubectl_binary() -> PathBuf {
    std::env::var_os("KEDGE_TEST_KUBECTL").expect("run the tests with `cargo xtask test`").into()
}

/// Where the operator is that tests run; a program apart, from `tests/operator`.
pub fn operator_binary() -> PathBuf {
    let path = std::env::var_os("KEDGE_TEST_OPERATOR");
    path.expect(
        "run the tests with `cargo xtask test`, or set KEDGE_TEST_OPERATOR to the program built from tests/operator",
    )
    .into()
}

/// Where the ports of tests begin; below those of services on nodes and those that the kernel hands out.
const FIRST_PORT: u16 = 20_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 95;

/// The first port of a block that is this process's alone: other test processes may run at the same time.
fn ports() -> u16 {
    static MINE: OnceLock<(u16, File)> = OnceLock::new();
    let take = || {
        let free = |block: &u16| {
            let path = std::env::temp_dir().join(format!("kedge-test-ports-{block}.lock"));
            let file = File::create(path).unwrap();
            file.try_lock().is_ok().then_some((FIRST_PORT + block * BLOCK, file))
        };
        (0..BLOCKS).find_map(|block| free(&block)).expect("too many test processes at the same time")
    };
    // The lock goes with the process.
    MINE.get_or_init(take).0
}

/// A port that nobody uses now, different for every call.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = ports() + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// The user and the group of those who may do nothing.
const NOBODY: u32 = 65_534;

/// The product's binary, run without root's rights.
pub fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}")).arg("--clear-groups").arg(binary());
    command
}

/// A running `kedge server` with a data directory of its own; stopped and removed when dropped.
pub struct TestCluster {
    dir: tempfile::TempDir,
    port: u16,
    flags: Vec<String>,
    process: Option<Child>,
    node: Option<NodeGuard>,
    /// Whether the server runs as a user without rights.
    nobody: bool,
    /// The search path of the server, when it is not that of the tests.
    path: Option<String>,
    /// Where the data is, if not with the rest. It goes before the directory that it is in.
    disk: Option<SmallDisk>,
}

/// A file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        assert!(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}

impl TestCluster {
    /// The control plane alone.
    pub fn control_plane() -> Self {
        Self::start_with(None, &["--disable-agent"], None)
    }

    /// The control plane alone, with further flags.
    pub fn control_plane_with(flags: &[&str]) -> Self {
        Self::start_with(None, &[&["--disable-agent"], flags].concat(), None)
    }

    /// The control plane alone, with its data on a disk of so many MiB.
    pub fn on_small_disk(mib: u32) -> Self {
        let mut cluster = Self::new(None, &["--disable-agent"], None);
        cluster.disk = Some(SmallDisk::mount(&cluster.data_dir(), mib));
        cluster.start();
        cluster
    }

    /// The control plane alone, as a user that is not root.
    pub fn of_nobody() -> Self {
        let mut cluster = Self::new(None, &["--disable-agent"], None);
        cluster.nobody = true;
        std::os::unix::fs::chown(cluster.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        cluster.start();
        cluster
    }

    /// One node that is ready and has the test images. Nodes share the host, so there is one at a time.
    pub fn node() -> Self {
        Self::node_with(&[])
    }

    /// The same with further flags.
    pub fn node_with(flags: &[&str]) -> Self {
        let cluster = Self::start_node(None, flags);
        cluster.wait_for_node();
        images::import(&cluster.runtime_socket());
        cluster
    }

    /// A server with a node that finds its programs in `path`, and need not become ready.
    pub fn node_that_may_not_run(path: Option<&str>) -> Self {
        Self::start_node(path, &[])
    }

    fn start_node(path: Option<&str>, further: &[&str]) -> Self {
        let guard = NodeGuard::acquire();
        let kubelet_port = free_port().to_string();
        let mut flags = vec!["--node-name", "n1", "--kubelet-port", &kubelet_port];
        flags.extend(NEVER_SHORT);
        flags.extend(further);
        Self::start_with(Some(guard), &flags, path)
    }

    fn start_with(node: Option<NodeGuard>, flags: &[&str], path: Option<&str>) -> Self {
        let mut cluster = Self::new(node, flags, path);
        cluster.start();
        cluster
    }

    fn new(node: Option<NodeGuard>, flags: &[&str], path: Option<&str>) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-test-").tempdir().unwrap();
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        Self {
            dir,
            port: free_port(),
            flags,
            process: None,
            node,
            nobody: false,
            path: path.map(str::to_owned),
            disk: None,
        }
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = self.command().stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(child);
        eventually("a ready API", || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("kedge ended with {status}: {}", self.log());
            }
            let out = self.kubectl(&["get", "--raw", "/readyz"]);
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
    }

    /// Starts the server with further flags, the last of which count.
    pub fn start_again_with(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.start();
    }

    /// The command line of this server.
    pub fn command(&self) -> Command {
        let mut command = if self.nobody { as_nobody() } else { Command::new(binary()) };
        command
            .arg("server")
            .args(["--config", "/dev/null"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--https-listen-port", &self.port.to_string()])
            .arg("--write-kubeconfig")
            .arg(self.kubeconfig())
            .args(&self.flags);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }

    /// Where the cluster keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// The port of the API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig.yaml")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("kedge.log")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A file of the test.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A kubectl command that has not been run yet.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl_binary());
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(args).env("HOME", self.dir.path());
        command
    }

    /// Runs kubectl.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.kubectl(args);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "kubectl {args:?} failed: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// Runs kubectl, which must fail; returns its message.
    pub fn fails(&self, args: &[&str]) -> String {
        let out = self.kubectl(args);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(!out.status.success(), "kubectl {args:?} succeeded: {stdout}{stderr}");
        stderr.into_owned()
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        let path = self.file("manifest.yaml", manifest);
        self.ok(&["apply", "-f", &path.to_string_lossy()]);
    }

    /// An object, or a list of them, as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(args);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// Waits until kubectl prints `wanted` and nothing else.
    pub fn wait_for(&self, wanted: &str, args: &[&str]) {
        eventually(&format!("{wanted:?} from kubectl {args:?}"), || {
            let out = self.kubectl(args);
            let got = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            let stderr = String::from_utf8_lossy(&out.stderr);
            if got == wanted { Ok(()) } else { Err(format!("{got:?} {stderr}")) }
        });
    }

    /// What was told of objects in the default namespace: `Reason: message`, a line each.
    pub fn events(&self) -> String {
        self.ok(&["get", "events", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}"])
    }

    /// Waits for the account that pods of the default namespace run as.
    pub fn wait_for_account(&self) {
        self.wait_for("default", &["get", "serviceaccount", "default", "-o", "jsonpath={.metadata.name}"]);
    }

    /// Waits until the node can run pods.
    pub fn wait_for_node(&self) {
        let ready = "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].status}";
        self.wait_for("True", &["get", "nodes", "-o", ready]);
        self.wait_for(
            "kube-dns-n1",
            &[
                "-n",
                "kube-system",
                "get",
                "endpointslices",
                "-l",
                "kubernetes.io/service-name=kube-dns",
                "-o",
                "jsonpath={.items[*].metadata.name}",
            ],
        );
        // The account that pods run as, and what they mount.
        eventually("the namespace's account", || {
            let out = self.kubectl(&["get", "serviceaccount/default", "configmap/kube-root-ca.crt"]);
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        });
    }

    /// The socket of this cluster's own containerd.
    pub fn runtime_socket(&self) -> PathBuf {
        let config = std::fs::read_to_string(self.data_dir().join("agent/etc/containerd/config.toml")).unwrap();
        let line = config.lines().find(|l| l.trim_start().starts_with("address")).unwrap();
        line.split('"').nth(1).unwrap().into()
    }

    /// Another command of the product on this cluster's data and server; it must succeed. Returns what it printed.
    pub fn kedge(&self, args: &[&str]) -> String {
        let out = self.kedge_output(args);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "kedge {args:?} failed: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// Another command of the product on this cluster's data and server.
    pub fn kedge_output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        // Which server is meant is what the data directory says, not what another tool left in the environment.
        command.args(args).env("KEDGE_DATA_DIR", self.data_dir()).env("KUBECONFIG", "/nonexistent/kubeconfig");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The server's command line with further flags, for a run that ends by itself; it must succeed.
    pub fn kedge_server(&self, flags: &[&str]) -> String {
        let out = self.kedge_server_output(flags);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "kedge server {flags:?} failed: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// The server's command line with further flags, for a run that ends by itself.
    pub fn kedge_server_output(&self, flags: &[&str]) -> Output {
        self.command().args(flags).stdin(Stdio::null()).output().unwrap()
    }

    /// What a server with these flags says that must not start.
    pub fn refused(flags: &[&str]) -> String {
        let cluster = Self::new(None, flags, None);
        let out = cluster.kedge_server_output(&[]);
        assert!(!out.status.success(), "it ran");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// Starts the server with other flags from now on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|f| (*f).to_owned()).collect();
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Ends the server as Ctrl-C does; returns whether it said that all is well.
    pub fn stop(&mut self) -> bool {
        let Some(mut process) = self.process.take() else { return true };
        let pid = process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = process.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        false
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the server's last words\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        if self.node.is_some() {
            node::remove_everything(self);
        }
        self.stop();
        let left = if self.node.is_some() { node::clean_up(&self.data_dir()) } else { Ok(()) };
        // A second panic would end all tests, and what failed first is what matters.
        match left {
            Err(left) if std::thread::panicking() => eprintln!("{left}"),
            left => left.unwrap(),
        }
    }
}

/// Whether any file below a directory matches.
pub fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}
