//! Version 2: one hierarchy for all controllers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::detail::{Cpu, Detail, Memory, Pids, Stat, limit, processes, unified_io};
use super::{Cgroups, Limits, hierarchy};

const WANTED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The unified hierarchy.
pub(super) struct Unified {
    root: PathBuf,
}

impl Unified {
    pub(super) fn new(root: &Path) -> Unified {
        Unified { root: root.to_path_buf() }
    }

    /// Lets the groups below `directory` use the controllers that it has itself.
    fn delegate(&self, directory: &Path) -> io::Result<()> {
        let have = fs::read_to_string(directory.join("cgroup.controllers"))?;
        let on = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
        let is_on = |name: &str| on.split_whitespace().any(|c| c == name);
        let off = have.split_whitespace().filter(|c| WANTED.contains(c) && !is_on(c));
        let text: Vec<String> = off.map(|c| format!("+{c}")).collect();
        if text.is_empty() {
            return Ok(());
        }
        fs::write(directory.join("cgroup.subtree_control"), text.join(" "))
    }
}

/// Shares from 2 to 262144 as a weight from 1 to 10000.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

impl Cgroups for Unified {
    fn version(&self) -> &'static str {
        "v2"
    }

    fn exists(&self, path: &str) -> bool {
        hierarchy::directory(&self.root, path).exists()
    }

    fn ensure(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let mut directory = self.root.clone();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            self.delegate(&directory)?;
            directory.push(part);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        if limits.cpu_shares > 0 && directory.join("cpu.weight").exists() {
            hierarchy::write(&directory, "cpu.weight", &weight(limits.cpu_shares).to_string())?;
        }
        if limits.cpu_quota > 0 && directory.join("cpu.max").exists() {
            hierarchy::write(&directory, "cpu.max", &format!("{} 100000", limits.cpu_quota))?;
        }
        if limits.memory > 0 && directory.join("memory.max").exists() {
            hierarchy::write(&directory, "memory.max", &limits.memory.to_string())?;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        hierarchy::remove(&hierarchy::directory(&self.root, path))
    }

    fn children(&self, path: &str) -> Vec<String> {
        hierarchy::children(&hierarchy::directory(&self.root, path))
    }

    fn usage(&self, path: &str) -> Option<(u64, u64)> {
        let directory = hierarchy::directory(&self.root, path);
        // The root group does not count memory: what the machine uses is told by the machine.
        let root = || path.trim_matches('/').is_empty().then(hierarchy::used_of_machine).flatten();
        let used = hierarchy::number(&directory.join("memory.current"), None).or_else(root)?;
        let cache = hierarchy::number(&directory.join("memory.stat"), Some("inactive_file"));
        let micros = hierarchy::number(&directory.join("cpu.stat"), Some("usage_usec"));
        let nanos = micros.unwrap_or_default().saturating_mul(1000);
        Some((used.saturating_sub(cache.unwrap_or_default()), nanos))
    }

    fn detail(&self, path: &str) -> Option<Detail> {
        let directory = hierarchy::directory(&self.root, path);
        let (cpu, memory) = (cpu(&directory), memory(&directory));
        if cpu.is_none() && memory.is_none() {
            return None;
        }
        let threads = hierarchy::number(&directory.join("pids.current"), None);
        let pids = |threads| Pids { processes: processes(&directory), threads, limit: limit(&directory, "pids.max") };
        let io = unified_io(&fs::read_to_string(directory.join("io.stat")).unwrap_or_default());
        Some(Detail { cpu, memory, pids: threads.map(pids), io })
    }

    fn process(&self, path: &str) -> Option<u32> {
        let directory = hierarchy::directory(&self.root, path);
        fs::read_to_string(directory.join("cgroup.procs")).ok()?.lines().next()?.parse().ok()
    }
}

fn cpu(directory: &Path) -> Option<Cpu> {
    let usage = hierarchy::number(&directory.join("cpu.stat"), Some("usage_usec"))?;
    let stat = Stat::read(&directory.join("cpu.stat"));
    let max = fs::read_to_string(directory.join("cpu.max")).unwrap_or_default();
    let mut max = max.split_whitespace().map(|word| word.parse().ok());
    let nanos = |micros: u64| micros.saturating_mul(1000);
    Some(Cpu {
        usage: nanos(usage),
        user: nanos(stat.get("user_usec")),
        system: nanos(stat.get("system_usec")),
        periods: stat.get("nr_periods"),
        throttled_periods: stat.get("nr_throttled"),
        throttled: nanos(stat.get("throttled_usec")),
        shares: hierarchy::number(&directory.join("cpu.weight"), None).map(shares),
        quota: max.next().flatten(),
        period: max.next().flatten(),
    })
}

/// The shares that a weight stands for.
fn shares(weight: u64) -> u64 {
    2 + weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9_999
}

fn memory(directory: &Path) -> Option<Memory> {
    let number = |file: &str| hierarchy::number(&directory.join(file), None);
    let usage = number("memory.current")?;
    let (stat, events) = (Stat::read(&directory.join("memory.stat")), Stat::read(&directory.join("memory.events")));
    Some(Memory {
        usage,
        working_set: usage.saturating_sub(stat.get("inactive_file")),
        rss: stat.get("anon"),
        cache: stat.get("file"),
        mapped_file: stat.get("file_mapped"),
        swap: number("memory.swap.current").unwrap_or_default(),
        kernel: stat.get("kernel"),
        max_usage: number("memory.peak"),
        page_faults: stat.get("pgfault"),
        major_page_faults: stat.get("pgmajfault"),
        limit_reached: events.get("max"),
        oom_kills: events.get("oom_kill"),
        limit: limit(directory, "memory.max"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_span_the_range() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
        assert_eq!((shares(1), shares(10_000)), (2, 262_144));
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_group_tells_what_its_files_say() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("kubepods");
        fs::create_dir(&group).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nnr_throttled 1\nthrottled_usec 9\n"),
            ("cpu.max", "50000 100000\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1024\nfile 2048\ninactive_file 1000\npgfault 5\n"),
            ("memory.events", "low 0\nmax 3\noom_kill 1\n"),
            ("pids.current", "6\n"),
            ("cgroup.procs", "11\n12\n"),
        ] {
            fs::write(group.join(file), text).unwrap();
        }
        let groups = Unified::new(root.path());
        let told = groups.detail("/kubepods").unwrap();
        let (cpu, memory, pids) = (told.cpu.unwrap(), told.memory.unwrap(), told.pids.unwrap());
        assert_eq!((cpu.usage, cpu.throttled, cpu.quota, cpu.period), (7000, 9000, Some(50_000), Some(100_000)));
        assert_eq!((memory.working_set, memory.rss, memory.limit), (3096, 1024, None));
        assert_eq!((memory.limit_reached, memory.oom_kills), (3, 1));
        assert_eq!((pids.processes, pids.threads, pids.limit), (2, 6, None));
        assert_eq!(groups.process("/kubepods"), Some(11));
        assert!(groups.detail("/none").is_none());
    }
}
