//! Figures of one node, against the targets.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::flags::Flags;
use super::process::mib;
use super::server::{Scratch, Server};
use super::{PATIENCE, ctr, image, row};
use crate::tools;

const IMAGE: &str = "kedge.bench/sleep:1";
/// How long idle figures are taken over.
const IDLE: Duration = Duration::from_secs(20);
/// … and idle writes, which come once a minute.
const IDLE_WRITES: Duration = Duration::from_secs(300);
const PODS: usize = 10;

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut flags = Flags::new(args);
    let (node, binary) = (flags.node(), flags.binary()?);
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

fn idle(server: &Server, what: &str) -> anyhow::Result<()> {
    sleep(Duration::from_secs(5));
    let before = server.used()?;
    sleep(IDLE);
    let after = server.used()?;
    // A tick is a hundredth of a second on every Linux that this runs on.
    let share = (after.0 - before.0) as f64 / IDLE.as_secs_f64();
    row(&format!("idle RSS, {what}"), format!("{} MiB", mib(server.usage()?.rss)));
    row(&format!("idle CPU, {what}"), format!("{share:.2} % of a core"));
    Ok(())
}

fn control_plane(binary: &Path) -> anyhow::Result<()> {
    let dir = Scratch::new("control-plane")?;
    let start = Instant::now();
    let mut server = Server::start(binary, dir.path(), &["--disable-agent"])?;
    let ready = server.logged("API server ready")?;
    row("cold start to /readyz", format!("{:.0} ms", (ready - start).as_secs_f64() * 1000.0));
    idle(&server, "control plane")?;
    let creates = 200;
    let start = Instant::now();
    let manifest: String = (0..creates)
        .map(|i| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}}}\ndata: {{a: b}}\n"))
        .collect();
    let file = dir.path().join("many.yaml");
    std::fs::write(&file, manifest)?;
    server.kubectl(&["create", "-f", &file.to_string_lossy()])?;
    row(
        "create ConfigMap, one kubectl, one after the other",
        format!("{:.0}/s", f64::from(creates) / start.elapsed().as_secs_f64()),
    );
    server.stop()?;
    let start = Instant::now();
    let mut server = Server::start(binary, dir.path(), &["--disable-agent"])?;
    let ready = server.logged("API server ready")?;
    row("restart to /readyz", format!("{:.0} ms", (ready - start).as_secs_f64() * 1000.0));
    server.stop()
}

fn whole_node(binary: &Path) -> anyhow::Result<()> {
    let dir = Scratch::new("node")?;
    let start = Instant::now();
    let mut server = Server::start_node(binary, dir.path(), None)?;
    row("cold start to node Ready", format!("{:.0} ms", start.elapsed().as_secs_f64() * 1000.0));
    idle(&server, "node")?;
    let socket = server.runtime_socket()?;
    image::import(&socket, dir.path(), IMAGE, "1", &["/bin/busybox", "sleep", "3600"])?;
    let bare = runtime_alone(&socket)?;
    let pods = pods(&server)?;
    row("a container by the bare runtime (ctr run)", format!("{:.0} ms", bare.as_secs_f64() * 1000.0));
    row("pod create → Running, image present", format!("{:.0} ms", pods.as_secs_f64() * 1000.0));
    server.kubectl(&["delete", "pods", "--all", "--grace-period=1"])?;
    let start = Instant::now();
    let volumes = server.data_dir().join("agent/kubelet/pods");
    let left = || std::fs::read_dir(&volumes).is_ok_and(|mut entries| entries.next().is_some());
    while (left() || !ctr(&socket, &["tasks", "ls", "-q"])?.is_empty()) && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50));
    }
    server.take_down()
}

/// What a node writes while nothing happens, on a disk where nobody else does.
fn idle_writes(binary: &Path) -> anyhow::Result<()> {
    let dir = Scratch::new("idle")?;
    // Declared first, so that it goes after the server.
    let disk = Disk::mount(dir.path().join("disk.img"), &dir.path().join("data"))?;
    let mut server = Server::start_node(binary, dir.path(), None)?;
    // What starting wrote reaches the disk first.
    sleep(Duration::from_secs(60));
    let before = (server.used()?.1, disk.written()?);
    sleep(IDLE_WRITES);
    let after = (server.used()?.1, disk.written()?);
    let rate = |bytes: u64| format!("{:.2} kB/s", bytes as f64 / 1000.0 / IDLE_WRITES.as_secs_f64());
    row("idle writes, node, as the kernel counts the process's", rate(after.0 - before.0));
    row("idle writes, node, at the disk, with its journal", rate(after.1 - before.1));
    server.take_down()
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
