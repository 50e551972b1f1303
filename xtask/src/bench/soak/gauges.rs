//! What is looked at: the process, what it put into the kernel and the runtime, and its own account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bench::account::Account;
use crate::bench::api::Api;
use crate::bench::cleanup::{self, mounts_below, network_namespaces, processes_with};
use crate::bench::process::Usage;
use crate::bench::server::Server;
use crate::bench::{ctr, output};

/// Figures by name, at one moment.
pub type Figures = BTreeMap<String, f64>;

/// The columns of a row; everything else is only judged at the end.
pub const COLUMNS: &[&str] = &[
    "RSS MiB",
    "anonymous MiB",
    "fds",
    "threads",
    "tasks",
    "mounts",
    "veths",
    "netns",
    "nft elements",
    "containers",
    "running",
    "shims",
    "children",
    "zombies",
    "pod dirs",
    "owned MiB",
    "entries",
    "store MiB",
    "CPU %",
];

/// The places that are looked at.
pub struct Gauges {
    pid: u32,
    data_dir: PathBuf,
    /// Of a node.
    state: Option<PathBuf>,
    /// Processor time used until the last look, and when that was.
    used: (f64, std::time::Instant),
}

impl Gauges {
    pub fn new(server: &Server) -> Self {
        let data_dir = server.data_dir();
        let state = cleanup::runtime_state(&data_dir);
        Self { pid: server.pid(), data_dir, state, used: (0.0, std::time::Instant::now()) }
    }

    /// Looks at everything. What cannot be seen is left out, and said.
    pub async fn look(&mut self, api: &Api) -> Figures {
        let mut figures = self.kernel();
        match Account::ask(api).await {
            Ok(Some(account)) => own_account(&account, &mut figures),
            Ok(None) => {}
            Err(err) => eprintln!("/metrics: {err:#}"),
        }
        figures
    }

    fn kernel(&mut self) -> Figures {
        let mut figures = Figures::new();
        let mut put = |name: &str, value: f64| figures.insert(name.to_owned(), value);
        if let Some(usage) = Usage::of(self.pid) {
            put("RSS MiB", usage.rss as f64 / 1024.0);
            put("anonymous MiB", usage.anonymous as f64 / 1024.0);
            put("fds", usage.fds as f64);
            put("threads", usage.threads as f64);
        }
        let processes = Processes::read();
        let below = processes.below(self.pid);
        put("children", below.len() as f64);
        put("zombies", below.iter().filter(|p| p.state == 'Z').count() as f64);
        put("store MiB", size(&self.data_dir.join("server")) as f64 / 1_048_576.0);
        put("CPU %", self.processor_share(&processes));
        put("open pipes and sockets", pipes_and_sockets(self.pid) as f64);
        if let Some(state) = &self.state {
            self.node(state, &processes, &mut figures);
        }
        figures
    }

    /// What a node has in the kernel and in its runtime.
    fn node(&self, state: &Path, processes: &Processes, figures: &mut Figures) {
        let mut put = |name: &str, value: usize| figures.insert(name.to_owned(), value as f64);
        let run = state.parent().unwrap_or(state);
        put("mounts", mounts_below(&self.data_dir).len() + mounts_below(run).len());
        put("pod cgroups", cleanup::pod_groups().len());
        put("netns", network_namespaces().len());
        put("shims", processes_with(state).iter().filter(|pid| processes.is_shim(**pid)).count());
        put("pod dirs", entries(&self.data_dir.join("agent/kubelet/pods")));
        put("log dirs", entries(Path::new("/var/log/pods")));
        let socket = state.join("containerd.sock");
        for (name, listed) in [
            ("veths", output("ip", &["-o", "link", "show", "type", "veth"])),
            ("containers", ctr(&socket, &["containers", "ls", "-q"])),
            ("running", ctr(&socket, &["tasks", "ls", "-q"])),
        ] {
            match listed {
                Ok(list) => {
                    put(name, list.lines().count());
                }
                Err(err) => eprintln!("{name}: {err:#}"),
            }
        }
        match output("nft", &["-j", "list", "ruleset"]) {
            Ok(rules) => {
                let (elements, all) = nft_elements(&rules);
                put("nft elements", elements);
                put("nft objects", all);
            }
            Err(err) => eprintln!("{err:#}"),
        }
    }

    /// The share of a core that the server and all below it used since the last look.
    fn processor_share(&mut self, processes: &Processes) -> f64 {
        let used: u64 = processes.0.get(&self.pid).map_or(0, |p| p.ticks)
            + processes.below(self.pid).iter().map(|p| p.ticks).sum::<u64>();
        // A tick is a hundredth of a second on every Linux that this runs on.
        let now = (used as f64 / 100.0, std::time::Instant::now());
        let share = (now.0 - self.used.0) / (now.1 - self.used.1).as_secs_f64() * 100.0;
        self.used = now;
        share.max(0.0)
    }
}

fn own_account(account: &Account, figures: &mut Figures) {
    for (family, total, scale) in [
        ("kedge_memory_bytes", "owned MiB", 1_048_576.0),
        ("kedge_memory_entries", "entries", 1.0),
        ("kedge_tasks", "tasks", 1.0),
        ("kedge_panics_total", "panics", 1.0),
    ] {
        if let Some(sum) = account.total(family) {
            figures.insert(total.to_owned(), sum / scale);
        }
        let unit = if scale > 1.0 { " MiB" } else { "" };
        for (of, value) in account.family(family) {
            *figures.entry(format!("{total}: {of}{unit}")).or_default() += value / scale;
        }
    }
}

struct Process {
    parent: u32,
    state: char,
    name: String,
    /// Its own, and those of its children that have ended.
    ticks: u64,
}

struct Processes(BTreeMap<u32, Process>);

impl Processes {
    fn read() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        Self(pids.filter_map(|pid| Some((pid, process(pid)?))).collect())
    }

    /// The descendants of a process.
    fn below(&self, ancestor: u32) -> Vec<&Process> {
        let is_below = |start: &Process| {
            let mut parent = start.parent;
            // As deep as any tree of processes is.
            for _ in 0..64 {
                if parent == ancestor {
                    return true;
                }
                let Some(next) = self.0.get(&parent) else { return false };
                parent = next.parent;
            }
            false
        };
        self.0.values().filter(|p| is_below(p)).collect()
    }

    fn is_shim(&self, pid: u32) -> bool {
        self.0.get(&pid).is_some_and(|p| p.name.starts_with("containerd-shim"))
    }
}

fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = tail.split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or_default();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        name: head.split_once('(')?.1.to_owned(),
        ticks: ticks(11) + ticks(12) + ticks(13) + ticks(14),
    })
}

/// Elements of sets and maps, and how many other objects there are.
fn nft_elements(rules: &str) -> (usize, usize) {
    let rules: serde_json::Value = serde_json::from_str(rules).unwrap_or_default();
    let all = rules["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let elements = |kind: &str| {
        let sets = all.iter().filter_map(|object| object[kind]["elem"].as_array());
        sets.map(Vec::len).sum::<usize>()
    };
    (elements("set") + elements("map"), all.len())
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Bytes of all files below a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Open files that are neither files nor devices.
fn pipes_and_sockets(pid: u32) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let target = |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).unwrap_or_default();
    fds.map(target).filter(|t| t.starts_with("pipe:") || t.to_string_lossy().starts_with("socket:")).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn elements_are_those_of_sets_and_maps() {
        let rules = r#"{"nftables": [{"metainfo": {}}, {"table": {"name": "t"}},
            {"set": {"name": "s", "elem": ["a", "b"]}}, {"map": {"name": "m", "elem": [["c", "d"]]}}, {"set": {"name": "e"}}]}"#;
        assert_eq!(nft_elements(rules), (3, 5));
        assert_eq!(nft_elements("no JSON"), (0, 0));
    }

    #[test]
    fn children_are_found_and_those_of_others_are_not() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let processes = Processes::read();
        let names: Vec<&str> = processes.below(std::process::id()).iter().map(|p| p.name.as_str()).collect();
        assert!(names.contains(&"sleep") || names.contains(&"bench"), "{names:?}");
        assert!(processes.below(child.id()).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
