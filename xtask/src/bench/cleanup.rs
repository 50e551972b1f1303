//! What a node leaves on its host when it ends, and how it is taken back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::output;

/// Nodes share the host's network, so that there is one at a time, those of the end-to-end tests included.
const LOCK: &str = "/run/kedge-test.lock";
const NETWORK_NAMESPACES: &str = "/run/netns";
/// How long processes and mounts may take to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// The host, while a node of ours runs on it.
pub struct Host {
    _lock: File,
    /// What was there before.
    namespaces: BTreeSet<PathBuf>,
}

impl Host {
    /// Waits for the host.
    pub fn claim() -> anyhow::Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("cannot open {LOCK}"))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another node on this host to end");
            lock.lock()?;
        }
        Ok(Self { _lock: lock, namespaces: network_namespaces() })
    }

    /// Takes back all that is new since, and says what stays.
    pub fn clean_up(&self, binary: &Path, data_dir: &Path) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |what: anyhow::Result<()>| {
            if let Err(err) = what {
                left.push(format!("{err:#}"));
            }
        };
        let pods = pods_of(data_dir);
        // Those of other nodes are left alone.
        let of_ours = |group: &PathBuf| pods.iter().any(|uid| group.to_string_lossy().contains(uid));
        let groups: Vec<PathBuf> = pod_groups().into_iter().filter(of_ours).collect();
        for group in &groups {
            kill_group(group);
        }
        if let Some(state) = runtime_state(data_dir) {
            kill_those_with(&state);
            note(unmount_below(&state));
            // The directory above is this node's alone.
            let run = state.parent().unwrap_or(&state);
            note(std::fs::remove_dir_all(run).with_context(|| run.display().to_string()));
        }
        note(unmount_below(data_dir));
        for namespace in network_namespaces().difference(&self.namespaces) {
            let name = namespace.file_name().unwrap_or_default().to_string_lossy();
            note(output("ip", &["netns", "delete", &name]).map(|_| ()));
        }
        note(output(&binary.to_string_lossy(), &["cleanup", "--data-dir", &data_dir.to_string_lossy()]).map(|_| ()));
        // Those below come behind those above them.
        for group in groups.iter().rev() {
            note(remove_group(group));
        }
        left
    }
}

/// Where the runtime of a node keeps its short-lived state.
pub fn runtime_state(data_dir: &Path) -> Option<PathBuf> {
    let config = std::fs::read_to_string(data_dir.join("agent/etc/containerd/config.toml")).ok()?;
    let line = config.lines().find_map(|l| l.strip_prefix("state = "))?;
    Some(PathBuf::from(line.trim_matches('"')))
}

/// The network namespaces that have a name.
pub fn network_namespaces() -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(NETWORK_NAMESPACES).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The pods that still have something on this node.
fn pods_of(data_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_dir.join("agent/kubelet/pods")).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The control groups of pods and what is above and below them, in every hierarchy.
pub fn pod_groups() -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        collect_groups(&hierarchy.join("kubepods"), &mut found);
    }
    found
}

fn collect_groups(group: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(group) else { return };
    found.insert(group.to_owned());
    // One hierarchy can be another's link, such as `cpu` and `cpu,cpuacct`: links are not followed.
    let below = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in below {
        collect_groups(&entry.path(), found);
    }
}

/// Kills what runs in a group. What cannot be killed shows as a group that cannot be removed.
fn kill_group(group: &Path) {
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.lines().for_each(kill);
}

fn kill(pid: &str) {
    // It may have ended meanwhile.
    let _ = Command::new("kill").args(["-KILL", pid]).output();
}

/// Kills containerd and its shims: those whose command line names a directory that only this node has.
fn kill_those_with(dir: &Path) {
    let start = Instant::now();
    loop {
        let found = processes_with(dir);
        if found.is_empty() || start.elapsed() > PATIENCE {
            return;
        }
        found.iter().for_each(|pid| kill(&pid.to_string()));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The processes whose command line names a path.
pub fn processes_with(path: &Path) -> Vec<u32> {
    let path = path.to_string_lossy();
    let pids = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*path)
    };
    pids.filter(|pid| *pid != std::process::id()).filter(names).collect()
}

/// The mounts below a directory.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|l| l.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|m| m != path && m.starts_with(path)).collect()
}

fn unmount_below(path: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let below = mounts_below(path);
        if below.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "still mounted: {below:?}");
        for mount in below.iter().rev() {
            // Tried again, and said in the end.
            let _ = Command::new("umount").arg("-l").arg(mount).output();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn remove_group(group: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        match std::fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(err) if start.elapsed() > PATIENCE => return Err(err).context(group.display().to_string()),
            // Its processes are ending.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
