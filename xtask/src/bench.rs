//! Figures of one node, against the targets. They are printed, not asserted: machines are noisy.
//!
//! Everything is measured on the release binary through its real interfaces: processes, sockets, kubectl's kubeconfig.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::tools;

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "kedge.bench/sleep:1";
const PORT: &str = "26443";
/// How long idle figures are taken over.
const IDLE: Duration = Duration::from_secs(20);
/// … and idle writes, which come once a minute.
const IDLE_WRITES: Duration = Duration::from_secs(300);
/// The size of a disk that is made for a measurement.
const DISK_MIB: u64 = 1_024;
const PODS: usize = 10;

pub fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(("store", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return store(rest);
    }
    let node = tools::is_root() && !args.iter().any(|a| a == "--no-node");
    let build =
        Command::new("cargo").current_dir(tools::root()).args(["build", "--release", "-p", "kedge"]).status()?;
    ensure!(build.success(), "the build failed");
    let binary = tools::root().join("target/release/kedge");
    row("binary size", format!("{:.1} MiB", std::fs::metadata(&binary)?.len() as f64 / 1_048_576.0));
    control_plane(&binary)?;
    if node {
        tools::install_tests()?;
        whole_node(&binary)?;
        idle_writes(&binary)?;
    } else {
        println!("not root, or --no-node: figures of a node left out");
    }
    Ok(())
}

/// The embedded store beside a real etcd, on the disk of a directory.
fn store(args: &[String]) -> anyhow::Result<()> {
    let dir = args.first().map_or_else(|| tools::root().join("target"), PathBuf::from);
    let mut command = Command::new("cargo");
    command.current_dir(tools::root()).args(["bench", "-q", "-p", "kedge-kv", "--bench", "store", "--"]).arg(dir);
    ensure!(command.env("KEDGE_TEST_ETCD_DIR", tools::etcd()?).status()?.success(), "the benchmark failed");
    Ok(())
}

fn row(what: &str, figure: impl std::fmt::Display) {
    println!("| {what} | {figure} |");
}

/// A server under measurement; ended when dropped.
struct Server {
    process: Child,
    dir: PathBuf,
    kubectl: PathBuf,
}

impl Server {
    fn start(binary: &Path, dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let kubectl = tools::kubectl()?;
        let process = Command::new(binary)
            .args([
                "server",
                "--config",
                "/dev/null",
                "--https-listen-port",
                PORT,
                "--node-name",
                "bench",
                "--data-dir",
            ])
            .arg(dir.join("data"))
            .arg("-o")
            .arg(dir.join("kubeconfig.yaml"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()?;
        Ok(Self { process, dir: dir.to_owned(), kubectl })
    }

    /// A server with a node that is ready.
    fn start_node(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut server = Self::start(binary, dir, &["--kubelet-port", "26250"])?;
        server.logged("API server ready")?;
        let ready = "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].status}";
        while server.kubectl(&["get", "nodes", "-o", ready])? != "True" {
            ensure!(start.elapsed() < PATIENCE, "the node is not ready");
            sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(self.dir.join("kubeconfig.yaml"))
            .args(args)
            .output()?;
        ensure!(out.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Waits for a line in the log and returns when it was seen.
    fn logged(&mut self, text: &str) -> anyhow::Result<Instant> {
        let start = Instant::now();
        loop {
            if std::fs::read_to_string(self.dir.join("log"))?.contains(text) {
                return Ok(Instant::now());
            }
            if self.process.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!("{text:?} was not logged:\n{}", std::fs::read_to_string(self.dir.join("log"))?);
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Kibibytes resident.
    fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Clock ticks of processor time, and bytes written.
    fn used(&self) -> anyhow::Result<(u64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or_default();
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.process.id()))?;
        let written = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).and_then(|n| n.parse().ok());
        Ok((ticks(11) + ticks(12), written.unwrap_or_default()))
    }

    fn idle(&self, what: &str) -> anyhow::Result<()> {
        sleep(Duration::from_secs(5));
        let before = self.used()?;
        sleep(IDLE);
        let after = self.used()?;
        // A tick is a hundredth of a second on every Linux that this runs on.
        let share = (after.0 - before.0) as f64 / IDLE.as_secs_f64();
        row(&format!("idle RSS, {what}"), format!("{:.1} MiB", self.resident()? as f64 / 1024.0));
        row(&format!("idle CPU, {what}"), format!("{share:.2} % of a core"));
        Ok(())
    }

    /// What it writes while nothing happens: to the page cache, as the kernel counts it, and to its disk.
    fn idle_writes(&self, disk: &Disk) -> anyhow::Result<()> {
        // What starting wrote reaches the disk first.
        sleep(Duration::from_secs(60));
        let before = (self.used()?.1, disk.written()?);
        sleep(IDLE_WRITES);
        let after = (self.used()?.1, disk.written()?);
        let rate = |bytes: u64| format!("{:.2} kB/s", bytes as f64 / 1000.0 / IDLE_WRITES.as_secs_f64());
        row("idle writes, node, as the kernel counts the process's", rate(after.0 - before.0));
        row("idle writes, node, at the disk, with its journal", rate(after.1 - before.1));
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.process.id().to_string()).status()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended, usually.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file system of its own, with a device whose writes nobody else counts in.
struct Disk {
    device: String,
    mounted: PathBuf,
    image: PathBuf,
}

impl Disk {
    fn mount(image: PathBuf, at: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        std::fs::File::create(&image)?.set_len(DISK_MIB << 20)?;
        // What would be initialized later, in the background, would be counted.
        output("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image.to_string_lossy()])?;
        let device = output("losetup", &["--find", "--show", &image.to_string_lossy()])?.trim().to_owned();
        let disk = Self { device, mounted: at.to_owned(), image };
        output("mount", &[&disk.device, &at.to_string_lossy()])?;
        Ok(disk)
    }

    /// Bytes that were written to the device.
    fn written(&self) -> anyhow::Result<u64> {
        let name = Path::new(&self.device).file_name().context("the device has no name")?;
        let stat = std::fs::read_to_string(Path::new("/sys/block").join(name).join("stat"))?;
        let sectors = stat.split_whitespace().nth(6).context("the device says not what was written")?;
        Ok(sectors.parse::<u64>()? * 512)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mounted = self.mounted.to_string_lossy();
        let undo = [("umount", vec![&*mounted]), ("losetup", vec!["--detach", &self.device])];
        for (program, args) in undo {
            if let Err(err) = output(program, &args) {
                eprintln!("do it by hand: {err}");
            }
        }
        // The directory that it lies in goes too.
        let _ = std::fs::remove_file(&self.image);
    }
}

fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn control_plane(binary: &Path) -> anyhow::Result<()> {
    let dir = scratch("control-plane")?;
    let start = Instant::now();
    let mut server = Server::start(binary, &dir, &["--disable-agent"])?;
    let ready = server.logged("API server ready")?;
    row("cold start to /readyz", format!("{:.0} ms", (ready - start).as_secs_f64() * 1000.0));
    server.idle("control plane")?;
    let creates = 200;
    let start = Instant::now();
    let manifest: String = (0..creates)
        .map(|i| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}}}\ndata: {{a: b}}\n"))
        .collect();
    std::fs::write(dir.join("many.yaml"), manifest)?;
    server.kubectl(&["create", "-f", &dir.join("many.yaml").to_string_lossy()])?;
    row(
        "create ConfigMap, one kubectl, one after the other",
        format!("{:.0}/s", f64::from(creates) / start.elapsed().as_secs_f64()),
    );
    server.stop()?;
    let start = Instant::now();
    let mut server = Server::start(binary, &dir, &["--disable-agent"])?;
    let ready = server.logged("API server ready")?;
    row("restart to /readyz", format!("{:.0} ms", (ready - start).as_secs_f64() * 1000.0));
    server.stop()?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn whole_node(binary: &Path) -> anyhow::Result<()> {
    let dir = scratch("node")?;
    let start = Instant::now();
    let mut server = Server::start_node(binary, &dir)?;
    row("cold start to node Ready", format!("{:.0} ms", start.elapsed().as_secs_f64() * 1000.0));
    server.idle("node")?;
    let socket = import(&dir)?;
    let bare = runtime_alone(&socket)?;
    let pods = pods(&server)?;
    row("a container by the bare runtime (ctr run)", format!("{:.0} ms", bare.as_secs_f64() * 1000.0));
    row("pod create → Running, image present", format!("{:.0} ms", pods.as_secs_f64() * 1000.0));
    server.kubectl(&["delete", "pods", "--all", "--grace-period=1"])?;
    let start = Instant::now();
    let volumes = dir.join("data/agent/kubelet/pods");
    let left = || std::fs::read_dir(&volumes).is_ok_and(|mut entries| entries.next().is_some());
    while (left() || !ctr(&socket, &["tasks", "ls", "-q"])?.is_empty()) && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50));
    }
    server.stop()?;
    clean_up(binary, &dir, None)
}

/// What a node writes while nothing happens, on a disk where nobody else does.
fn idle_writes(binary: &Path) -> anyhow::Result<()> {
    let dir = scratch("idle")?;
    // Declared first, so that it goes after the server.
    let disk = Disk::mount(dir.join("disk.img"), &dir.join("data"))?;
    let mut server = Server::start_node(binary, &dir)?;
    server.idle_writes(&disk)?;
    server.stop()?;
    clean_up(binary, &dir, Some(disk))
}

fn clean_up(binary: &Path, dir: &Path, disk: Option<Disk>) -> anyhow::Result<()> {
    Command::new(binary).arg("cleanup").arg("--data-dir").arg(dir.join("data")).status()?;
    drop(disk);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("kedge-bench-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn ctr(socket: &Path, args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new("ctr").arg("-a").arg(socket).args(["-n", "k8s.io"]).args(args).output()?;
    ensure!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn import(dir: &Path) -> anyhow::Result<PathBuf> {
    let config = std::fs::read_to_string(dir.join("data/agent/etc/containerd/config.toml"))?;
    let line = config.lines().find(|l| l.trim_start().starts_with("address")).context("no socket")?;
    let socket = PathBuf::from(line.split('"').nth(1).context("no socket")?);
    let busybox = std::fs::read("/bin/busybox")?;
    let files = [kedge_oci::File::directory("bin/", 0o755), kedge_oci::File::regular("bin/busybox", &busybox, 0o755)];
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let archive = dir.join("image.tar");
    std::fs::write(&archive, kedge_oci::image(IMAGE, architecture, &files, &["/bin/busybox", "sleep", "3600"])?)?;
    ctr(&socket, &["images", "import", &archive.to_string_lossy()])?;
    Ok(socket)
}

/// The median time of a container without any of us.
fn runtime_alone(socket: &Path) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for i in 0..PODS {
        let (name, start) = (format!("bench{i}"), Instant::now());
        ctr(socket, &["run", "-d", IMAGE, &name])?;
        times.push(start.elapsed());
        ctr(socket, &["tasks", "rm", "-f", &name])?;
        ctr(socket, &["containers", "rm", &name])?;
    }
    Ok(median(times))
}

/// The median time from kubectl's create until the pod's status says Running.
fn pods(server: &Server) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for i in 0..PODS {
        let (name, start) = (format!("bench{i}"), Instant::now());
        server.kubectl(&["run", &name, &format!("--image={IMAGE}"), "--image-pull-policy=Never"])?;
        server.kubectl(&["wait", "--for=jsonpath={.status.phase}=Running", &format!("pod/{name}"), "--timeout=60s"])?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
