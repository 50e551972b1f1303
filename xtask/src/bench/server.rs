//! A server under measurement.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::cgroup::Cgroup;
use super::cleanup::{self, Host};
use super::process::{self, Usage};
use super::{PATIENCE, ctr};
use crate::tools;

/// How long a server may take to stop; nodes leave their pods alone and are quick.
const STOP: Duration = Duration::from_secs(30);
/// The machine may be nearly full; that is not what is measured.
const NEVER_SHORT: [&str; 4] = [
    "--kubelet-arg",
    "eviction-hard=memory.available<1Mi,nodefs.available<0.1%,imagefs.available<0.1%",
    "--kubelet-arg",
    "image-gc-high-threshold=100",
];

/// A directory that goes when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Self(super::scratch(name)?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {err}", self.0.display());
        }
    }
}

/// A running server; taken down when dropped, with its pods and all that its node put into the kernel.
pub struct Server {
    process: Child,
    binary: PathBuf,
    dir: PathBuf,
    kubectl: PathBuf,
    /// Held while this server has a node.
    host: Option<Host>,
}

impl Server {
    /// Starts one in a directory, and waits for nothing.
    pub fn start(binary: &Path, dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_within(binary, dir, flags, None)
    }

    /// Starts one whose memory is limited, if a group is given.
    pub fn start_within(binary: &Path, dir: &Path, flags: &[&str], group: Option<&Cgroup>) -> anyhow::Result<Self> {
        let kubectl = tools::kubectl()?;
        let port = free_port()?;
        let mut command = group.map_or_else(|| Command::new(binary), |group| group.command(binary));
        let process = command
            .args(["server", "--config", "/dev/null", "--node-name", "bench"])
            .args(["--https-listen-port", &port.to_string(), "--data-dir"])
            .arg(dir.join("data"))
            .arg("-o")
            .arg(dir.join("kubeconfig.yaml"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            // Ctrl-C is for the benchmark, which then takes down its server.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { process, binary: binary.to_owned(), dir: dir.to_owned(), kubectl, host: None })
    }

    /// A server with a node that is ready.
    pub fn start_node(binary: &Path, dir: &Path, group: Option<&Cgroup>) -> anyhow::Result<Self> {
        let host = Host::claim()?;
        let start = Instant::now();
        let kubelet = free_port()?.to_string();
        let flags = [&["--kubelet-port", &kubelet], &NEVER_SHORT[..]].concat();
        let mut server = Self::start_within(binary, dir, &flags, group)?;
        server.host = Some(host);
        server.logged("API server ready")?;
        let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        loop {
            match server.kubectl(&["get", "nodes", "-o", ready]) {
                Ok(status) if status == "True" => return Ok(server),
                // A server that has ended says why in its log.
                asked => ensure!(
                    start.elapsed() < PATIENCE && server.ended()?.is_none(),
                    "the node is not ready: {asked:?}; the server: {:?}\n{}",
                    server.ended()?,
                    server.log()?
                ),
            }
            sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig.yaml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A kubectl that knows this server.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).env("HOME", &self.dir);
        command
    }

    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.kubectl_command().args(args).output()?;
        ensure!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The socket of the node's runtime.
    pub fn runtime_socket(&self) -> anyhow::Result<PathBuf> {
        Ok(cleanup::runtime_state(&self.data_dir()).context("no runtime has been configured")?.join("containerd.sock"))
    }

    /// Waits for a line in the log and returns when it was seen.
    pub fn logged(&mut self, text: &str) -> anyhow::Result<Instant> {
        let start = Instant::now();
        loop {
            if self.log()?.contains(text) {
                return Ok(Instant::now());
            }
            if self.process.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!("{text:?} was not logged:\n{}", self.log()?);
            }
            sleep(Duration::from_millis(1));
        }
    }

    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.dir.join("log"))?).into_owned())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> anyhow::Result<Option<std::process::ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Memory, threads and files.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid()).context("the server has ended")
    }

    /// Clock ticks of processor time, and bytes written.
    pub fn used(&self) -> anyhow::Result<(u64, u64)> {
        let ticks = process::ticks(self.pid()).context("the server has ended")?;
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let written = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).and_then(|n| n.parse().ok());
        Ok((ticks, written.unwrap_or_default()))
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        Command::new("kill").arg(self.pid().to_string()).status()?;
        let start = Instant::now();
        while self.process.try_wait()?.is_none() {
            if start.elapsed() > STOP {
                self.process.kill()?;
                self.process.wait()?;
                bail!("the server did not stop within {STOP:?} and was killed");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Removes all pods, stops, and takes back from the kernel what the node put there.
    pub fn take_down(&mut self) -> anyhow::Result<()> {
        let Some(host) = self.host.take() else { return self.stop() };
        if self.process.try_wait()?.is_none() {
            self.remove_pods();
        }
        let stopped = self.stop();
        let left = host.clean_up(&self.binary, &self.data_dir());
        ensure!(left.is_empty(), "what the node left could not be removed:\n{}", left.join("\n"));
        stopped
    }

    /// Best effort: the server may be what is broken, and what stays is looked for afterwards.
    fn remove_pods(&self) {
        let what = "deployments,replicasets,daemonsets,statefulsets,cronjobs,jobs,pods";
        let force = ["delete", what, "--all", "-A", "--force", "--grace-period=0", "--wait=false"];
        if let Err(err) = self.kubectl(&[&force[..], &["--request-timeout=30s"]].concat()) {
            eprintln!("removing the pods: {err:#}");
        }
        let start = Instant::now();
        let running = || self.runtime_socket().and_then(|socket| ctr(&socket, &["containers", "ls", "-q"]));
        while start.elapsed() < PATIENCE && running().is_ok_and(|list| !list.trim().is_empty()) {
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(err) = self.take_down() {
            eprintln!("taking the server down: {err:#}");
        }
    }
}

/// A port that nobody listens on, another one for every call.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below those of services on nodes and those that the kernel hands out, and apart from those of the tests.
    let first = 15_000 + u16::try_from(std::process::id() % 40)? * 100;
    (0..100)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100)
        .find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .context("no port is free")
}
