//! What only clusters with a node need: one at a time, and nothing left afterwards.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{PATIENCE, TestCluster, binary};

static ONE_NODE: Mutex<()> = Mutex::new(());

/// Held while a node uses the host's network; other test processes wait as well.
pub struct NodeGuard {
    _thread: MutexGuard<'static, ()>,
    _process: File,
}

impl NodeGuard {
    /// Waits for the host.
    pub fn acquire() -> Self {
        let thread = ONE_NODE.lock().unwrap_or_else(PoisonError::into_inner);
        let process = File::create("/run/kedge-test.lock").unwrap();
        process.lock().unwrap();
        Self { _thread: thread, _process: process }
    }
}

/// Deletes all pods, so that the runtime has nothing left to run.
pub fn remove_everything(cluster: &TestCluster) {
    let delete =
        ["delete", "deployments,replicasets,pods", "--all", "-A", "--force", "--grace-period=0", "--wait=false"];
    // Best effort: a failed test may have left a server that does not answer; the processes are looked for below.
    cluster.kubectl(&delete);
    // A server that did not come far has no runtime yet.
    if !cluster.data_dir().join("agent/etc/containerd/config.toml").exists() {
        return;
    }
    let socket = cluster.runtime_socket();
    let start = std::time::Instant::now();
    // Sandboxes, too: their networks are given back when they go.
    while start.elapsed().as_secs() < 60 && !containers(&socket).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// What the runtime has of pods: containers and sandboxes.
fn containers(socket: &Path) -> Vec<String> {
    let list = ["-n", "k8s.io", "containers", "ls", "-q"];
    let out = Command::new("ctr").arg("--address").arg(socket).args(list).output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Takes back from the kernel what a node leaves, after its server has ended. Says what stays.
pub fn clean_up(data_dir: &Path) -> Result<(), String> {
    let data = data_dir.to_string_lossy().into_owned();
    // Shims of a failed test are found by the directory of their runtime.
    let state = std::fs::read_to_string(data_dir.join("agent/etc/containerd/config.toml")).unwrap_or_default();
    if let Some(state) = state.lines().find_map(|l| l.strip_prefix("state = ")).map(|l| l.trim_matches('"').to_owned())
    {
        let _ = Command::new("pkill").args(["-KILL", "-f", &format!("containerd-shim.*{state}")]).status();
        unmount_below(&state)?;
        let _ = std::fs::remove_dir_all(&state);
        // The directory above is this cluster's alone, and now empty.
        if let Some(above) = Path::new(&state).parent() {
            let _ = std::fs::remove_dir(above);
        }
    }
    unmount_below(&data)?;
    let out = Command::new(binary()).args(["cleanup", "--data-dir", &data]).output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("cleanup failed: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

fn unmount_below(path: &str) -> Result<(), String> {
    let start = std::time::Instant::now();
    loop {
        let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
        let below: Vec<&str> =
            mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(path)).collect();
        if below.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("still mounted: {below:?}"));
        }
        for mount in below.iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
